"""HuBERT: its loss by hand, units that follow their clips, k-means that finds what is there, and bad input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.audio.clips import ClipSet, as_objects, lengths
from mmssl.audio.hubert import HuBERT, unit_entropy
from mmssl.audio.preprocess import WavePreprocessor
from mmssl.audio.units import FrameFeatures, Units, UnitSource, cepstra, find_units, hidden
from tests.audio.waveforms import RATE, chords, noises, padded, small


def method(**changes: Any) -> HuBERT:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"span": 4, "dim": 8}
    return HuBERT(small(), 5, **(settings | changes))


def batch() -> tuple[Tensor, Tensor]:
    x = padded(noises([3300, 2400]), 3300)
    return x, torch.randint(5, (2, small().frame_count(3300)), generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("seen", [0.0, 0.5])
def test_the_loss_is_a_cross_entropy_over_cosines(seen: float) -> None:
    model = method(seen=seen, feature_penalty=3.0).eval()
    x, units = batch()
    torch.manual_seed(1)
    frames = model.masking(model.encoder, x)
    torch.manual_seed(1)
    found = model((x, units))["loss"]
    masked: list[Tensor] = []
    others: list[Tensor] = []
    for b in range(2):
        for t in range(units.shape[1]):
            prediction = model.predict(frames.context[b, t])
            cosines = torch.stack([torch.cosine_similarity(prediction, e, dim=0) for e in model.embeddings])
            loss = -(cosines / 0.1).log_softmax(dim=0)[units[b, t]]
            if frames.mask[b, t]:
                masked.append(loss)
            elif frames.inside[b, t]:
                others.append(loss)
    energy = model.encoder.features(x)[frames.inside].square().mean()
    expected = torch.stack(masked).mean() + seen * torch.stack(others).mean() + 3 * energy
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_units_after_the_end_of_a_clip_change_nothing() -> None:
    model = method(seen=1.0).eval()
    x, units = batch()
    losses = []
    for fill in (0, 4):
        torch.manual_seed(1)
        losses.append(model((x, units.masked_fill(~model.encoder.valid(x), fill)))["loss"])
    assert torch.equal(*losses)


def test_the_entropy_is_that_of_the_units_that_count() -> None:
    units = torch.tensor([[0, 1, 2, 3, 0, 0]])
    valid = torch.tensor([[True] * 4 + [False] * 2])
    assert float(unit_entropy(units, valid, 7)) == pytest.approx(math.log(4))


def test_every_parameter_has_a_gradient_and_silence_is_finite() -> None:
    model = method()
    model(batch())["loss"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    x, units = batch()
    assert model((torch.zeros_like(x), units))["loss"].isfinite()


def test_learning_finds_the_units() -> None:
    torch.manual_seed(0)
    clips = chords()
    units = find_units(clips, cepstra(RATE), clusters=4, seed=0)
    model = HuBERT(small(), 4, span=4, dim=8, seen=1.0)
    source = UnitSource(clips, units, model.encoder)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(50):
        out = model(source.fetch(np.arange(24)))
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
    assert float(out["loss"].detach()) < 0.8 * float(out["collapse_loss"])


@pytest.mark.parametrize(
    ("clusters", "settings", "message"),
    [(1, {}, "clusters must be at least 2, got 1"), (5, {"temperature": 0.0}, "temperature must be positive, got 0.0")],
)
def test_impossible_settings_are_refused(clusters: int, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HuBERT(small(), clusters, **settings)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ units


def test_two_tones_are_two_clusters_at_their_places() -> None:
    clips = chords()
    units = find_units(clips, cepstra(RATE), clusters=2, seed=0)
    starts = np.cumsum(units.sizes) - units.sizes
    assert units.sizes.tolist() == [1 + size // 80 for size in clips.sizes]
    inner = [units.codes[a + 3 : a + n // 2 - 3] for a, n in zip(starts, units.sizes, strict=True)]
    low = {int(c) for i, codes in enumerate(inner) if i % 2 for c in codes}
    high = {int(c) for i, codes in enumerate(inner) if not i % 2 for c in codes}
    assert len(low) == len(high) == 1
    assert low != high
    assert 1.5 < units.perplexity <= 2


def test_units_follow_their_clips_by_name_in_any_order_and_part(tmp_path: Path) -> None:
    clips = chords()
    units = find_units(clips, cepstra(RATE), clusters=4, seed=0)
    units.save(tmp_path / "units.npz")
    again = Units.load(tmp_path / "units.npz")
    order = np.array([5, 0, 17])
    part = again.of(clips.subset(order))
    assert part.names.tolist() == ["clip 5", "clip 0", "clip 17"]
    starts = np.cumsum(units.sizes) - units.sizes
    expected = np.concatenate([units.codes[starts[i] : starts[i] + units.sizes[i]] for i in order])
    np.testing.assert_array_equal(part.codes, expected)
    assert (again.hop, again.centre, again.clusters) == (80.0, 0.0, 4)
    with pytest.raises(ValueError, match="1 of 1 clips have no units, other for example"):
        units.of(ClipSet.of([np.zeros(9)], RATE, as_objects(["other"])))


@pytest.mark.parametrize("crop", [None, 700])
@pytest.mark.parametrize(("hop", "centre"), [(40, 0.0), (80, 20.0), (200, 100.0)])
def test_a_frame_of_a_crop_has_the_unit_that_is_nearest_in_time(crop: int | None, hop: int, centre: float) -> None:
    sizes = [1500, 900, 2000]
    ramps = [np.arange(size, dtype=np.float32) for size in sizes]  # a sample tells where it is
    clips = ClipSet.of(ramps, RATE, as_objects(["a", "b", "c"]))
    count = [max(1, int((size - centre) // hop) + 1) for size in sizes]
    units = Units(
        np.concatenate([np.arange(n) for n in count]), np.array(count), clips.names.astype(str), hop, centre, 99
    )
    encoder = small()
    x, codes = UnitSource(clips, units, encoder, crop=crop).fetch(np.array([2, 0, 1]))
    valid = encoder.valid(x)
    assert codes.shape == valid.shape
    for row, found, inside, n in zip(x, codes, valid, [count[2], count[0], count[1]], strict=True):
        for t in inside.nonzero()[:, 0].tolist():
            middle = float(row[0]) + t * encoder.hop + (encoder.receptive_field - 1) / 2
            places = centre + hop * np.arange(n)
            assert abs(places[int(found[t])] - middle) == np.abs(places - middle).min()


def test_hidden_units_have_the_frames_of_the_encoder() -> None:
    encoder = small()
    units = find_units(chords(), hidden(encoder, 1, WavePreprocessor(RATE)), clusters=3, seed=0)
    assert units.sizes.tolist() == [encoder.frame_count(int(size)) for size in chords().sizes]
    assert units.hop == encoder.hop
    with pytest.raises(ValueError, match="a layer between 1 and 2, got 3"):
        hidden(encoder, 3, WavePreprocessor(RATE))


def test_long_clips_are_encoded_in_pieces_without_a_frame_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, prepared = small(), WavePreprocessor(RATE)
    x = padded(noises([5003, 4000, 1500]), 5003)
    monkeypatch.setattr("mmssl.audio.units.LONGEST", 0.25)  # 2,000 samples
    h = hidden(encoder, 2, prepared).compute(x)
    assert lengths(h).tolist() == encoder.frames(torch.tensor([5003, 4000, 1500])).tolist()
    second = prepared(x)[:1, 2000 : 4000 + encoder.receptive_field - encoder.hop]
    with torch.no_grad():
        expected = encoder.encode(encoder.tokenize(second))
    each = 2000 // encoder.hop
    torch.testing.assert_close(h[:1, each : 2 * each], expected, atol=1e-5, rtol=1e-5)
    alone = hidden(encoder, 2, prepared).compute(x[1:2, :4000])
    torch.testing.assert_close(h[1, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-5)


def test_a_seed_repeats_the_units() -> None:
    first, again = (find_units(chords(), cepstra(RATE), clusters=6, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.codes, again.codes)


def test_silence_has_no_clusters() -> None:
    silent = ClipSet.of([np.zeros(900), np.zeros(900)], RATE)
    with pytest.raises(
        ValueError, match=r"4 clusters need as many different frames, and among 20 there are 1: .*silence"
    ):
        find_units(silent, FrameFeatures(lambda x: torch.zeros(len(x), 10, 3), 80, 0.0), clusters=4, seed=0)
