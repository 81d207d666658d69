"""Settings that depend on how much data there is: the papers' values at the papers' sizes, and sensible ones at yours.

The published values belong to 1.28 million images and batches of hundreds to thousands. Copied to five thousand
samples they fail quietly: a teacher with momentum 0.996 moves by 8 % in an epoch of 20 steps, and 65,536
prototypes outnumber the samples. Each rule below goes through the published pairs that its docstring names.
"""

from __future__ import annotations

import math


def teacher_momentum(samples: int, batch: int, *, low: float = 0.95, high: float = 0.999) -> float:
    """1 − 1 / (steps an epoch): the teacher looks back one epoch.

    0.9968 for BYOL on ImageNet (313 steps; the paper has 0.996), 0.99 on CIFAR-10 at batch 512 (98 steps; 0.99 in
    published reproductions), 0.95 for five thousand samples at batch 256.
    """
    return min(high, max(low, 1 - batch / samples))


def prototypes(samples: int, *, per_prototype: int, low: int, high: int) -> int:
    """The power of two next below ``samples / per_prototype``, between ``low`` and ``high``."""
    return min(high, max(low, _power_of_two(samples // per_prototype)))


def queue_size(samples: int, batch: int) -> int:
    """About a twelfth of the data as a power of two, two batches at least: 65,536 on ImageNet, 4,096 on CIFAR-10."""
    return min(65_536, max(_power_of_two(samples // 12), _power_of_two(2 * batch)))


def warmup(samples: int, batch: int, steps: int) -> float:
    """Share of the training that the learning rate rises for: ten epochs as published, a tenth of the steps at most."""
    return min(0.1, 10 * max(1, samples // batch) / steps)


def pair_bias(batch: int) -> float:
    """ln(p / (1 − p)) for p = 1 / batch: a sigmoid loss over pairs starts as if it knew how many are positive.

    −9.7 for SigLIP at batch 16,384 (the paper has −10), −6.2 at batch 512.
    """
    return -math.log(max(1, batch - 1))


def _power_of_two(x: int) -> int:
    """The largest one that is not above ``x``, 1 at least."""
    return 1 << max(0, x.bit_length() - 1)
