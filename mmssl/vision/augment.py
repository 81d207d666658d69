"""Views of images for self-supervised learning, and the augmentations that they are made of.

    views = SimCLRViews(32, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    first, second = views(x)  # (B, 3, H, W) uint8 to twice (B, 3, 32, 32) float32

Everything works on whole batches, on the device where they are, with random numbers of each image's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from torch import Tensor

from mmssl.vision.blur import GaussianBlur
from mmssl.vision.colour import ColourJitter, Grayscale, Normalise, Solarize
from mmssl.vision.geometry import HorizontalFlip, RandomResizedCropFlip
from mmssl.vision.steps import Pipeline, Step, exact

__all__ = [
    "BYOLViews",
    "ColourJitter",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "MAEViews",
    "MultiCropViews",
    "Normalise",
    "Pipeline",
    "RandomResizedCropFlip",
    "SimCLRViews",
    "Solarize",
    "Step",
]


@dataclass(frozen=True, kw_only=True)
class Views:
    """The numbers that describe the views of every method; each has its own defaults.

    Args:
        flip: probability of a mirror image; 0 where left and right mean something, as in digits.
        jitter: strengths of brightness, contrast, saturation and hue, see `ColourJitter`.
        jitter_p: probability of the colour jitter.
        grayscale: probability of a grey image.
        sigma: range of the blur, in pixels.
        kernel: of the blur, see `GaussianBlur`.
        mean: of each channel, to standardise with; None for views in [0, 1].
        std: likewise.
    """

    flip: float = 0.5
    jitter: Sequence[float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: float = 0.8
    grayscale: float = 0.2
    sigma: Sequence[float] = (0.1, 2.0)
    kernel: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The views of images ``(B, C, H, W)``, uint8 or floats in [0, 1]: each a float32 tensor of B rows."""
        with exact(x):
            return self.make(x)

    def make(self, x: Tensor) -> list[Tensor]:
        """The views, without gradients and autocast."""
        raise NotImplementedError

    def _colours(self) -> Pipeline:
        """What comes between the crop and the blur."""
        if len(self.jitter) != 4:
            raise ValueError(f"jitter must be (brightness, contrast, saturation, hue), got {tuple(self.jitter)}")
        brightness, contrast, saturation, hue = self.jitter
        return used(ColourJitter(brightness, contrast, saturation, hue, self.jitter_p), Grayscale(self.grayscale))

    def _finish(self, blur: float, solarize: float = 0.0) -> Pipeline:
        """What comes last; ``blur`` and ``solarize`` are probabilities."""
        steps = used(GaussianBlur(self.sigma, self.kernel, blur), Solarize(p=solarize)).steps
        return Pipeline((*steps, *standardise(self.mean, self.std)))


@dataclass(frozen=True)
class SimCLRViews(Views):
    """Two views of the same distribution (Chen et al. 2020, arXiv 2002.05709); also those of MoCo v2 and SimSiam.

    The defaults are MoCo v2's. SimCLR on ImageNet: ``scale=(0.08, 1), jitter=(0.8, 0.8, 0.8, 0.2)``; on CIFAR:
    ``scale=(0.08, 1), blur=0``; lightly's CIFAR figures: ``blur=0``.

    Args:
        size: pixels of a side of a view.
        scale: area of a crop as a share of the image.
        blur: probability of the blur.
    """

    size: int
    _: KW_ONLY
    scale: Sequence[float] = (0.2, 1.0)
    blur: float = 0.5

    def __post_init__(self) -> None:
        _ = self.crop, self.after  # complain of bad values now

    @cached_property
    def crop(self) -> RandomResizedCropFlip:
        return RandomResizedCropFlip(self.size, self.scale, flip=self.flip)

    @cached_property
    def after(self) -> Pipeline:
        return Pipeline((self._colours(), self._finish(self.blur)))

    def make(self, x: Tensor) -> list[Tensor]:
        return list(self.after.apply(self.crop.views(x, 2)).chunk(2))


@dataclass(frozen=True)
class BYOLViews(Views):
    """Two views that differ in blur and solarisation (Grill et al. 2020, arXiv 2006.07733, table 6).

    Also those of Barlow Twins, VICReg and MoCo v3.

    Args:
        size: pixels of a side of a view.
        scale: area of a crop as a share of the image.
        blur: probability of the blur in the first and in the second view.
        solarize: likewise, of solarisation.
    """

    size: int
    _: KW_ONLY
    scale: Sequence[float] = (0.08, 1.0)
    jitter: Sequence[float] = (0.4, 0.4, 0.2, 0.1)
    blur: Sequence[float] = (1.0, 0.1)
    solarize: Sequence[float] = (0.0, 0.2)

    def __post_init__(self) -> None:
        _ = self.crop, self.colours, self.finish

    @cached_property
    def crop(self) -> RandomResizedCropFlip:
        return RandomResizedCropFlip(self.size, self.scale, flip=self.flip)

    @cached_property
    def colours(self) -> Pipeline:
        return self._colours()

    @cached_property
    def finish(self) -> list[Pipeline]:
        check_length("blur", self.blur, "(first, second)")
        check_length("solarize", self.solarize, "(first, second)")
        return [self._finish(blur, solarize) for blur, solarize in zip(self.blur, self.solarize, strict=True)]

    def make(self, x: Tensor) -> list[Tensor]:
        rows = self.colours.apply(self.crop.views(x, 2))
        return [finish.apply(view) for finish, view in zip(self.finish, rows.chunk(2), strict=True)]


