"""The parameters of an image model, layer by layer from its input to its output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torchvision
from timm.models import group_parameters
from torch import nn


def layers(model: Any) -> list[list[nn.Parameter]]:
    """The stem first, then one list a block; what follows the last block, such as a norm, belongs to it.

    It is what layer-wise learning rates and partial freezing count in. Models of timm say themselves what their layers
    are; those of torchvision are taken apart.
    """
    if hasattr(model, "group_matcher"):
        groups = group_parameters(model, model.group_matcher(coarse=False))
        return [[model.get_parameter(name) for name in groups[i]] for i in sorted(groups)]
    found: list[list[nn.Parameter]] = []
    in_stem = True
    for part in _parts(model):
        params = [part] if isinstance(part, nn.Parameter) else list(part.parameters())
        single = isinstance(part, nn.Parameter) or not any(part.children())
        only_norm = all(p.ndim == 1 for p in params)
        if found and ((single and in_stem) or only_norm):
            found[-1] += params
        elif params:
            found.append(params)
        in_stem = in_stem and single
    return found


def _parts(module: nn.Module) -> Iterator[nn.Module | nn.Parameter]:
    """Own parameters and children in order, with sequences, and the encoder of a vision transformer, taken apart."""
    yield from module.parameters(recurse=False)
    for child in module.children():
        if type(child) is nn.Sequential or isinstance(child, torchvision.models.vision_transformer.Encoder):
            yield from _parts(child)
        else:
            yield child
