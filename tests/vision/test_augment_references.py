"""Augmentations against torchvision's, for given parameters, and the distributions that parameters are drawn from."""

from __future__ import annotations

import itertools
import random
from functools import cache

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from mmssl.vision.augment import GaussianBlur, HorizontalFlip, RandomResizedCropFlip, Solarize
from mmssl.vision.blur import blur
from mmssl.vision.colour import luma, scale_colours, turn_hue
from mmssl.vision.geometry import crop_resize, draw_boxes

CPU = torch.device("cpu")


@cache
def photographs() -> Tensor:
    """``(16, 3, 64, 64)`` in [0, 1]: parts of two photographs."""
    rng = random.Random(0)
    parts = []
    for image in load_sample_images().images:
        x = torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
        corners = [(rng.randint(0, 200), rng.randint(0, 400)) for _ in range(8)]
        parts += [tv.resized_crop(x, *corner, 220, 220, [64, 64]) for corner in corners]
    return torch.stack(parts)


@pytest.mark.parametrize("size", [(64, 64), (20, 20), (128, 96)])
def test_crops_are_those_of_torchvision(size: tuple[int, int]) -> None:
    x = photographs()[:, :, :48].contiguous()
    boxes = draw_boxes(len(x), 48, 64, scale=(0.02, 1), ratio=(0.5, 2), device=CPU)
    flip = torch.arange(len(x)) % 2 == 1
    out = crop_resize(x, boxes, size, flip)
    for i, box in enumerate(boxes.tolist()):
        expected = tv.resized_crop(x[i], *box, size=list(size), antialias=True)
        assert torch.allclose(out[i], tv.horizontal_flip(expected) if flip[i] else expected, atol=1e-5)


def test_crops_of_bytes_differ_from_torchvision_by_its_rounding_alone() -> None:
    x = (photographs()[:4] * 255).to(torch.uint8)
    boxes = draw_boxes(4, 64, 64, scale=(0.1, 1), ratio=(0.75, 1.3), device=CPU)
    out = crop_resize(x, boxes, (32, 32), torch.zeros(4, dtype=torch.bool))
    for i, box in enumerate(boxes.tolist()):
        expected = tv.resized_crop(x[i], *box, size=[32, 32], antialias=True) / 255
        assert (out[i] - expected).abs().max() <= 1.5 / 255


def test_several_crops_of_an_image_come_from_that_image() -> None:
    x = torch.arange(5.0).div(10).view(5, 1, 1, 1).expand(5, 1, 8, 8)
    views = RandomResizedCropFlip(4).views(x, 3)
    assert torch.allclose(views[:, 0, 0, 0], torch.arange(5.0).div(10).repeat(3))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 100)])
def test_boxes_have_the_distribution_of_torchvision(height: int, width: int) -> None:
    scale, ratio = (0.2, 1.0), (3 / 4, 4 / 3)
    torch.manual_seed(0)
    ours = draw_boxes(40_000, height, width, scale=scale, ratio=ratio, device=CPU).float()
    image = torch.empty(1, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(8_000)]).float()
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width
    assert ours[:, :2].min() == 0
    error = theirs.std(0) / len(theirs) ** 0.5
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    assert torch.allclose(ours.std(0), theirs.std(0), rtol=0.04)
    deciles = torch.linspace(0.1, 0.9, 9)
    area = [(boxes[:, 2] * boxes[:, 3] / (height * width)).quantile(deciles) for boxes in (ours, theirs)]
    assert torch.allclose(area[0], area[1], atol=0.025)


def test_the_area_of_crops_is_uniform_where_every_box_fits() -> None:
    torch.manual_seed(0)
    boxes = draw_boxes(40_000, 200, 200, scale=(0.1, 0.5), ratio=(3 / 4, 4 / 3), device=CPU).double()
    area = boxes[:, 2] * boxes[:, 3] / 200**2
    ratio = (boxes[:, 3] / boxes[:, 2]).log()
    assert abs(area.mean() - 0.3) < 0.003
    assert abs(area.std() - 0.4 / 12**0.5) < 0.002
    assert abs(ratio.mean()) < 0.005


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (1, 1), (1, 50)])
def test_an_image_that_no_box_fits_gets_torchvisions_central_one(height: int, width: int) -> None:
    ratio = [3 / 4, 4 / 3]
    ours = draw_boxes(3, height, width, scale=(0.99, 1), ratio=ratio, device=CPU)
    theirs = RandomResizedCrop.get_params(torch.empty(1, height, width), [0.99, 1], ratio)
    assert ours.tolist() == [list(theirs)] * 3


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flips_happen_with_their_probability(p: float) -> None:
    torch.manual_seed(0)
    x = torch.tensor([0.0, 1.0]).expand(20_000, 1, 1, 2)
    whole = RandomResizedCropFlip((1, 2), scale=(1, 1), ratio=(2, 2), flip=p)
    for step in (whole, HorizontalFlip(p)):
        flipped = step(x)[:, 0, 0, 0]
        assert torch.equal(flipped, flipped.round())
        assert abs(flipped.mean() - p) < 4 * (0.25 / 20_000) ** 0.5