@dataclass(frozen=True)
class MultiCropViews(Views):
    """Two large views and several small ones (Caron et al. 2020, arXiv 2006.09882): ``[2 large, then the small]``.

    The defaults are SwAV's. DINO (arXiv 2104.14294): ``local=8, global_scale=(0.4, 1), local_scale=(0.05, 0.4),
    jitter=(0.4, 0.4, 0.2, 0.1), blur=(1.0, 0.1, 0.5), solarize=(0, 0.2, 0)``.

    Args:
        size: pixels of a side of a large view; 224 in the papers.
        local_size: of a small view; 96 in the papers.
        local: number of small views.
        global_scale: area of a large view's crop as a share of the image.
        local_scale: of a small view's.
        blur: probability of the blur in the first, the second, and all small views.
        solarize: likewise, of solarisation.
    """

    size: int
    local_size: int
    _: KW_ONLY
    local: int = 6
    global_scale: Sequence[float] = (0.14, 1.0)
    local_scale: Sequence[float] = (0.05, 0.14)
    jitter: Sequence[float] = (0.8, 0.8, 0.8, 0.2)
    blur: Sequence[float] = (0.5, 0.5, 0.5)
    solarize: Sequence[float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.local < 1:
            raise ValueError(f"local must be at least 1 small view, got {self.local}: use BYOLViews for none")
        _ = self.crops, self.colours, self.finish

    @cached_property
    def crops(self) -> tuple[RandomResizedCropFlip, RandomResizedCropFlip]:
        return (
            RandomResizedCropFlip(self.size, self.global_scale, flip=self.flip),
            RandomResizedCropFlip(self.local_size, self.local_scale, flip=self.flip),
        )

    @cached_property
    def colours(self) -> Pipeline:
        return self._colours()

    @cached_property
    def finish(self) -> list[Pipeline]:
        check_length("blur", self.blur, "(first, second, small)")
        check_length("solarize", self.solarize, "(first, second, small)")
        return [self._finish(blur, solarize) for blur, solarize in zip(self.blur, self.solarize, strict=True)]

    def make(self, x: Tensor) -> list[Tensor]:
        large = self.colours.apply(self.crops[0].views(x, 2)).chunk(2)
        small = self.colours.apply(self.crops[1].views(x, self.local))
        first, second, third = self.finish
        return [first.apply(large[0]), second.apply(large[1]), *third.apply(small).chunk(self.local)]


@dataclass(frozen=True)
class MAEViews:
    """The one view of a masked autoencoder, a crop and a flip (He et al. 2021, arXiv 2111.06377): a single tensor.

    Bilinear where the authors resize bicubically.

    Args:
        size: pixels of a side of the view.
        scale: area of a crop as a share of the image.
        flip: probability of a mirror image.
        mean: of each channel, to standardise with; None for a view in [0, 1].
        std: likewise.
    """

    size: int
    _: KW_ONLY
    scale: Sequence[float] = (0.2, 1.0)
    flip: float = 0.5
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        _ = self.crop, self.after

    @cached_property
    def crop(self) -> RandomResizedCropFlip:
        return RandomResizedCropFlip(self.size, self.scale, flip=self.flip)

    @cached_property
    def after(self) -> Pipeline:
        return Pipeline(standardise(self.mean, self.std))

    def __call__(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``, uint8 or floats in [0, 1], to ``(B, C, size, size)`` float32."""
        with exact(x):
            return self.after.apply(self.crop.views(x, 1))


def used(*steps: ColourJitter | Grayscale | GaussianBlur | Solarize) -> Pipeline:
    """Those of ``steps`` that ever happen."""
    return Pipeline(tuple(step for step in steps if step.p > 0))


def standardise(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Step, ...]:
    """The last step, if there is one."""
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std must be given together, got mean={mean} and std={std}")
    return () if mean is None or std is None else (Normalise(mean, std),)


def check_length(name: str, values: Sequence[float], meaning: str) -> None:
    """Raise a ValueError unless there is one of ``values`` for each word of ``meaning``."""
    if len(values) != meaning.count(",") + 1:
        raise ValueError(f"{name} must be {meaning}, got {tuple(values)}")
