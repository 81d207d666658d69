"""MoCo: negatives come from a queue of earlier keys, which a momentum teacher made.

Versions 1 and 2 (He et al., CVPR 2020, arXiv 1911.05722; Chen et al., arXiv 2003.04297) are `moco`; version 3 (Chen et
al., ICCV 2021, arXiv 2104.02057), which drops the queue for the keys of the batch and adds a predictor, is `moco_v3`.

Differs from the papers:
- the loss is symmetric in `moco`, too: each view is once the query and once the key;
- the teacher's batch normalisation uses averaged statistics, see `mmssl.core.ema.Teacher`. The papers shuffle samples
  between GPUs, because a query could otherwise recognise its key by the statistics that their batch has in common.
"""

from __future__ import annotations

from functools import partial

from mmssl.core.ema import Teacher
from mmssl.core.heads import mlp
from mmssl.core.methods.joint_embedding import JointEmbedding
from mmssl.core.objectives.ntxent import InfoNCE
from mmssl.core.types import Augmentation, Encoder


def moco(
    encoder: Encoder,
    augment: Augmentation,
    *,
    hidden: int | None = None,
    out: int = 128,
    queue: int = 65_536,
    momentum: float = 0.999,
    temperature: float = 0.2,
) -> JointEmbedding:
    """Put MoCo v2 together.

    Args:
        encoder: what is pretrained.
        augment: a batch to two views.
        hidden: width of the projector's hidden layer; the encoder's by default, as in the paper.
        out: size of the embeddings that are compared.
        queue: keys that are kept as negatives; see `scaling.queue_size`.
        momentum: of the teacher, constant; see `scaling.teacher_momentum`.
        temperature: 0.2 in version 2, 0.07 in version 1.
    """
    if queue < 1:
        raise ValueError(f"queue must be at least 1, got {queue}; moco_v3 does without one")
    return JointEmbedding(
        encoder,
        mlp([encoder.dim, hidden or encoder.dim, out], norm=False),
        InfoNCE(dim=out, queue_size=queue, temperature=temperature),
        augment,
        teacher=partial(Teacher, momentum=momentum, final_momentum=momentum, statistics="average"),
    )


def moco_v3(
    encoder: Encoder,
    augment: Augmentation,
    *,
    hidden: int = 4096,
    out: int = 256,
    momentum: float = 0.99,
    temperature: float = 0.2,
) -> JointEmbedding:
    """Put MoCo v3 together; with a vision transformer, freeze the patch embedding (``requires_grad_(False)``).

    Args:
        encoder: what is pretrained.
        augment: a batch to two views.
        hidden: width of the hidden layers of projector and predictor.
        out: size of the embeddings that are compared.
        momentum: of the teacher at the start, rising to 1.
        temperature: 0.2 in the paper for vision transformers, 1 for ResNets.
    """
    return JointEmbedding(
        encoder,
        mlp([encoder.dim, hidden, hidden, out], last_norm=True),
        InfoNCE(dim=out, queue_size=0, temperature=temperature),
        augment,
        predictor=mlp([out, hidden, out], last_norm=True),
        teacher=partial(Teacher, momentum=momentum),
    )
