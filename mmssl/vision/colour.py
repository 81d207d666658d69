"""Augmentations that change the values of pixels and not their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl.vision.steps import Step, check_probability, draw_chosen, uniform, where_chosen

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue in a grey value; torchvision's rounding of ITU-R 601


@dataclass(frozen=True)
class ColourJitter(Step):
    """Brightness, contrast, saturation and hue, each by a random amount.

    Each operation is torchvision's: factors uniform in [max(0, 1 - strength), 1 + strength], hue turned in HSV. They
    are put together differently. torchvision applies the four in a random order and clips to [0, 1] after each; here
    hue comes first, the other three, which commute unless something is clipped, are one affine map, and the result is
    clipped once. With the same factors, photographs differ on average by 0.007 from torchvision's at strengths
    (.4, .4, .4, .1) and by 0.020 at (.8, .8, .8, .2), as much as two of torchvision's orders differ from each other
    (0.007 and 0.019), where the jitter itself changes pixels by 0.10 and 0.19.

    On three channels (RGB) all four. On any other number brightness and contrast only, with one factor an image for all
    its channels and contrast around their common mean; saturation and hue mean nothing there and do nothing. A NaN
    makes its whole image NaN where contrast is changed, through the mean.

    Args:
        brightness: strength; 0 for none.
        contrast: likewise.
        saturation: likewise.
        hue: largest turn of the hue, in whole turns, at most 0.5.
        p: probability that an image is changed.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a strength and must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must lie in [0, 0.5] turns, got {self.hue}")
        check_probability("p", self.p)

    def apply(self, x: Tensor) -> Tensor:
        factors = [uniform(x, max(0.0, 1 - s), 1 + s) for s in (self.brightness, self.contrast, self.saturation)]
        turn = uniform(x, -self.hue, self.hue)
        return where_chosen(draw_chosen(x, self.p), self._change, x, *factors, turn)

    def _change(self, x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, turn: Tensor) -> Tensor:
        if self.hue and x.shape[1] == 3:
            x = turn_hue(x, turn)
        return scale_colours(x, brightness, contrast, saturation)


@dataclass(frozen=True)
class Grayscale(Step):
    """Colours replaced by their grey value (ITU-R 601) in all three channels; other than three channels are left alone.

    Args:
        p: probability.
    """

    p: float = 0.2

    def __post_init__(self) -> None:
        check_probability("p", self.p)

    def apply(self, x: Tensor) -> Tensor:
        chosen = draw_chosen(x, self.p)
        return where_chosen(chosen, lambda rows: luma(rows).expand_as(rows), x) if x.shape[1] == 3 else x


@dataclass(frozen=True)
class Solarize(Step):
    """Values from the threshold on inverted, x → 1 - x. Any number of channels.

    Args:
        threshold: 1/2 in BYOL, 128 of 255.
        p: probability.
    """

    threshold: float = 0.5
    p: float = 0.2

    def __post_init__(self) -> None:
        check_probability("p", self.p)

    def apply(self, x: Tensor) -> Tensor:
        chosen = draw_chosen(x, self.p)
        return where_chosen(chosen, lambda rows: torch.where(rows >= self.threshold, 1 - rows, rows), x)


@dataclass(frozen=True)
class Normalise(Step):
    """(x - mean) / std, channel by channel.

    Args:
        mean: one number a channel, on the scale on which images are 0 to 1.
        std: likewise, positive.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not len(self.mean):
            raise ValueError(f"one mean and one std a channel are needed, got {self.mean} and {self.std}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}: take 1 for a constant channel")

    def apply(self, x: Tensor) -> Tensor:
        if x.shape[1] != len(self.mean):
            raise ValueError(f"images have {x.shape[1]} channels, mean and std are for {len(self.mean)}")
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):  # numbers: no copy to the device
            x[:, channel].sub_(mean).div_(std)
        return x


def luma(x: Tensor) -> Tensor:
    """Grey value ``(B, 1, H, W)`` of RGB images ``(B, 3, H, W)``."""
    red, green, blue = x.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def scale_colours(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """brightness · (contrast · S(x) + (1 - contrast) · mean), clipped to [0, 1].

    S(x) = saturation · x + (1 - saturation) · grey(x), and the mean is of grey(x) over the image.

    Args:
        x: ``(B, C, H, W)`` float32.
        brightness: ``(B,)``, and so are the others; 1 changes nothing.
        contrast: 0 makes an image evenly grey.
        saturation: 0 takes all colour; ignored unless C = 3.
    """
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1) for f in (brightness, contrast, saturation))
    scale = brightness * contrast
    if x.shape[1] != 3:
        offset = brightness * (1 - contrast) * x.mean(dim=(1, 2, 3), keepdim=True)
        return x.mul(scale).add_(offset).clamp_(0, 1)
    grey = luma(x)
    offset = brightness * (1 - contrast) * grey.mean(dim=(2, 3), keepdim=True)
    grey.mul_(scale * (1 - saturation)).add_(offset)
    return x.mul(scale * saturation).add_(grey).clamp_(0, 1)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Hue moved by ``turn`` ``(B,)`` whole turns in HSV, |turn| ≤ 1/2; ``x`` is ``(B, 3, H, W)``.

    Let hue run from -3 to 3, with red at 0, green at 2 and blue at -2. A channel is at the largest of the three values
    up to a distance of 1 from its own hue, at the smallest from a distance of 2 on, and linear between; turning keeps
    largest and smallest. Backwards, a pixel is (largest + green + blue - red - 2 · smallest) / (largest - smallest)
    away from red, on green's side if there is more green than blue.
    """
    red, green, blue = x.unbind(1)
    low = red.minimum(green).minimum(blue)
    chroma = red.maximum(green).maximum(blue).sub_(low)
    hue = (green + blue).sub_(red).sub_(low).add_(chroma).copysign_(green - blue)
    hue.div_(chroma.clamp(min=torch.finfo(x.dtype).tiny)).add_(6 * turn[:, None, None])
    hue.sub_((hue / 6).round_(), alpha=6)  # into [-3, 3] again
    away = torch.stack([hue, hue - 2, hue + 2], dim=1)  # from each channel's own hue: -5 to 5, and 6 is as near as 0
    nearness = away.abs_().sub_(3).abs_().clamp_(1, 2)  # 3 - distance, between 1 and 2
    return nearness.mul_(chroma[:, None]).add_(low.sub_(chroma)[:, None])
