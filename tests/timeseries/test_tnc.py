"""TNC: where its windows come from, its loss against the formula, and that it learns and resumes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mmssl.timeseries.encoders.resnet1d import ResNet1D
from mmssl.timeseries.recordings import Recordings
from mmssl.timeseries.series import SeriesSet
from mmssl.timeseries.tnc import FAR, TNC, collapse_loss, neighbour_loss
from tests.resume import assert_resumes_bit_for_bit

WINDOW = 10


def series(*lengths: int) -> SeriesSet:
    """Two channels: the row's number in the whole set, and noise."""
    rows = sum(lengths)
    noise = np.random.default_rng(0).standard_normal(rows)
    return SeriesSet(
        values=np.stack([np.arange(rows), noise], axis=1).astype(np.float32),
        offsets=np.cumsum([0, *lengths]).astype(np.int64),
        ids=np.array([f"r{i}" for i in range(len(lengths))], dtype=object),
        channels=("row", "noise"),
    )


def small(*lengths: int, neighbourhood: int | None = 1, **options: Any) -> tuple[TNC, Recordings]:
    torch.manual_seed(0)
    recordings = Recordings(series(*lengths), window=WINDOW, neighbourhood=neighbourhood)
    return TNC(ResNet1D(2, widths=[4, 6]), recordings, **{"pairs": 3} | options), recordings


def every(recordings: Recordings) -> Tensor:
    return recordings.fetch(np.arange(len(recordings)))


# ------------------------------------------------------------------------------------------------------- recordings


def test_places_are_half_a_window_apart_in_every_recording_of_two_windows() -> None:
    recordings = Recordings(series(30, 19, 23), window=WINDOW, neighbourhood=2)
    assert every(recordings).tolist() == [
        *[[start, 0, 20, 2] for start in (0, 5, 10, 15, 20)],
        *[[start, 49, 62, 2] for start in (49, 54, 59)],
    ]


def test_sizes_are_tested_around_the_middle_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def sizes(values: Any, *rows: Any, window: int) -> npt.NDArray[np.int64]:
        asked.extend([values, *rows])
        return np.arange(len(rows[0]))

    monkeypatch.setattr("mmssl.timeseries.recordings.neighbourhood_sizes", sizes)
    recordings = Recordings(series(20, 20), window=WINDOW)
    assert [rows.tolist() for rows in asked[1:]] == [[5, 10, 15, 25, 30, 35], [0] * 3 + [20] * 3, [20] * 3 + [40] * 3]
    assert recordings.sizes.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_break_ends_a_recording() -> None:
    whole = replace(series(50), breaks=np.array([22]))
    assert every(Recordings(whole, window=WINDOW, neighbourhood=1))[:, 1:3].unique(dim=0).tolist() == [
        [0, 12],
        [22, 40],
    ]


def test_recordings_of_less_than_two_windows_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"none has two windows of 10 rows: the longest has 19\. Set a smaller data"):
        Recordings(series(19, 7), window=WINDOW)
    with pytest.raises(ValueError, match="at least 2 rows and a neighbourhood 1 window, got 1 and None"):
        Recordings(series(19), window=1)
    with pytest.raises(ValueError, match="at least 2 rows and a neighbourhood 1 window, got 10 and 0"):
        Recordings(series(99), window=WINDOW, neighbourhood=0)


# ------------------------------------------------------------------------------------------------------------ draws


def test_windows_stay_in_their_recording_and_what_is_far_stays_out_of_the_neighbourhood() -> None:
    method, recordings = small(300, 173, pairs=50)
    places = every(recordings)
    first, last = places[:, 1:2], places[:, 2:3]
    for _ in range(5):
        start = method.draw(places)
        assert start.shape == (len(places), 101)
        assert ((start >= first) & (start <= last)).all()
        anchor, far = start[:, :1], start[:, 51:]
        assert ((far - anchor).abs() >= FAR * WINDOW).all()


def test_neighbours_have_the_spread_of_the_neighbourhood() -> None:
    for size in (1, 3):
        method, recordings = small(4000, neighbourhood=size, pairs=4000)
        start = method.draw(recordings.fetch(np.array([400])))
        near = start[0, 1:4001] - start[0, 0]
        assert near.float().std() == pytest.approx(size * WINDOW, rel=0.05)
        assert near.float().mean() == pytest.approx(0, abs=1.5)


def test_what_is_far_away_is_drawn_evenly_from_both_sides() -> None:
    method, recordings = small(200, pairs=20_000)
    start = method.draw(recordings.fetch(np.array([14])))  # near 70: 21 starts or so before, 70 or so behind
    anchor, far = int(start[0, 0]), start[0, 20_001:]
    allowed = [*range(anchor - 50 + 1), *range(anchor + 50, 191)]
    found, counts = far.unique(return_counts=True)
    assert found.tolist() == allowed
    assert counts.min() > 0.6 * 20_000 / len(allowed)


def test_an_anchor_may_lie_anywhere_between_two_places() -> None:
    method, recordings = small(60)
    places = every(recordings)[[2, -1]]  # from 10, and from 50, the last of its recording
    starts = torch.cat([method.draw(places)[:, :1] for _ in range(100)], dim=1)
    assert starts[0].unique().tolist() == [10, 11, 12, 13, 14]
    assert starts[1].unique().tolist() == [50]


def test_a_short_recording_has_its_further_end_far_away() -> None:
    method, recordings = small(40)
    start = method.draw(every(recordings))
    anchor, far = start[:, :1], start[:, 4:]
    assert torch.equal(far, torch.where(anchor > 15, 0, 30).expand_as(far))


