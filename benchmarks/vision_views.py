"""Two views of each image as SimCLR makes them, against kornia, torchvision on tensors, and torchvision on PIL images.

Everybody gets uint8 images and draws parameters for each image: crop 0.2–1 with bilinear resizing, flip 0.5, jitter
.4/.4/.4/.1 with p 0.8, grayscale 0.2, blur of sigma 0.1–2 with p 0.5 (kernel 3 at 32 pixels, 23 at 224).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmssl.vision.augment import SimCLRViews

SIZES = ((32, 256, 3), (224, 64, 23))  # pixels of a side, batch, kernel of the blur
PASSES = 5
JITTER, SIGMA = (0.4, 0.4, 0.4, 0.1), (0.1, 2.0)


def measure() -> list[dict[str, Any]]:
    """One row a size and peer."""
    return [row for size, batch, kernel in SIZES for row in _one(size, batch, kernel)]


def _one(size: int, batch: int, kernel: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    x = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    views = SimCLRViews(size, jitter=JITTER, sigma=SIGMA, kernel=kernel)
    few = x[: max(8, batch // 16)]  # of those that take images one by one
    contenders: dict[str, tuple[Callable[[], Any], int]] = {"mmssl": (lambda: views(x), batch)}
    if importlib.util.find_spec("kornia"):
        theirs = _kornia(size, kernel)
        contenders["kornia, batched"] = (lambda: _twice(theirs, x.float().div_(255)), batch)
    one_by_one = _torchvision(size, kernel)
    contenders["torchvision v2 on tensors, one by one"] = (lambda: _tensors(one_by_one, few), len(few))
    contenders["torchvision v2 on PIL images, one by one"] = (lambda: _pillow(one_by_one, few), len(few))
    best = _alternate(contenders)
    ours = best.pop("mmssl")
    return [
        {
            "what": f"two SimCLR views, {size} × {size}, batch {batch}, per image",
            "peer": peer,
            "peer_ms": 1e3 * seconds,
            "mmssl_ms": 1e3 * ours,
            "ratio": seconds / ours,
            "peer_images_per_second": 1 / seconds,
            "mmssl_images_per_second": 1 / ours,
        }
        for peer, seconds in best.items()
    ]


def _alternate(contenders: dict[str, tuple[Callable[[], Any], int]]) -> dict[str, float]:
    """Seconds an image, the fastest of several passes in which all take turns."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(PASSES):
        for name, (run, images) in contenders.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], (time.perf_counter() - start) / images)
    return best


def _kornia(size: int, kernel: int) -> nn.Module:
    import kornia.augmentation as K

    return nn.Sequential(
        K.RandomResizedCrop((size, size), scale=(0.2, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*JITTER, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((kernel, kernel), SIGMA, p=0.5),
    )


def _twice(transform: nn.Module, x: Tensor) -> list[Tensor]:
    return [transform(x) for _ in range(2)]  # faster than both views in one pass, at both sizes


def _torchvision(size: int, kernel: int) -> Callable[[Any], Tensor]:
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*JITTER)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(kernel, SIGMA)], p=0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def _tensors(transform: Callable[[Any], Tensor], x: Tensor) -> list[Tensor]:
    return [torch.stack([transform(image) for image in x]) for _ in range(2)]


def _pillow(transform: Callable[[Any], Tensor], x: Tensor) -> list[Tensor]:
    from PIL import Image

    images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in x]
    return [torch.stack([transform(image) for image in images]) for _ in range(2)]


if __name__ == "__main__":
    for row in measure():
        print(row)
