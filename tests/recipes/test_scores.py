"""What recipes of every modality share: scores on a task, and the files at the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmssl.core.health import Diagnosis
from mmssl.eval.knn import knn
from mmssl.eval.records import read_results
from mmssl.eval.report import Section
from mmssl.recipes import results
from mmssl.recipes.results import Embedded, write_results
from mmssl.recipes.scores import UNTRAINED, EvaluateConfig, Scores, Task
from mmssl.train.run import Run

KNN = EvaluateConfig(protocols=["knn"], draws=2, controls=["pixels"])
CONTROLS = {"pixels": "raw pixels", "hog": "HOG"}


@dataclass
class Config:
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    root: str = "runs"
    resume: str | None = None


def drawn(seed: int, n: int = 60, distance: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of two kinds of animals, and what they are."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    x = rng.normal(size=(n, 5)) + distance * kind[:, None]
    return x.astype(np.float32), np.array(["cat", "dog"], dtype=object)[kind]


def scores(task: Task | None, cfg: EvaluateConfig = KNN) -> Scores:
    return Scores(task, cfg, method="simclr", title="SimCLR", controls=CONTROLS)


@pytest.fixture
def task() -> Task:
    return Task("pets", "test", drawn(0)[1], drawn(1)[1], np.arange(60) // 2, examples="images", entities="owners")


def test_features_and_predictions_of_one_task_stand_side_by_side(task: Task) -> None:
    found = scores(task)
    train, test = drawn(0)[0], drawn(1)[0]
    found.add("simclr", 3, train, test)
    found.add_predictions("simclr", "finetune-full/1", 3, task.test_y)
    by_protocol = {(r.protocol, r.metric): r for r in found.records() if r.n_labels == "all"}
    assert by_protocol["knn-1/1", "accuracy"].value == np.mean(knn(train, task.train_y, test) == task.test_y)
    tuned = by_protocol["finetune-full/1", "accuracy"]
    assert (tuned.value, tuned.n_train, tuned.n_test, tuned.seed, tuned.dataset) == (1.0, 60, 60, 3, "pets")
    assert found.primary == "knn-1/1"
    assert all(e.groups is task.groups for e in found.evaluations)


def test_codes_and_classes_of_a_task_are_each_others_inverse(task: Task) -> None:
    assert task.classes.tolist() == ["cat", "dog"]
    assert task.train_codes.dtype == np.int64
    assert task.classes[task.train_codes].tolist() == task.train_y.tolist()


def test_what_decides_is_known_before_anything_is_scored(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    found = scores(task, EvaluateConfig(protocols=["linear", "knn"]))
    assert found.primary == "logistic/1"
    monkeypatch.setattr("mmssl.eval.evaluate.LINEAR_MAX", 59)
    assert found.primary == "logistic-holdout/1"


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (EvaluateConfig(controls=["sift"]), r"unknown evaluate.controls \['sift'\]; there are \['pixels', 'hog'\]"),
        (EvaluateConfig(protocols=["svn"]), r"unknown evaluate.protocols \['svn'\]; there are \['svm', "),
        (EvaluateConfig(protocols=[]), "evaluate.protocols is empty"),
    ],
)
def test_settings_that_do_not_exist_are_refused(task: Task, cfg: EvaluateConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(task, cfg)


def test_without_a_task_there_is_nothing_to_score() -> None:
    found = scores(None)
    assert not found.labelled
    assert found.records() == []
    with pytest.raises(ValueError, match="no task to score: the data has no labels"):
        found.add("simclr", 0, *(drawn(0)[0],) * 2)


def finished(folder: Path, found: Scores, **changes: Any) -> tuple[Run, str]:
    """A run folder with all results, and its report."""
    run = Run.at(folder / "run")
    with run.log() as log:
        log.write(1, {"loss": 2.0})
    x, y = drawn(0)
    columns = {"path": np.array([f"{i}.png" for i in range(60)], dtype=object), "label": y}
    embedded = Embedded(x, columns, name=lambda i: f"image {i}", picture=lambda i: f'<img alt="picture {i}">')
    known: dict[str, Any] = {"recipe": "vision_simclr", "dataset": "pets", "description": "60 images", **changes}
    health = Diagnosis("healthy", ("No sign of collapse.",))
    write_results(run, Config(), found, [health, health], known.pop("embedded", embedded), **known)
    return run, run.report.read_text()


def test_the_three_files_agree_and_the_terminal_says_the_same(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scores(task)
    found.add("pixels", 0, drawn(0, distance=0.1)[0], drawn(1, distance=0.1)[0])
    for seed in (0, 1):
        found.add(UNTRAINED, seed, drawn(0, distance=0.5)[0], drawn(1, distance=0.5)[0])
        found.add("simclr", seed, drawn(0)[0], drawn(1)[0])
    section = Section("Views", '<div class="gallery">views of cats</div>')
    run, page = finished(tmp_path, found, sections=[section], notes=["2 files were left out"])
    assert read_results(run.results) == found.records()
    assert "<title>SimCLR on pets</title>" in page
    assert "views of cats" in page
    assert "2 files were left out" in page
    assert page.count("<li>No sign of collapse.</li>") == 1
    assert "python -m mmssl.recipes.vision_simclr" in page
    frame = pd.read_parquet(run.embeddings)
    assert list(frame)[:3] == ["path", "label", "e000"]
    np.testing.assert_array_equal(frame.filter(like="e0").to_numpy(), drawn(0)[0])
    out = capsys.readouterr().out
    headline = page[page.index("<h1>") + 4 : page.index("</h1>")]
    assert headline in out
    assert "2 seeds, 60 test images of 30 owners" in headline
    assert "raw pixels, the strongest control, is behind SimCLR" in out


def test_without_labels_the_report_shows_neighbours_with_pictures(tmp_path: Path) -> None:
    x, _ = drawn(0)
    embedded = Embedded(x, {}, name=lambda i: f"image {i}", picture=lambda i: f'<img alt="picture {i}">')
    run, page = finished(tmp_path, scores(None), embedded=embedded)
    assert read_results(run.results) == []
    assert "No labels, so no score" in page
    assert page.count('<img alt="picture ') == page.count("<b>image ") == 8 * 5


def test_many_samples_are_drawn_from_for_the_map_and_all_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "SHOWN", 20)
    x, _ = drawn(0)
    embedded = Embedded(
        x, {}, name=lambda i: f"image {i}", picture=lambda i: f"<i>row {i}</i>", groups=np.arange(60), entities="owners"
    )
    run, page = finished(tmp_path, scores(None), embedded=embedded)
    assert "All 20 embeddings" in page
    assert len(pd.read_parquet(run.embeddings)) == 60
    shown = np.sort(np.random.default_rng(0).choice(60, 20, replace=False))
    pictures = {int(part.split("<")[0]) for part in page.split("<i>row ")[1:]}
    assert pictures <= set(shown.tolist())
    assert all(f"<i>row {i}</i><figcaption><b>image {i}</b>" in page for i in pictures)
    assert "taken from other owners than its own" in page


def test_results_are_written_last_so_that_a_broken_end_is_not_taken_for_done(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(results, "write_report", full_disk)
    with pytest.raises(OSError, match="no space left"):
        finished(tmp_path, scores(None))
    assert not (tmp_path / "run" / "results.json").exists()


def test_labels_that_no_training_example_has_are_said(task: Task) -> None:
    other = np.where(np.arange(60) < 7, "horse", task.test_y)
    with pytest.warns(UserWarning, match=r"^7 of 60 test images have a label that no training one has \(horse\)"):
        scores(replace(task, test_y=other))