def test_windows_are_the_rows_of_the_recordings() -> None:
    method, recordings = small(40)
    x = method.cut(torch.tensor([0, 7, 30]))
    assert x.shape == (3, WINDOW, 2)
    assert x[1, :, 0].tolist() == list(range(7, 17))
    assert torch.equal(x, torch.stack([recordings.values[i : i + WINDOW] for i in (0, 7, 30)]))


# ------------------------------------------------------------------------------------------------------------- loss


def by_hand(near: Tensor, far: Tensor, weight: float) -> float:
    """The authors' three cross-entropies, term by term."""
    p, n = (1 / (1 + (-logits.double()).exp()) for logits in (near, far))
    positive = [-math.log(v) for v in p.flatten()]
    as_neighbour, as_none = [-math.log(v) for v in n.flatten()], [-math.log(1 - v) for v in n.flatten()]
    mean = [sum(part) / len(part) for part in (positive, as_neighbour, as_none)]
    return (mean[0] + weight * mean[1] + (1 - weight) * mean[2]) / 2


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.3])
def test_the_loss_is_the_papers_formula(weight: float) -> None:
    near, far = torch.randn(4, 3), torch.randn(4, 3)
    loss = neighbour_loss(near, far, torch.ones(4, 6, dtype=torch.bool), weight=weight)
    assert loss.item() == pytest.approx(by_hand(near, far, weight), rel=1e-5)


def test_the_step_is_the_paper_put_together_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    method, recordings = small(200)
    method.eval()  # no dropout
    start = torch.tensor([[40, 35, 50, 44, 120, 150, 100], [7, 0, 9, 12, 80, 90, 190]])
    monkeypatch.setattr(method, "draw", lambda places: start)
    out = method(recordings.fetch(np.array([8, 1])))

    def encode(row: Tensor) -> Tensor:
        return method.encoder(recordings.values[row : row + WINDOW][None])[0]

    logits = torch.stack(
        [
            torch.stack([method.discriminator(torch.cat([encode(row[0]), encode(other)]))[0] for other in row[1:]])
            for row in start
        ]
    )
    assert out["loss"].item() == pytest.approx(by_hand(logits[:, :3].detach(), logits[:, 3:].detach(), 0.05), rel=1e-4)
    assert out["accuracy"].item() == pytest.approx(
        ((logits[:, :3] > 0).sum() + (logits[:, 3:] < 0).sum()).item() / logits.numel()
    )


def test_every_window_is_encoded_once() -> None:
    method, recordings = small(200)
    seen: list[int] = []
    method.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    method(recordings.fetch(np.arange(5)))
    assert seen == [5 * (1 + 3 + 3)]


def test_the_loss_of_a_collapse_is_what_is_announced() -> None:
    for weight in (0.0, 0.05, 0.4):
        constant = torch.linspace(-2, 2, 801)
        loss = torch.stack(
            [
                neighbour_loss(c.view(1, 1), c.view(1, 1), torch.ones(1, 2, dtype=torch.bool), weight=weight)
                for c in constant
            ]
        )
        assert loss.min().item() == pytest.approx(collapse_loss(weight), abs=1e-5)
    assert collapse_loss(0.0) == pytest.approx(math.log(2))


def test_windows_without_any_value_take_no_part() -> None:
    method, recordings = small(200)
    recordings.values[60:200] = torch.nan
    out = method(recordings.fetch(np.array([2, 15])))  # the second one lies in nothing
    out["loss"].backward()
    assert all(value.isfinite() for value in out.values())
    near, far = torch.randn(2, 2), torch.randn(2, 2)
    seen = torch.tensor([[True] * 4, [False] * 4])
    half = neighbour_loss(near, far, seen, weight=0.05)
    assert half.item() == pytest.approx(by_hand(near[:1], far[:1], 0.05) / 2, rel=1e-5)


# ----------------------------------------------------------------------------------------------------------- method


def test_every_parameter_gets_a_gradient_and_forward_changes_no_state() -> None:
    method, recordings = small(200)
    before = copy.deepcopy(method.state_dict())
    out = method(recordings.fetch(np.arange(6)))
    out["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert [name for name, value in method.state_dict().items() if not torch.equal(value, before[name])] == []


def test_recordings_are_neither_in_a_checkpoint_nor_in_the_encoder() -> None:
    method, _ = small(200)
    assert all(name.split(".")[0] in ("encoder", "discriminator") for name in method.state_dict())
    assert method.export() is method.encoder


def test_draws_never_wait_for_a_gpu() -> None:
    with FakeTensorMode(), torch.device("cuda"):  # tensors without values: to ask for one is an error
        recordings = Recordings.__new__(Recordings)
        recordings.values, recordings.window, recordings.grid = torch.empty(200, 2), WINDOW, 5
        method = TNC(ResNet1D(2, widths=[4, 6]), recordings, pairs=3)
        assert method(torch.empty(6, 4, dtype=torch.int64))["loss"].device.type == "cuda"


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        small(200, pairs=0)
    with pytest.raises(ValueError, match=r"weight must lie in \[0, 1\), got 1"):
        small(200, weight=1)


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    _, recordings = small(300)

    def batches(first: int) -> Iterator[Tensor]:
        while True:
            yield recordings.fetch(np.random.default_rng(first).integers(len(recordings), size=4))
            first += 1

    assert_resumes_bit_for_bit(lambda: small(300)[0], batches, tmp_path)


def test_it_learns_to_tell_neighbours_where_the_level_tells_them() -> None:
    method, recordings = small(400, pairs=8)
    recordings.values[:, 0] = (recordings.values[:, 0] / 200 - 1) * 3
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for _ in range(25):
        out = method(every(recordings))
        out["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert out["loss"] < 0.95 * out["collapse_loss"]
    assert out["accuracy"] > 0.6
