"""What every augmentation of series must do, one by one and as views."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mmssl.timeseries import steps
from mmssl.timeseries.augment import (
    ChannelDropout,
    CropResize,
    FrequencyMask,
    FrequencyMix,
    Jitter,
    MagnitudeWarp,
    Permutation,
    Pipeline,
    Rotation,
    Scaling,
    SeriesViews,
    Step,
    StrongView,
    TimeMask,
    TimeWarp,
    WeakView,
)
from mmssl.timeseries.spline import spline_basis
from mmssl.timeseries.steps import resample

CPU = torch.device("cpu")
MIXING = FrequencyMix(0.5)
MOVING: list[Step] = [TimeWarp(0.3), CropResize((0.4, 0.9)), Permutation(6)]
IN_PLACE: list[Step] = [
    Jitter(0.1),
    Scaling(0.2),
    MagnitudeWarp(0.3),
    TimeMask(0.3, stretches=2),
    ChannelDropout(0.5),
    FrequencyMask(0.3),
    MIXING,
]
STEPS: list[Step] = [
    *IN_PLACE,
    *MOVING,
    Rotation(),
    WeakView(),
    StrongView(),
    Pipeline((CropResize(), TimeWarp(), FrequencyMask(), Jitter())),
]
IDENTITIES: list[Step] = [
    Jitter(0),
    Scaling(0),
    MagnitudeWarp(0),
    TimeWarp(0),
    CropResize((1, 1)),
    Permutation(1),
    TimeMask(0),
    ChannelDropout(0),
    FrequencyMask(0),
    FrequencyMix(0),
    Rotation(0),
    WeakView(0, 0),
    StrongView(1, 0),
    Pipeline(()),
]


def name(step: object) -> str:
    return type(step).__name__


def series(batch: int = 16, steps: int = 60, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(batch + steps + channels)
    return torch.randn(batch, steps, channels, generator=generator).cumsum(dim=1) / 5


def gappy() -> Tensor:
    """Padding of several lengths at both ends, single missing values, missing timestamps, and a series of nothing."""
    x = series()
    x[0, :7] = x[1, 40:] = x[2, :3] = x[2, 55:] = torch.nan
    x[3, 20:24, 1] = x[4, 30] = x[5, :30, 2] = torch.nan
    x[6] = torch.nan
    return x


def seeded(step: Step, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return step(x)


def padding(x: Tensor) -> Tensor:
    """``(B, T)``, True before the first and after the last timestamp with a value, found one by one."""
    out = torch.ones(x.shape[:2], dtype=torch.bool)
    for i, row in enumerate(x):
        seen = (~row.isnan()).any(dim=1).nonzero()
        if len(seen):
            out[i, int(seen[0]) : int(seen[-1]) + 1] = False
    return out


@pytest.mark.parametrize("step", STEPS, ids=name)
class TestEveryStep:
    def test_leaves_its_input_alone(self, step: Step) -> None:
        for x in (series(), gappy()):
            before = x.clone()
            seeded(step, x)
            assert torch.equal(x.nan_to_num(-99), before.nan_to_num(-99))

    def test_changes_something_and_keeps_shape_and_type(self, step: Step) -> None:
        x = series()
        out = seeded(step, x.double())
        assert out.dtype == torch.float32
        assert out.shape == x.shape
        assert out.isfinite().all()
        assert not torch.allclose(out, x, atol=0.01)

    def test_is_repeated_by_the_seed_and_differs_without_it(self, step: Step) -> None:
        x = series()
        first, again = seeded(step, x), seeded(step, x)
        assert torch.equal(first, again)
        assert not torch.equal(step(x), first)

    def test_draws_other_numbers_for_each_row(self, step: Step) -> None:
        x = series(1).expand(64, -1, -1) * torch.linspace(1, 2, 64)[:, None, None]
        out = seeded(step, x) / torch.linspace(1, 2, 64)[:, None, None]
        assert len(out.flatten(1).mul(1000).round().unique(dim=0)) > 3

    def test_takes_one_series_of_one_timestamp(self, step: Step) -> None:
        assert seeded(step, torch.ones(1, 1, 3)).isfinite().all()

    def test_never_waits_for_a_gpu(self, step: Step) -> None:
        with FakeTensorMode():  # tensors without values: to ask for one is an error
            spline_basis.cache_clear()
            out = step(torch.empty(4, 20, 3, device="cuda"))
        spline_basis.cache_clear()
        assert out.device.type == "cuda"

    def test_keeps_all_digits_under_autocast_and_records_no_gradient(self, step: Step) -> None:
        x = series().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = seeded(step, x)
        assert torch.equal(inside, seeded(step, x))
        assert not inside.requires_grad

    def test_refuses_what_is_no_batch_of_series(self, step: Step) -> None:
        with pytest.raises(ValueError, match=r"expected a batch of series \(B, T, C\).*got \(60, 6\)"):
            step(series()[0])
        with pytest.raises(ValueError, match=r"must be floats.*got torch.int64"):
            step(series().long())

    def test_keeps_padding_where_it_is(self, step: Step) -> None:
        x = gappy()
        out = seeded(step, x)
        assert out[padding(x)].isnan().all()

    def test_makes_nothing_up_where_a_series_is_missing_altogether(self, step: Step) -> None:
        assert seeded(step, gappy())[6].isnan().all()


@pytest.mark.parametrize("step", [step for step in STEPS if step is not MIXING], ids=name)
def test_rows_are_independent(step: Step) -> None:
    x = series()
    other = x.clone()
    other[5] = -2 * other[5]
    first, second = seeded(step, x), seeded(step, other)
    same = torch.arange(len(x)) != 5
    assert torch.equal(first[same], second[same])
    assert not torch.equal(first[5], second[5])


@pytest.mark.parametrize("step", [step for step in STEPS if step is not MIXING], ids=name)
def test_a_missing_value_changes_no_other_series(step: Step) -> None:
    x = series()
    broken = x.clone()
    broken[5, 10:14, 2] = torch.nan
    expected, out = seeded(step, x), seeded(step, broken)
    same = torch.arange(len(x)) != 5
    assert torch.allclose(out[same], expected[same], atol=1e-6)


@pytest.mark.parametrize("step", IDENTITIES, ids=name)
@pytest.mark.parametrize("make", [series, gappy])
def test_strength_0_is_the_identity(step: Step, make: type) -> None:
    x = make()
    out = seeded(step, x)
    assert torch.equal(out.isnan(), x.isnan())
    assert torch.allclose(out.nan_to_num(0), x.nan_to_num(0), atol=0, rtol=0)


@pytest.mark.parametrize("step", IN_PLACE, ids=name)
def test_what_leaves_time_alone_leaves_missing_values_where_they_are(step: Step) -> None:
    x = gappy()
    assert torch.equal(seeded(step, x).isnan(), x.isnan())


@pytest.mark.parametrize("step", MOVING, ids=name)
def test_what_moves_time_makes_gaps_neither_spread_to_other_channels_nor_vanish(step: Step) -> None:
    x = series(256)
    x[:, 20:40, 1] = torch.nan
    out = seeded(step, x)
    assert not out[:, :, [0, 2, 3, 4, 5]].isnan().any()
    assert 15 < out[:, :, 1].isnan().float().sum(dim=1).mean() < 33  # 20 before; a crop shows the middle larger


@pytest.mark.parametrize("step", [TimeWarp(0.3), CropResize((0.3, 0.8)), Permutation(4)], ids=name)
def test_what_moves_time_moves_all_channels_together(step: Step) -> None:
    x = series()
    x[:, :, 3] = 2 * x[:, :, 0]
    out = seeded(step, x)
    assert torch.allclose(out[:, :, 3], 2 * out[:, :, 0], atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("step", [step for step in STEPS if type(step).run is Step.run], ids=name)
def test_a_gpu_makes_the_same_of_the_same_draws(step: Step) -> None:
    x = gappy()
    drawn = step.draw(x)
    on_cpu, on_gpu = step.apply(x, drawn), step.apply(x.cuda(), drawn.cuda()).cpu()
    assert torch.equal(on_cpu.isnan(), on_gpu.isnan())
    assert torch.allclose(on_cpu, on_gpu, atol=1e-5, equal_nan=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("step", STEPS, ids=name)
def test_a_gpu_draws_from_the_same_distribution(step: Step) -> None:
    x = series(4).repeat(500, 1, 1)
    on_cpu, on_gpu = seeded(step, x), seeded(step, x.cuda()).cpu()
    for statistic in (Tensor.mean, Tensor.std):
        assert torch.allclose(statistic(on_gpu, dim=0), statistic(on_cpu, dim=0), atol=0.2)


# Each for itself.


def test_jitter_adds_noise_of_the_deviation_that_was_asked_for() -> None:
    x = series(64)
    noise = seeded(Jitter(0.3), x) - x
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.01)


def test_scaling_has_one_factor_around_1_for_each_channel_of_each_series() -> None:
    x = series(2000, 5, 3) + 10
    factor = seeded(Scaling(0.1), x) / x
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), atol=1e-5)
    assert factor[:, 0].mean() == pytest.approx(1, abs=0.01)
    assert factor[:, 0].std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("knots", [4, 5, 9])
def test_the_spline_is_that_of_scipy(knots: int) -> None:
    values = np.random.default_rng(0).standard_normal((knots, 3))
    expected = CubicSpline(np.linspace(0, 76, knots), values)(np.arange(77))
    assert np.allclose(spline_basis(77, knots, CPU).numpy() @ values, expected, atol=1e-5)


def test_magnitude_warp_multiplies_by_smooth_curves_around_1() -> None:
    curve = seeded(MagnitudeWarp(0.2, knots=3), torch.ones(3000, 81, 1))[:, :, 0]
    at_knots = curve[:, ::20]  # both ends and three between
    assert torch.allclose(at_knots.mean(dim=0), torch.ones(5), atol=0.02)
    assert torch.allclose(at_knots.std(dim=0), torch.full((5,), 0.2), atol=0.02)
    assert curve.diff(dim=1).abs().max() < 0.2


def test_resampling_is_linear_interpolation() -> None:
    x = series(3, 20, 2)
    position = torch.rand(3, 50) * 19
    expected = [[np.interp(position[i], np.arange(20), x[i, :, c]) for c in range(2)] for i in range(3)]
    assert np.allclose(resample(x, position).numpy(), np.moveaxis(np.asarray(expected), 1, 2), atol=1e-5)


def test_resampling_takes_the_nearest_value_at_a_gap() -> None:
    nan = math.nan
    x = torch.tensor([[[0.0], [1], [nan], [3]]])
    out = resample(x, torch.tensor([[0.5, 1.25, 1.4, 1.6, 2.4, 2.6, 3.0]]))
    assert torch.allclose(out[0, :, 0], torch.tensor([0.5, 1, 1, nan, nan, 3, 3]), equal_nan=True)


def test_time_warp_keeps_the_ends_and_the_order_of_time() -> None:
    position = seeded(TimeWarp(1.0), torch.arange(100.0).expand(300, 100)[..., None])[:, :, 0]
    assert (position.diff(dim=1) > 0).all()
    assert torch.equal(position[:, 0], torch.zeros(300))
    assert torch.allclose(position[:, -1], torch.full((300,), 99.0), atol=1e-4)
    assert (position[:, 50] - 50).abs().mean() > 3


def test_time_warp_keeps_the_ends_of_a_padded_series() -> None:
    x = torch.arange(100.0).expand(50, 100)[..., None].clone()
    x[:, :20] = x[:, 70:] = math.nan
    out = seeded(TimeWarp(0.5), x)[:, :, 0]
    assert torch.allclose(out[:, 20], torch.full((50,), 20.0))
    assert torch.allclose(out[:, 69], torch.full((50,), 69.0), atol=1e-4)
    assert not out[:, 20:70].isnan().any()


def test_a_crop_is_a_straight_stretch_of_the_share_that_was_asked_for() -> None:
    out = seeded(CropResize((0.3, 0.6)), torch.arange(101.0).expand(2000, 101)[..., None])[:, :, 0]
    share = (out[:, -1] - out[:, 0]) / 100
    assert torch.allclose(out.diff(dim=1), (share[:, None] + torch.zeros(100)), atol=1e-3)
    assert 0.3 <= share.min() < 0.31
    assert 0.59 < share.max() <= 0.6 + 1e-6
    assert out.min() >= 0
    assert out.max() <= 100
    assert out[:, 0].min() < 1
    assert out[:, -1].max() > 99


def test_a_permutation_keeps_every_timestamp_and_makes_at_most_so_many_segments() -> None:
    out = seeded(Permutation(5), torch.arange(40.0).expand(4000, 40)[..., None])[:, :, 0]
    assert torch.equal(out.sort(dim=1).values, torch.arange(40.0).expand(4000, 40))
    segments = 1 + (out.diff(dim=1) != 1).sum(dim=1)
    assert segments.unique().tolist() == [1, 2, 3, 4, 5]


def test_a_permutation_of_two_segments_cuts_anywhere_and_turns_half_of_them() -> None:
    out = seeded(Permutation(2), torch.arange(4.0).expand(8000, 4)[..., None])[:, :, 0]
    orders, counts = out.unique(dim=0, return_counts=True)
    assert orders.tolist() == [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]
    assert torch.allclose(counts / 8000, torch.tensor([0.75, 1 / 12, 1 / 12, 1 / 12]), atol=0.02)


def test_a_permutation_stays_inside_of_a_padded_series() -> None:
    x = torch.arange(40.0).expand(200, 40)[..., None].clone()
    x[:, :8] = x[:, 30:] = math.nan
    out = seeded(Permutation(6), x)[:, 8:30, 0]
    assert torch.equal(out.sort(dim=1).values, torch.arange(8.0, 30).expand(200, 22))
    assert (out.diff(dim=1) != 1).any()


def test_a_time_mask_hides_a_stretch_of_the_share_that_was_asked_for() -> None:
    hidden = seeded(TimeMask(0.25), torch.ones(3000, 40, 2)) == 0
    assert torch.equal(hidden[..., 0], hidden[..., 1])
    assert (hidden[..., 0].sum(dim=1) == 10).all()
    assert (hidden[..., 0].int().diff(dim=1).abs().sum(dim=1) <= 2).all()
    assert hidden[:, 0].any()
    assert hidden[:, -1].any()


def test_a_time_mask_measures_its_share_of_what_is_no_padding() -> None:
    x = torch.ones(100, 40, 1)
    x[:, 20:] = math.nan
    assert (seeded(TimeMask(0.5), x) == 0).sum(dim=1).unique().tolist() == [10]


def test_channel_dropout_leaves_one_channel() -> None:
    gone = (seeded(ChannelDropout(1.0), torch.ones(500, 3, 4)) == 0).all(dim=1)
    assert gone.sum(dim=1).unique().tolist() == [3]
    assert (seeded(ChannelDropout(0.5), torch.ones(500, 3, 1)) == 1).all()
    share = (seeded(ChannelDropout(0.2), torch.ones(4000, 1, 8)) == 0).float().mean()
    assert share == pytest.approx(0.2, abs=0.01)


def spectrum(x: Tensor) -> np.ndarray:
    return np.fft.rfft(x.numpy(), axis=1)


def test_a_frequency_mask_takes_out_frequencies_and_leaves_the_others() -> None:
    x = series(200, 64, 2)
    before, after = spectrum(x), spectrum(seeded(FrequencyMask(0.3), x))
    gone = np.abs(after) < 1e-4
    assert np.array_equal(gone[..., 0], gone[..., 1])
    assert np.allclose(after[~gone], before[~gone], atol=1e-3)
    assert not gone[:, 0].any()
    assert gone[:, 1:].mean() == pytest.approx(0.3, abs=0.02)


def test_a_mixture_of_frequencies_comes_from_one_other_series() -> None:
    x = series(8, 33, 2)
    before, after = spectrum(x), spectrum(seeded(FrequencyMix(0.4), x))
    donors = []
    for i in range(8):
        other = ~np.isclose(after[i], before[i], atol=1e-3).all(axis=1)
        assert 0 < other.sum() < 17
        donors += [j for j in range(8) if np.allclose(after[i][other], before[j][other], atol=1e-3)]
    assert sorted(donors) == list(range(8))  # each gives to one other
    assert all(donor != i for i, donor in enumerate(donors))


def test_missing_values_give_nothing_to_a_mixture() -> None:
    x = series(2, 32, 1)
    x[1, 10:26] = math.nan
    filled = x.clone()
    filled[1, 10:26] = x[1].nanmean()
    assert torch.allclose(seeded(FrequencyMix(0.5), x)[0], seeded(FrequencyMix(0.5), filled)[0], atol=1e-5)


@pytest.mark.parametrize(("measured", "mixed"), [(0, False), (4, False), (19, False), (20, True), (40, True)])
def test_a_series_that_measured_little_gives_no_frequencies(measured: int, mixed: bool) -> None:
    x = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(0))
    x[1, measured:, 0] = math.nan
    y = seeded(FrequencyMix(1.0), x)
    assert torch.allclose(y[0, :, 0], x[0, :, 0], atol=1e-5) != mixed
    assert not torch.allclose(y[0, :, 1], x[0, :, 1], atol=0.1)  # which both measured


def test_a_rotation_keeps_lengths_and_angles_and_turns_all_sensors_alike() -> None:
    x = series(300, 10, 6)
    x[:, :, 3:] = 2 * x[:, :, :3]
    out = seeded(Rotation(), x)
    assert torch.allclose(out[..., :3].norm(dim=-1), x[..., :3].norm(dim=-1), atol=1e-4)
    assert torch.allclose(out[..., 3:], 2 * out[..., :3], atol=1e-4)
    a, b = out[:, 0, :3], out[:, 1, :3]
    assert torch.allclose((a * b).sum(-1), (x[:, 0, :3] * x[:, 1, :3]).sum(-1), atol=1e-3)
    volume = torch.linalg.det(out[:, :3, :3])
    assert torch.allclose(volume, torch.linalg.det(x[:, :3, :3]), atol=1e-3)  # turned, not mirrored


def test_a_rotation_turns_by_the_angle_that_was_asked_for_at_most() -> None:
    matrix = Rotation(30).draw(torch.zeros(5000, 1, 3))
    angle = torch.rad2deg((((matrix.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1)).acos())
    assert angle.max() <= 30.1
    assert angle.mean() == pytest.approx(15, abs=0.6)


def test_a_turned_axis_is_missing_where_it_depends_on_a_missing_one() -> None:
    x = series(4, 10, 6)
    x[:, 3, 1] = math.nan
    out = seeded(Rotation(), x)
    assert out[:, 3, :3].isnan().all()
    assert out.isnan().sum() == 4 * 3


def test_a_rotation_turns_the_channels_that_are_named() -> None:
    x = series(4, 10, 5)
    out = seeded(Rotation(sensors=((4, 0, 2),)), x)
    assert torch.equal(out[..., [1, 3]], x[..., [1, 3]])
    assert torch.equal(out[..., [4, 0, 2]], seeded(Rotation(), x[..., [4, 0, 2]]))


def test_views_are_two_independent_draws_or_a_weak_and_a_strong_one() -> None:
    x = series()
    same = SeriesViews(WeakView())(x)
    assert len(same) == 2
    assert not torch.equal(same[0], same[1])
    x = torch.arange(60.0).expand(16, 60)[..., None]
    weak, strong = SeriesViews(WeakView(0, 0.001), StrongView(8, 0.001))(x)
    assert (weak.diff(dim=1) > 0.9).all()
    assert not (strong.diff(dim=1) > 0.9).all()


def test_a_view_tells_what_it_is() -> None:
    assert repr(StrongView(5, 0.1)) == "StrongView(max_segments=5, jitter=0.1)"
    assert repr(Pipeline((Jitter(0.1), TimeMask()))) == (
        "Pipeline(steps=(Jitter(sigma=0.1), TimeMask(share=0.2, stretches=1)))"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Jitter(-1), "sigma must be at least 0, got -1"),
        (lambda: Scaling(-0.1), "sigma must be at least 0, got -0.1"),
        (lambda: MagnitudeWarp(0.2, knots=1), "knots must be at least 2, got 1"),
        (lambda: TimeWarp(0.2, knots=0), "knots must be at least 2, got 0"),
        (lambda: CropResize((0.0, 1.0)), r"scale must be \(smallest, largest\).*got \(0.0, 1.0\)"),
        (lambda: Permutation(0), "max_segments must be at least 1, got 0"),
        (lambda: TimeMask(1.5), r"share must lie in \[0, 1\], got 1.5"),
        (lambda: TimeMask(0.5, stretches=0), "stretches must be at least 1, got 0"),
        (lambda: ChannelDropout(2), r"p must lie in \[0, 1\], got 2"),
        (lambda: FrequencyMask(-1), r"share must lie in \[0, 1\], got -1"),
        (lambda: FrequencyMix(3), r"share must lie in \[0, 1\], got 3"),
        (lambda: Rotation(181), r"angle must lie in \[0, 180\], got 181"),
        (lambda: Rotation(sensors=((0, 1, 1),)), "triples of different channels"),
        (lambda: WeakView(-1), "sigma must be at least 0"),
        (lambda: StrongView(0), "max_segments must be at least 1"),
        (lambda: Rotation()(series(2, 5, 4)), "4 channels are no sensors of three axes: .* data.channels"),
        (lambda: Rotation(sensors=((0, 1, 7),))(series(2, 5, 4)), "channels that series with 4 channels do not have"),
    ],
)
def test_impossible_settings_are_refused(make: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_batch_in_pieces_keeps_its_rows_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    x = series(13)
    monkeypatch.setattr(steps, "PIECE", 4 * x[0].numel() // torch.get_num_threads())
    assert [part.start for part in steps.pieces(x)] == [0, 4, 8, 12]
    for step in IDENTITIES:
        assert torch.allclose(step(x), x, atol=1e-5), step


def test_series_are_mixed_over_the_whole_batch_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x = series(13)
    x[3, 5:9] = float("nan")
    whole = seeded(MIXING, x)
    monkeypatch.setattr(steps, "PIECE", 1)
    assert torch.allclose(seeded(MIXING, x), whole, atol=1e-5, equal_nan=True)
    assert torch.allclose(seeded(Pipeline((Pipeline((MIXING,)),)), x), whole, atol=1e-5, equal_nan=True)
    both = seeded(Pipeline((TimeMask(0.5), MIXING, Scaling(0.3))), x)
    assert both.isnan().equal(x.isnan())
    assert not torch.allclose(both.nan_to_num(), x.nan_to_num(), atol=0.1)


@pytest.mark.parametrize("step", MOVING, ids=name)
def test_with_and_without_a_gap_elsewhere_a_series_moves_alike(step: Step) -> None:
    x = series(4)
    gappy = x.clone()
    gappy[2, 20:30] = float("nan")  # takes the way that knows of missing values, for all four
    drawn = step.draw(x)
    rows = [0, 1, 3]
    assert torch.allclose(step.apply(gappy, drawn)[rows], step.apply(x, drawn)[rows], atol=1e-5)