@pytest.mark.parametrize(("kernel", "sigma"), [(3, 0.1), (3, 2.0), (9, 1.3), (23, 0.5), (23, 2.0)])
def test_blur_is_that_of_torchvision(kernel: int, sigma: float) -> None:
    x = photographs()
    out = GaussianBlur(sigma=(sigma, sigma), kernel=kernel, p=1)(x)
    assert torch.allclose(out, tv.gaussian_blur(x, [kernel, kernel], [sigma, sigma]), atol=1e-4)


def test_each_image_is_blurred_with_its_own_sigma() -> None:
    x = photographs()[:3]
    sigma = torch.tensor([0.3, 1.0, 2.0])
    expected = torch.stack([tv.gaussian_blur(a, [7, 7], [s, s]) for a, s in zip(x, sigma.tolist(), strict=True)])
    assert torch.allclose(blur(x, sigma, 3), expected, atol=1e-6)


def test_the_kernel_may_be_larger_than_the_image() -> None:
    x = torch.rand(4, 2, 3, 1)
    out = GaussianBlur(sigma=(2, 2), kernel=23, p=1)(x)
    assert out.shape == x.shape
    assert torch.allclose(out.mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3)), atol=0.2)
    assert out.std() < x.std()


@pytest.mark.parametrize("turn", [-0.5, -0.2, -0.05, 0.0, 0.1, 0.4, 0.5])
def test_hue_turns_as_in_torchvision(turn: float) -> None:
    x = photographs().clone()
    x[0] = (x[0] > 0.5).float()  # pure colours
    x[1] = x[1, :1]  # grey
    x[2] = (x[2] * 3).round() / 3  # ties between channels
    assert torch.allclose(turn_hue(x, torch.full((len(x),), turn)), tv.adjust_hue(x, turn), atol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.8])
def test_brightness_contrast_and_saturation_are_those_of_torchvision(factor: float) -> None:
    x = photographs()
    one, f = torch.ones(len(x)), torch.full((len(x),), factor)
    assert torch.allclose(scale_colours(x, f, one, one), tv.adjust_brightness(x, factor), atol=1e-6)
    assert torch.allclose(scale_colours(x, one, f, one), tv.adjust_contrast(x, factor), atol=1e-3)
    assert torch.allclose(scale_colours(x, one, one, f), tv.adjust_saturation(x, factor), atol=1e-3)
    grey = x[:, :1]
    assert torch.allclose(scale_colours(grey, one, f, 0 * one), tv.adjust_contrast(grey, factor), atol=1e-6)


def in_order(x: Tensor, order: tuple[int, ...], factors: list[float]) -> Tensor:
    """torchvision's jitter of one image, with given factors in a given order."""
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for i in order:
        x = adjust[i](x, factors[i])
    return x


@pytest.mark.parametrize("strength", [0.4, 0.8])
def test_jitter_is_as_close_to_torchvision_as_two_of_its_orders_are(strength: float) -> None:
    rng = random.Random(0)
    orders = list(itertools.permutations(range(4)))
    ours = theirs = change = 0.0
    x = photographs().repeat(10, 1, 1, 1)
    for i in range(len(x)):
        factors = [rng.uniform(1 - strength, 1 + strength) for _ in range(3)] + [rng.uniform(-0.25, 0.25) * strength]
        first, second = (in_order(x[i], order, factors) for order in rng.sample(orders, 2))
        f = [torch.tensor([factor]) for factor in factors]
        made = scale_colours(turn_hue(x[i : i + 1], f[3]), *f[:3])[0]
        ours += float((made - first).abs().mean())
        theirs += float((second - first).abs().mean())
        change += float((first - x[i]).abs().mean())
    assert ours < 1.2 * theirs
    assert ours < 0.2 * change


def test_contrast_of_many_channels_is_around_the_mean_of_the_image() -> None:
    x = torch.rand(3, 5, 8, 8) * 0.5
    one = torch.ones(3)
    out = scale_colours(x, 1.2 * one, 0.5 * one, 0 * one)
    assert torch.allclose(out, 1.2 * (0.5 * x + 0.5 * x.mean(dim=(1, 2, 3), keepdim=True)), atol=1e-6)


def test_grey_values_and_solarisation_are_those_of_torchvision() -> None:
    x = photographs()
    assert torch.allclose(luma(x), tv.rgb_to_grayscale(x), atol=1e-3)
    assert torch.equal(Solarize(0.5, p=1)(x), tv.solarize(x, 0.5))
