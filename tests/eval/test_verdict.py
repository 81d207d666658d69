"""The verdict says what the hits say, and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmssl.eval.evaluate import Evaluation
from mmssl.eval.records import Subjects
from mmssl.eval.verdict import verdict, without_labels

SVM = "svm-rbf/1"


def evaluation(subject: str, right: int, seed: int = 0, few: dict[int, int] | None = None, n: int = 40) -> Evaluation:
    hits = np.arange(n) < right
    curve = {k: np.stack([np.arange(n) < r, np.arange(n) < r]) for k, r in (few or {}).items()}
    return Evaluation("demo", subject, seed, (), {SVM: hits}, curve, np.arange(n))


@pytest.mark.parametrize(
    ("pretrained", "untrained", "outcome", "opening"),
    [
        (
            36,
            20,
            "helped",
            "Pretraining helped: 90.0 % against 50.0 % with the same encoder untrained, +40.0 points (95",
        ),
        (20, 36, "hurt", "Pretraining hurt: 50.0 % against 90.0 % with the same encoder untrained, −40.0 points (95"),
        (30, 29, "no-difference", "No difference that this test set can show: 75.0 % against 72.5 %"),
        (30, 30, "no-difference", "No difference that this test set can show: 75.0 % against 75.0 %"),
        (
            40,
            40,
            "no-difference",
            "This test set cannot tell them apart: the pretrained and the untrained encoder are bo",
        ),
    ],
)
def test_the_headline_follows_from_the_hits(
    subjects: Subjects, pretrained: int, untrained: int, outcome: str, opening: str
) -> None:
    v = verdict([evaluation("ts2vec", pretrained), evaluation("random-encoder", untrained)], subjects)
    assert v.outcome == outcome
    assert v.headline.startswith(opening)
    assert v.headline.endswith("1 seed, 40 test examples of 40 groups).")
    assert v.difference == pytest.approx((pretrained - untrained) / 40)
    assert v.low <= v.difference <= v.high


def test_the_words_are_those_of_the_data(subjects: Subjects) -> None:
    runs = [evaluation("ts2vec", 34), evaluation("random-encoder", 29)]
    v = verdict(runs, subjects, examples="images", entities="patients")
    assert "40 test images of 40 patients" in v.headline
    assert "differ on 5 of the 40 test patients only" in v.details[0]


def test_fine_tuning_is_judged_against_the_same_from_random_weights(subjects: Subjects) -> None:
    def tuned(subject: str, right: int, protocol: str) -> Evaluation:
        return Evaluation("demo", subject, 0, (), {protocol: np.arange(40) < right}, {}, np.arange(40))

    frozen = [evaluation("ts2vec", 36), evaluation("random-encoder", 20)]
    full = [tuned("ts2vec", 38, "finetune-full/1"), tuned("random-encoder", 30, "finetune-full/1")]
    other = [tuned("ts2vec", 20, "finetune-full(epochs=5)/1"), tuned("random-encoder", 20, "finetune-full(epochs=5)/1")]
    v = verdict(frozen + full + other, subjects)
    said = [detail for detail in v.details if "on the training labels" in detail]
    assert len(said) == 2
    assert said[0].startswith(
        "Finetune-full(epochs=5)/1 on the training labels, no difference shows: 50.0 % against 50.0 %"
    )
    assert said[1].startswith(
        "Fine-tuned on the training labels, pretraining helped: 95.0 % against 75.0 % from random weights ("
    )
    assert v.headline == verdict(frozen, subjects).headline
    assert verdict([*frozen, full[0]], subjects) == verdict(frozen, subjects)  # nothing to compare with


def test_almost_everything_right_is_a_ceiling_too(subjects: Subjects) -> None:
    v = verdict([evaluation("ts2vec", 200, n=200), evaluation("random-encoder", 199, n=200)], subjects)
    assert v.headline.startswith("This test set cannot tell them apart: 100.0 % against 99.5 %")


def test_four_windows_are_too_few_to_claim_help(subjects: Subjects) -> None:
    v = verdict([evaluation("ts2vec", 34), evaluation("random-encoder", 29)], subjects)
    assert v.low > 0
    assert v.outcome == "no-difference"
    assert v.details[0].startswith("The two encoders differ on 5 of the 40 test groups only")


def test_seeds_are_paired_and_counted(subjects: Subjects) -> None:
    runs = [evaluation("ts2vec", 36, s) for s in (0, 1, 2)] + [evaluation("random-encoder", 20, s) for s in (0, 1, 2)]
    assert "3 seeds, 40 test examples" in verdict(runs, subjects).headline
    with pytest.raises(ValueError, match=r"seeds \[0, 1, 2\] and 'random-encoder' \[4, 5\]: none in common"):
        verdict(runs[:3] + [evaluation("random-encoder", 20, s) for s in (4, 5)], subjects)


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        (40, "minirocket, the strongest control, remains ahead by 20.0 points (100.0 % against 80.0 %;"),
        (31, "minirocket, the strongest control, cannot be told from TS2Vec (77.5 % against 80.0 %;"),
        (22, "minirocket, the strongest control, is behind TS2Vec by 25.0 points (55.0 % against 80.0 %;"),
    ],
)
def test_the_second_sentence_is_about_the_strongest_control(subjects: Subjects, right: int, sentence: str) -> None:
    controls = [evaluation("statistics", 10), evaluation("minirocket", right)]
    v = verdict([evaluation("ts2vec", 32), evaluation("random-encoder", 20), *controls], subjects)
    assert v.details[0].startswith(sentence)


@pytest.mark.parametrize(
    ("pretrained", "untrained", "sentence"),
    [
        (
            {1: 20, 2: 22, 5: 25, 10: 30},
            {1: 8, 2: 10, 5: 15, 10: 30},
            "With 1–5 labels a class the pretrained encoder is ahead of the untrained one; "
            "from 10 on no difference shows.",
        ),
        (
            {1: 8, 2: 30},
            {1: 20, 2: 10},
            "With 1 label a class the pretrained encoder is behind the untrained one; "
            "from 2 on the pretrained encoder is ahead of the untrained one.",
        ),
        ({1: 8, 2: 9}, {1: 8, 2: 9}, "With 1–2 labels a class no difference shows."),
    ],
)
def test_the_last_sentence_reads_the_label_budget(
    subjects: Subjects, pretrained: dict[int, int], untrained: dict[int, int], sentence: str
) -> None:
    runs = [evaluation("ts2vec", 36, few=pretrained), evaluation("random-encoder", 20, few=untrained)]
    assert verdict(runs, subjects).details[-1] == sentence


def test_windows_of_few_machines_say_less_than_as_many_machines(subjects: Subjects) -> None:
    def runs(groups: np.ndarray) -> list[Evaluation]:
        rng = np.random.default_rng(0)
        ours, theirs = (np.repeat(rng.random(20) < p, 10) for p in (0.75, 0.5))
        return [
            Evaluation("demo", s, 0, (), {SVM: h}, {}, groups)
            for s, h in (("ts2vec", ours), ("random-encoder", theirs))
        ]

    windows, machines = verdict(runs(np.arange(200)), subjects), verdict(runs(np.arange(200) // 10), subjects)
    assert windows.difference == machines.difference
    assert windows.outcome == "helped"
    assert machines.high - machines.low > 2.5 * (windows.high - windows.low)
    assert "200 test examples of 20 groups" in machines.headline
    one = verdict(runs(np.zeros(200, int)), subjects)
    assert "no interval from one test entity" in one.headline
    assert "95 % interval" not in one.headline


def test_a_real_evaluation_finds_the_better_features(evaluations: list[Evaluation], subjects: Subjects) -> None:
    v = verdict(evaluations, subjects)
    assert v.outcome == "helped"
    assert v == verdict(evaluations, subjects)
    accuracies = {
        s: np.mean(
            [
                r.value
                for e in evaluations
                for r in e.records
                if (r.subject, r.protocol, r.metric) == (s, SVM, "accuracy")
            ]
        )
        for s in ("ts2vec", "random-encoder")
    }
    assert v.difference == pytest.approx(accuracies["ts2vec"] - accuracies["random-encoder"])


def test_a_subject_without_scores_is_named(subjects: Subjects) -> None:
    with pytest.raises(ValueError, match="no evaluation of 'random-encoder' with svm-rbf/1"):
        verdict([evaluation("ts2vec", 30)], subjects)


def test_without_labels_the_health_speaks() -> None:
    v = without_labels(["the embeddings fill 58 of 320 directions.", "No step was skipped."])
    assert v.headline == "No labels, so no score: the embeddings fill 58 of 320 directions."
    assert v.details == ("No step was skipped.",)
    assert v.outcome == "no-labels"
    assert math.isnan(v.difference)
    assert without_labels().headline.startswith("No labels, so no score: ")
