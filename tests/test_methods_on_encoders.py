"""Every method on every encoder of the project: it learns, it resumes, and it says no clearly where it cannot work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmssl.audio.encoder import MelConv, MelTransformer
from mmssl.audio.wav2vec2_encoder import Wav2Vec2Encoder
from mmssl.core.methods.alignment import Alignment, Towers
from mmssl.core.methods.bert import BERT
from mmssl.core.methods.data2vec import Data2Vec
from mmssl.core.methods.mae import MAE
from mmssl.core.objectives.alignment import PairObjective
from mmssl.core.objectives.clip import CLIP
from mmssl.core.objectives.siglip import SigLIP
from mmssl.core.transformer import sincos_1d
from mmssl.tabular.encoder import MLP, FTTransformer
from mmssl.tabular.encoder import ResNet as TableResNet
from mmssl.text.encoder import TextTransformer
from mmssl.timeseries.encoder import DilatedConvEncoder
from mmssl.timeseries.encoders.gru import BiGRU
from mmssl.timeseries.encoders.inception import InceptionTime
from mmssl.timeseries.encoders.patch_transformer import PatchTransformer
from mmssl.timeseries.encoders.resnet1d import ResNet1D
from mmssl.timeseries.encoders.tstcc import ConvEncoder
from mmssl.vision.encoder import build_encoder
from tests.core.methods import JOINT_EMBEDDINGS, Build, noisy_pair
from tests.resume import assert_resumes_bit_for_bit

BATCH = 6


def series() -> Tensor:
    x = torch.randn(BATCH, 12, 3)
    x[0, :3] = float("nan")  # padding
    x[1, 5, 1] = float("nan")  # a missing value
    return x


def rows() -> Tensor:
    x = torch.randn(BATCH, 4)
    x[:, 1] = torch.arange(BATCH) % 3 + 1.0  # codes of categories
    x[0, 0] = x[1, 1] = float("nan")  # missing cells
    return x


def frames() -> Tensor:
    """Log-mels."""
    x = torch.randn(BATCH, 12, 8)
    x[0, 7:] = float("nan")  # after the end of the clip
    return x


def clips() -> Tensor:
    """Waveforms."""
    x = 0.1 * torch.randn(BATCH, 200)
    x[0, 150:] = float("nan")
    return x


def images(channels: int, size: int = 16) -> Callable[[], Tensor]:
    return lambda: torch.randn(BATCH, channels, size, size)


ENCODERS: dict[str, tuple[Callable[[], Any], Callable[[], Tensor]]] = {
    "dilated-conv": (lambda: DilatedConvEncoder(3, dim=10, hidden=6, depth=2, missing="indicator"), series),
    "resnet1d": (lambda: ResNet1D(3, widths=[6, 10]), series),
    "inception": (lambda: InceptionTime(3, hidden=3, depth=4, kernels=[5, 3]), series),
    "gru": (lambda: BiGRU(3, hidden=6, dim=10), series),
    "tstcc-conv": (lambda: ConvEncoder(3, widths=[4, 6, 10]), series),
    "patch-transformer": (lambda: PatchTransformer(3, patch=3, dim=12, depth=2, heads=2), series),
    "shufflenet": (lambda: build_encoder("torchvision:shufflenet_v2_x0_5", size=32), images(3, 32)),
    "timm-resnet": (
        lambda: build_encoder("timm:resnet18", size=16, in_channels=1, channels=[4, 6, 8, 10]),
        images(1),
    ),
    "convnext": (
        lambda: build_encoder("timm:convnext_atto", size=32, in_channels=5, depths=[1, 1, 1, 1], dims=[4, 6, 8, 10]),
        images(5, 32),
    ),
    "vit": (lambda: build_encoder("vit", size=16, patch=4, width=12, depth=2, heads=2), images(3)),
    "table-mlp": (lambda: MLP([0, 3, 0, 0], hidden=10, depth=2), rows),
    "table-resnet": (lambda: TableResNet([0, 3, 0, 0], hidden=10, depth=2), rows),
    "ft-transformer": (lambda: FTTransformer([0, 3, 0, 0], dim=12, depth=2, heads=2), rows),
    "mel-conv": (lambda: MelConv(8, widths=[4, 6], dim=10), frames),
    "mel-transformer": (lambda: MelTransformer(8, patch=[2, 4], dim=12, depth=2, heads=2), frames),
    "wav2vec2": (
        lambda: Wav2Vec2Encoder(
            [[6, 10, 5], [6, 3, 2]], dim=12, depth=2, heads=2, position_kernel=4, position_groups=2, layerdrop=0.0
        ),
        clips,
    ),
}


def mae(encoder: Any, sample: Tensor) -> nn.Module:
    tokens = encoder.tokenize(sample).shape[1]
    return MAE(encoder, positions=sincos_1d(tokens, 8), decoder_dim=8, decoder_depth=1, decoder_heads=2)


def joint(preset: Build) -> Callable[[Any, Tensor], nn.Module]:
    return lambda encoder, _: preset(encoder, noisy_pair)


TEXTS = torch.tensor([[1, 3, 2, 0], [1, 4, 2, 0], [1, 3, 4, 2], [1, 5, 2, 0], [1, 5, 4, 2], [1, 5, 3, 2]])


class WithText(Alignment):
    """Aligns an encoder with a text for each of the batch, which it sees in two parts."""

    def __init__(self, encoder: Any, objective: PairObjective) -> None:
        text = TextTransformer(6, 4, dim=8, depth=1, heads=2, dropout=0.1)
        super().__init__(Towers({"encoder": encoder, "text": text}, dim=8), objective, chunks=2)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return super().forward((batch, TEXTS))


METHODS: dict[str, Callable[[Any, Tensor], nn.Module]] = {
    **{name: joint(preset) for name, preset in JOINT_EMBEDDINGS.items()},
    "mae": mae,
    "bert": lambda encoder, _: BERT(encoder),
    "data2vec": lambda encoder, _: Data2Vec(encoder, top_layers=2),
    "clip": lambda encoder, _: WithText(encoder, CLIP()),
    "siglip": lambda encoder, _: WithText(encoder, SigLIP(bias=-2.0)),
}
TOKENS = ("vit", "dilated-conv", "patch-transformer", "ft-transformer", "mel-transformer", "wav2vec2")
REFUSED = {  # and what the reason names
    ("mae", "dilated-conv"): "use BERT",
    ("mae", "wav2vec2"): "use BERT",
    **{
        (method, encoder): "needs a TokenEncoder"
        for method in ("mae", "bert")
        for encoder in ENCODERS
        if encoder not in TOKENS
    },
    **{("data2vec", encoder): "encode_layers" for encoder in ENCODERS if encoder not in TOKENS},
}
PAIRS = [(method, encoder) for method in METHODS for encoder in ENCODERS if (method, encoder) not in REFUSED]


def build(method: str, encoder: str) -> Any:
    torch.manual_seed(0)
    make, sample = ENCODERS[encoder]
    return METHODS[method](make(), sample())


def batches(encoder: str) -> Callable[[int], Iterator[Tensor]]:
    """Functions of their number."""

    def of(first: int) -> Iterator[Tensor]:
        while True:
            state = torch.get_rng_state()
            torch.manual_seed(first)
            x = ENCODERS[encoder][1]()
            torch.set_rng_state(state)
            yield x
            first += 1

    return of


@pytest.mark.parametrize(("method", "encoder"), PAIRS)
def test_it_has_a_finite_loss_and_a_gradient_in_every_trainable_parameter(method: str, encoder: str) -> None:
    built = build(method, encoder).train()
    x = next(batches(encoder)(0))
    built(x)["loss"].backward()
    built.after_step(1.0, torch.tensor(False))  # what is frozen at first is no longer
    built.zero_grad()
    out = built(x)
    out["loss"].backward()
    assert all(value.isfinite() for value in out.values())
    silent = [
        name
        for name, p in built.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    assert not silent


@pytest.mark.parametrize(("method", "encoder"), PAIRS)
def test_it_resumes_bit_for_bit(method: str, encoder: str, tmp_path: Path) -> None:
    assert_resumes_bit_for_bit(lambda: build(method, encoder), batches(encoder), tmp_path)


@pytest.mark.parametrize(("method", "encoder"), REFUSED)
def test_what_cannot_work_is_refused_with_a_reason(method: str, encoder: str) -> None:
    with pytest.raises((TypeError, ValueError), match=REFUSED[method, encoder]):
        METHODS[method](ENCODERS[encoder][0](), torch.zeros(1)) if method != "mae" else MAE(
            ENCODERS[encoder][0](), positions=sincos_1d(12, 8), decoder_dim=8, decoder_depth=1, decoder_heads=2
        )
