"""Encoders of series by name, for configurations and saved runs."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.encoders.gru import BiGRU
from mmssl.timeseries.encoders.inception import InceptionTime
from mmssl.timeseries.encoders.patch_transformer import PatchTransformer
from mmssl.timeseries.encoders.resnet1d import ResNet1D
from mmssl.timeseries.encoders.tstcc import ConvEncoder

ENCODERS: dict[str, type[nn.Module]] = {
    "dilated": DilatedConvEncoder,
    "resnet1d": ResNet1D,
    "inception": InceptionTime,
    "gru": BiGRU,
    "patch": PatchTransformer,
    "tstcc": ConvEncoder,
}


def build_encoder(name: str, **arguments: Any) -> nn.Module:
    """One of `ENCODERS`, by its short name or that of its class.

    Raises:
        ValueError: there is no such encoder, or it does not take these arguments.
    """
    for short, encoder in ENCODERS.items():
        if name in (short, encoder.__name__):
            try:
                return encoder(**arguments)
            except TypeError as error:
                raise ValueError(f"encoder {name!r} does not take these settings: {error}") from error
    raise ValueError(f"there is no encoder {name!r} of series; there are {', '.join(ENCODERS)}")
