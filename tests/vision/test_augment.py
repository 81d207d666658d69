"""What every augmentation of images must do, one by one and as views."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mmssl.vision import blur, colour, geometry, steps
from mmssl.vision.augment import (
    BYOLViews,
    ColourJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    MAEViews,
    MultiCropViews,
    Normalise,
    Pipeline,
    RandomResizedCropFlip,
    SimCLRViews,
    Solarize,
    Step,
)

STEPS: list[Step] = [
    RandomResizedCropFlip(12),
    ColourJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    Grayscale(p=0.5),
    GaussianBlur(p=0.5),
    Solarize(p=0.5),
    HorizontalFlip(p=0.5),
    Pipeline((RandomResizedCropFlip(12), ColourJitter(0.8, 0.8, 0.8, 0.2), GaussianBlur(kernel=5))),
]
IDENTITIES: list[Step] = [
    RandomResizedCropFlip(16, scale=(1, 1), ratio=(1, 1), flip=0),
    ColourJitter(),
    ColourJitter(0.8, 0.8, 0.8, 0.2, p=0),
    Grayscale(p=0),
    GaussianBlur(sigma=(0, 0), p=1),
    GaussianBlur(kernel=1, p=1),
    GaussianBlur(p=0),
    Solarize(p=0),
    Solarize(threshold=1.1, p=1),
    HorizontalFlip(p=0),
    Normalise(mean=(0, 0, 0), std=(1, 1, 1)),
    Pipeline(()),
]
VIEWS = [
    SimCLRViews(12, mean=(0.5,) * 3, std=(0.2,) * 3),
    BYOLViews(12),
    MultiCropViews(12, 6, local=3, solarize=(0, 0.2, 0.1)),
]


def name(step: object) -> str:
    return type(step).__name__


def images(b: int = 32, channels: int = 3, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(b + channels)
    return torch.randint(0, 256, (b, channels, size, size), dtype=torch.uint8, generator=generator)


def seeded(step: Step, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return step(x)


@pytest.mark.parametrize("step", STEPS, ids=name)
class TestEveryStep:
    def test_leaves_its_input_alone(self, step: Step) -> None:
        for x in (images(), images().float() / 255):
            before = x.clone()
            seeded(step, x)
            assert torch.equal(x, before)

    def test_changes_something_and_stays_between_0_and_1(self, step: Step) -> None:
        x = images()
        out = seeded(step, x)
        assert out.dtype == torch.float32
        assert out.min() >= -1e-6
        assert out.max() <= 1 + 1e-6
        assert out.shape[2:] != x.shape[2:] or not torch.allclose(out, x / 255, atol=0.01)

    def test_is_repeated_by_the_seed_and_differs_without_it(self, step: Step) -> None:
        x = images()
        first, again = seeded(step, x), seeded(step, x)
        assert torch.equal(first, again)
        assert not torch.equal(step(x), first)

    def test_treats_rows_independently(self, step: Step) -> None:
        x = images()
        other = x.clone()
        other[5] = 255 - other[5]
        first, second = seeded(step, x), seeded(step, other)
        same = torch.arange(len(x)) != 5
        assert torch.equal(first[same], second[same])
        assert not torch.equal(first[5], second[5])

    def test_draws_other_numbers_for_each_row(self, step: Step) -> None:
        out = seeded(step, images(1).expand(64, -1, -1, -1))
        assert len(out.flatten(1).unique(dim=0)) > 1

    def test_gives_the_same_for_bytes_and_floats(self, step: Step) -> None:
        x = images()
        out = seeded(step, x)
        assert torch.allclose(seeded(step, x / 255), out, atol=1e-6)
        assert torch.allclose(seeded(step, x.double() / 255), out, atol=1e-6)
        assert torch.allclose(seeded(step, (x / 255).contiguous(memory_format=torch.channels_last)), out, atol=1e-6)
        half = (x / 255).bfloat16()
        assert torch.equal(seeded(step, half), seeded(step, half.float()))

    def test_takes_any_number_of_channels(self, step: Step) -> None:
        for channels in (1, 5):
            out = seeded(step, images(channels=channels))
            assert out.shape[:2] == (32, channels)
            assert out.isfinite().all()

    def test_takes_one_image(self, step: Step) -> None:
        assert seeded(step, images(1)).shape[:2] == (1, 3)

    def test_keeps_all_digits_under_autocast_and_records_no_gradient(self, step: Step) -> None:
        x = (images() / 255).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = seeded(step, x)
        assert torch.equal(inside, seeded(step, x))
        assert not inside.requires_grad

    def test_does_not_depend_on_how_many_images_are_worked_on_at_a_time(
        self, step: Step, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = images()
        whole = seeded(step, x)
        monkeypatch.setattr(steps, "PIECE", 3 * x[0].numel())
        assert torch.allclose(seeded(step, x), whole, atol=1e-6)

    def test_gives_the_same_where_all_rows_are_computed_as_on_a_gpu(
        self, step: Step, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = images()
        few = seeded(step, x)
        for module in (blur, colour, geometry):
            monkeypatch.setattr(module, "where_chosen", steps.change_all)
        assert torch.allclose(seeded(step, x), few, atol=1e-6)

    def test_refuses_what_is_no_batch_of_images(self, step: Step) -> None:
        with pytest.raises(ValueError, match=r"expected a batch of images \(B, C, H, W\).*got \(3, 16, 16\)"):
            step(images()[0])
        with pytest.raises(ValueError, match="at least one pixel"):
            step(images()[:, :, :0])
        with pytest.raises(ValueError, match=r"uint8, or floats in \[0, 1\], got torch.int16"):
            step(images().to(torch.int16))


@pytest.mark.parametrize("step", STEPS, ids=name)
def test_a_nan_stays_in_its_image(step: Step) -> None:
    x = images() / 255
    broken = x.clone()
    broken[5, 0, 8, 8] = torch.nan
    expected, out = seeded(step, x), seeded(step, broken)
    same = torch.arange(len(x)) != 5
    assert torch.equal(out[same], expected[same])


def test_a_nan_reaches_only_the_pixels_that_are_made_of_it() -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 8, 8] = torch.nan
    assert GaussianBlur(kernel=3, p=1)(x).isnan().sum() == 3 * 3
    assert RandomResizedCropFlip(16, scale=(1, 1), flip=0)(x).isnan().sum() <= 2 * 2
    assert HorizontalFlip(p=1)(x).isnan().sum() == 1
    assert Solarize(p=1)(x).isnan().sum() == 1


@pytest.mark.parametrize("step", IDENTITIES, ids=name)
def test_strength_0_is_the_identity(step: Step) -> None:
    x = images()
    assert torch.equal(seeded(step, x), x.float().mul(1 / 255))
    floats = torch.rand(8, 3, 16, 16)
    out = step(floats)
    assert torch.equal(out, floats)
    assert out.data_ptr() != floats.data_ptr()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("step", STEPS, ids=name)
def test_a_gpu_draws_from_the_same_distribution(step: Step) -> None:
    x = images(4).repeat(500, 1, 1, 1)
    on_cpu, on_gpu = seeded(step, x), seeded(step, x.cuda())
    assert on_gpu.is_cuda
    assert on_gpu.shape == on_cpu.shape
    assert on_gpu.dtype == torch.float32
    for statistic in (Tensor.mean, Tensor.std):
        assert torch.allclose(statistic(on_gpu, dim=0).cpu(), statistic(on_cpu, dim=0), atol=0.06)


def shapes(views: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(view.shape) for view in views]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_views_have_the_size_that_was_asked_for(channels: int) -> None:
    x = images(4, channels, 20)
    assert shapes(SimCLRViews(12)(x)) == [(4, channels, 12, 12)] * 2
    assert shapes(BYOLViews(32)(x)) == [(4, channels, 32, 32)] * 2
    large, small = (4, channels, 12, 12), (4, channels, 6, 6)
    assert shapes(MultiCropViews(12, 6, local=3)(x)) == [large, large, small, small, small]
    assert MAEViews(12)(x).shape == (4, channels, 12, 12)


@pytest.mark.parametrize("views", VIEWS, ids=name)
def test_views_are_repeatable_independent_float32_and_leave_their_input_alone(views: SimCLRViews) -> None:
    x = images()
    before, other = x.clone(), x.clone()
    other[5] = 255 - other[5]
    torch.manual_seed(0)
    first = views(x)
    torch.manual_seed(0)
    second = views(other)
    assert torch.equal(x, before)
    same = torch.arange(len(x)) != 5
    for a, b in zip(first, second, strict=True):
        assert a.dtype == torch.float32
        assert a.is_contiguous()
        assert torch.equal(a[same], b[same])
        assert not torch.equal(a[5], b[5])
    assert not torch.equal(first[0], first[1])


def test_views_never_wait_for_a_gpu() -> None:
    views = MultiCropViews(12, 6, solarize=(0, 0.2, 0.1), mean=(0.5,) * 3, std=(0.2,) * 3)
    with FakeTensorMode():  # tensors without values: to ask for one is an error
        out = views(torch.empty(4, 3, 16, 16, dtype=torch.uint8, device="cuda"))
    assert all(view.device.type == "cuda" for view in out)


def test_views_with_everything_switched_off_are_the_standardised_image() -> None:
    x = images()
    whole = {"scale": (1.0, 1.0), "flip": 0.0, "jitter": (0, 0, 0, 0), "grayscale": 0.0, "blur": 0.0}
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    expected = (x / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    for view in SimCLRViews(16, mean=mean, std=std, **whole)(x):  # type: ignore[arg-type]
        assert torch.allclose(view, expected, atol=1e-5)
    assert torch.equal(MAEViews(16, scale=(1, 1), flip=0)(x), x.float().mul(1 / 255))


def test_two_views_of_simclr_come_from_one_distribution() -> None:
    first, second = SimCLRViews(8)(images(1, size=16).repeat(4000, 1, 1, 1))
    assert torch.allclose(first.mean(0), second.mean(0), atol=0.03)
    assert torch.allclose(first.std(0), second.std(0), atol=0.03)


def test_the_views_of_byol_differ_in_blur_and_solarisation() -> None:
    whole = {"scale": (1.0, 1.0), "flip": 0.0, "jitter": (0.0,) * 4, "grayscale": 0.0}
    x = torch.linspace(0, 1, 16).expand(512, 1, 16, 16)
    first, second = BYOLViews(16, blur=(1.0, 0.0), solarize=(0.0, 1.0), **whole)(x)  # type: ignore[arg-type]
    assert second.max() < 0.51
    assert first.max() > 0.9
    assert first[:, 0, 0, 0].mean() > second[:, 0, 0, 0].mean()  # the dark edge is blurred with its neighbours


def test_small_views_show_less_than_large_ones() -> None:
    ramp = torch.linspace(0, 1, 64).expand(256, 1, 64, 64)
    off = {"jitter": (0.0,) * 4, "grayscale": 0.0, "blur": (0.0,) * 3}
    views = MultiCropViews(32, 16, global_scale=(0.5, 1), local_scale=(0.05, 0.1), **off)(ramp)  # type: ignore[arg-type]
    widths = [float((view.amax(dim=(1, 2, 3)) - view.amin(dim=(1, 2, 3))).mean()) for view in views]
    assert min(widths[:2]) > 0.7
    assert max(widths[2:]) < 0.35


def test_a_repr_tells_all_numbers() -> None:
    assert repr(GaussianBlur(kernel=3)) == "GaussianBlur(sigma=(0.1, 2.0), kernel=3, p=0.5)"
    assert "scale=(0.2, 1.0)" in repr(SimCLRViews(32))
    assert SimCLRViews(32) == SimCLRViews(32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCropFlip(0), "size must be at least 1 pixel, got 0"),
        (lambda: RandomResizedCropFlip(8, scale=(1, 0.2)), r"scale must be \(smallest, largest\).*got \(1, 0.2\)"),
        (lambda: RandomResizedCropFlip(8, scale=(0.2, 1.5)), "from 0 to 1"),
        (lambda: RandomResizedCropFlip(8, scale=(0, 1)), "scale and ratio must be positive"),
        (lambda: RandomResizedCropFlip(8, ratio=(2, 1)), "ratio must be"),
        (lambda: RandomResizedCropFlip(8, flip=1.5), r"flip is a probability and must lie in \[0, 1\], got 1.5"),
        (lambda: ColourJitter(brightness=-1), "brightness is a strength and must be at least 0, got -1"),
        (lambda: ColourJitter(hue=0.6), r"hue must lie in \[0, 0.5\] turns, got 0.6"),
        (lambda: ColourJitter(p=-0.1), "p is a probability"),
        (lambda: Grayscale(p=2), "p is a probability"),
        (lambda: GaussianBlur(sigma=(2, 1)), "sigma must be"),
        (lambda: GaussianBlur(kernel=4), "kernel must be an odd number of pixels, got 4"),
        (lambda: Solarize(p=float("nan")), "p is a probability"),
        (lambda: HorizontalFlip(p=2), "p is a probability"),
        (lambda: Normalise((0.5,), (0.5, 0.5)), "one mean and one std a channel"),
        (lambda: Normalise((0.5,), (0.0,)), "std must be positive"),
        (lambda: Normalise((0.5,), (0.5,))(images()), "images have 3 channels, mean and std are for 1"),
        (lambda: SimCLRViews(0), "size must be at least 1"),
        (lambda: SimCLRViews(8, blur=2), "p is a probability"),
        (lambda: SimCLRViews(8, jitter=(0.4, 0.4, 0.4)), "jitter must be"),
        (lambda: SimCLRViews(8, mean=(0.5,)), "mean and std must be given together"),
        (lambda: BYOLViews(8, blur=(1, 0, 0)), r"blur must be \(first, second\), got \(1, 0, 0\)"),
        (lambda: MultiCropViews(8, 4, solarize=(1, 0)), r"solarize must be \(first, second, small\)"),
        (lambda: MultiCropViews(8, 0), "size must be at least 1"),
        (lambda: MultiCropViews(8, 4, local=0), "local must be at least 1 small view, got 0"),
        (lambda: MAEViews(8, scale=(1, 0.5)), "scale must be"),
    ],
)
def test_a_bad_value_is_refused_with_its_name(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
