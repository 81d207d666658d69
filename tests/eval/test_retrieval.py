"""Recall against a sort by hand, ties, and several captions an image."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl.eval.records import Subjects
from mmssl.eval.retrieval import RECALL, TEXT_TO_IMAGE, evaluate_retrieval, ranks
from mmssl.eval.table import tables
from mmssl.eval.verdict import verdict
from mmssl.eval.zeroshot import PROTOCOL, ensemble, evaluate_zero_shot, prompts

ABOUT = {"dataset": "d", "seed": 0, "split": "test", "n_train": 7}


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def reference_rank(similarity: np.ndarray, right: set[int]) -> int:
    """Candidates in order, the wrong first among equals; where is the first right one?"""
    order = sorted(range(len(similarity)), key=lambda j: (-similarity[j], j in right))
    return next(place for place, j in enumerate(order) if j in right)


def test_ranks_are_those_of_a_sorted_list() -> None:
    rng = np.random.default_rng(0)
    queries, candidates = unit(rng.normal(size=(30, 8))), unit(rng.normal(size=(50, 8)))
    query_of, candidate_of = rng.integers(0, 20, 30), np.arange(50) % 20
    similarity = queries @ candidates.T
    expected = [
        reference_rank(row, set(np.flatnonzero(candidate_of == own).tolist()))
        for row, own in zip(similarity, query_of, strict=True)
    ]
    assert ranks(queries, candidates, query_of, candidate_of).tolist() == expected


def test_an_encoder_that_gives_everything_the_same_embedding_finds_nothing() -> None:
    same = np.ones((40, 4), dtype=np.float32) / 2
    found = evaluate_retrieval(same, same, np.arange(40), subject="collapsed", **ABOUT)  # type: ignore[arg-type]
    assert [record.value for record in found.records] == [0.0] * 6


def test_each_caption_of_an_image_is_a_query_and_any_of_them_is_an_answer() -> None:
    images = np.eye(3, dtype=np.float32)
    captions = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)  # the second one errs
    owners = np.array([0, 0, 1, 2])
    found = evaluate_retrieval(images, captions, owners, subject="a", **ABOUT)  # type: ignore[arg-type]
    value = {(r.protocol, r.metric): r.value for r in found.records}
    assert value["text-to-image/1", "recall@1"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert value["image-to-text/1", "recall@1"] == 1.0
    assert value["text-to-image/1", "recall@5"] == 1.0
    assert {r.n_labels for r in found.records} == {0}
    assert found.hits[TEXT_TO_IMAGE].shape == (3,)


def test_a_second_test_part_has_protocols_of_its_own_and_no_say_in_the_verdict() -> None:
    x = np.eye(3, dtype=np.float32)
    found = evaluate_retrieval(x, x, np.arange(3), subject="a", part="unseen fonts", **ABOUT)  # type: ignore[arg-type]
    assert {r.protocol for r in found.records} == {"text-to-image(unseen fonts)/1", "image-to-text(unseen fonts)/1"}
    assert not found.hits
    first = evaluate_retrieval(x, x, np.arange(3), subject="a", **ABOUT)  # type: ignore[arg-type]
    captions = [table.caption for table in tables([*found.records, *first.records], Subjects("a", "b"))]
    assert [caption.split(",")[0] for caption in captions] == ["Retrieval", "Retrieval of unseen fonts"]


@pytest.mark.parametrize("owners", [[0, 0, 1], [0, 1, 3], [0, 1]])
def test_an_image_without_a_caption_is_an_error(owners: list[int]) -> None:
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="3 captions of 3 images, but owners name"):
        evaluate_retrieval(x, x, np.array(owners), subject="a", **ABOUT)  # type: ignore[arg-type]


def test_embeddings_that_are_not_finite_are_named() -> None:
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="towers: embeddings of test captions"):
        evaluate_retrieval(x, x * np.nan, np.arange(3), subject="towers", **ABOUT)  # type: ignore[arg-type]


def test_prompts_put_every_class_into_every_template() -> None:
    assert prompts(["cat", "dog"], ["{}", "a photo of a {}"]) == [
        "cat",
        "a photo of a cat",
        "dog",
        "a photo of a dog",
    ]


@pytest.mark.parametrize(("templates", "message"), [([], "is empty"), (["a photo"], "'a photo' must hold {} once")])
def test_a_template_without_a_place_for_the_class_is_refused(templates: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompts(["cat"], templates)


def test_an_ensemble_is_the_direction_of_the_mean_prompt() -> None:
    z = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], dtype=np.float32)
    np.testing.assert_allclose(ensemble(z, 2), [[0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-6)


def test_zero_shot_takes_the_most_similar_class() -> None:
    images = np.array([[1, 0], [0.9, 0.1], [0, 1], [1, 0]], dtype=np.float32)
    classes, names = np.eye(2, dtype=np.float32), np.array(["cat", "dog"])
    truth = np.array(["cat", "cat", "dog", "dog"])
    found = evaluate_zero_shot(images, classes, names, truth, subject="a", **ABOUT)  # type: ignore[arg-type]
    assert found.hits[PROTOCOL].tolist() == [True, True, True, False]
    assert {(r.metric, r.n_labels) for r in found.records} == {("accuracy", 0), ("macro_f1", 0)}
    assert found.records[0].value == 0.75


def scored() -> tuple[list, Subjects]:
    rng = np.random.default_rng(0)
    images = unit(rng.normal(size=(60, 16)))
    own = np.arange(60)
    evaluations = []
    for subject, noise in (("clip", 0.1), ("untrained", 9.0), ("control", 0.7)):
        captions = unit(images + noise * rng.normal(size=images.shape))
        evaluations.append(evaluate_retrieval(images, captions, own, subject=subject, **ABOUT))  # type: ignore[arg-type]
        classes, names = captions[:4], np.array(["a", "b", "c", "d"])
        truth = names[(images @ images[:4].T).argmax(axis=1)]
        evaluations.append(evaluate_zero_shot(images, classes, names, truth, subject=subject, **ABOUT))  # type: ignore[arg-type]
    return evaluations, Subjects("clip", "untrained", ("control",), {"clip": "CLIP", "control": "the control"})


def test_the_verdict_names_what_decides_and_has_a_sentence_on_zero_shot() -> None:
    evaluations, subjects = scored()
    answer = verdict(evaluations, subjects, primary=TEXT_TO_IMAGE, examples="images")
    assert answer.outcome == "helped"
    assert answer.headline.startswith("Pretraining helped: text → image R@10 100.0 % against ")
    assert "60 test images" in answer.headline
    assert any(sentence.startswith("Zero-shot, pretraining helped: ") for sentence in answer.details)
    assert any("the strongest control" in sentence and RECALL.name in sentence for sentence in answer.details)
    assert not any("from random weights" in sentence for sentence in answer.details)


def test_the_tables_have_recall_in_both_directions_and_zero_shot_accuracy() -> None:
    evaluations, subjects = scored()
    found = tables([record for evaluation in evaluations for record in evaluation.records], subjects)
    assert [table.caption.split(",")[0] for table in found] == ["Retrieval", "Zero-shot classification"]
    assert found[0].columns[1:] == (
        *(f"text → image {k}" for k in (1, 5, 10)),
        *(f"image → text {k}" for k in (1, 5, 10)),
    )
    assert [row[0] for row in found[0].rows] == ["CLIP", "untrained", "the control"]
    assert found[0].rows[0][3] == "100.0 (1 seed)"
    assert found[1].columns == ("", "Accuracy", "Macro-F1")
