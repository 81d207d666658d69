"""Deep SVDD: a network that maps what is normal near to one point (Ruff et al., ICML 2018).

The network has no biases and no affine normalisation: with either, it could map everything to the centre (propositions
2 and 3 of the paper). The centre is the mean of a first pass, with coordinates pushed away from zero.

Differs from the authors' code in what it is applied to here: embeddings of a pretrained encoder, by a small
perceptron, instead of images by a convolutional network that an autoencoder has pretrained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.core.distributed import gather

NEAR_ZERO = 0.1  # coordinates of the centre are at least this far from 0


def svdd_network(dim: int, *, hidden: int = 128, out: int = 32) -> nn.Module:
    """Perceptron ``(B, dim)`` to ``(B, out)`` without biases, with normalisation that has nothing to learn."""
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden, eps=1e-4, affine=False),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, out, bias=False),
    )


class DeepSVDD(nn.Module):
    """The method, ready for `mmssl.train.fit`: batches are inputs of the network.

    Args:
        network: without biases; gives ``(B, out)``.
        first: all training inputs, or many of them; the centre is the mean of what the untrained network makes of them.
        soft_boundary: learn a radius that a share ``nu`` of the training data may exceed, instead of the one-class
            objective, the mean squared distance to the centre.
        nu: that share.
        warmup: share of the training before the radius first follows the data (10 of 150 epochs in the paper).

    Raises:
        ValueError: the network has a bias, with which it could map everything to the centre.
    """

    centre: Tensor
    radius: Tensor

    def __init__(
        self,
        network: nn.Module,
        first: Tensor,
        *,
        soft_boundary: bool = False,
        nu: float = 0.1,
        warmup: float = 10 / 150,
    ) -> None:
        super().__init__()
        if not 0 < nu < 1:
            raise ValueError(f"nu must lie between 0 and 1, got {nu}")
        if biases := [name for name, _ in network.named_parameters() if name.endswith("bias")]:
            raise ValueError(f"the network of Deep SVDD must have no biases, got {', '.join(biases)}")
        self.encoder = network
        self.soft_boundary = soft_boundary
        self.nu = nu
        self.warmup = warmup
        self.register_buffer("centre", _centre(network, first))
        self.register_buffer("radius", torch.zeros((), device=first.device))
        self._seen: list[Tensor] = []  # squared distances of the step, for the radius

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        distance = self.distance(batch)
        if not self.soft_boundary:
            return {"loss": distance.mean()}
        if self.training:
            self._seen.append(distance.detach())
        excess = F.relu(distance - self.radius**2)
        return {"loss": self.radius**2 + excess.mean() / self.nu, "radius": self.radius.detach()}

    def distance(self, x: Tensor) -> Tensor:
        """Squared distance to the centre: ``(B, …)`` to ``(B,)``, float32."""
        with torch.autocast(x.device.type, enabled=False):
            squared: Tensor = (self.encoder(x.float()) - self.centre).square().sum(dim=1)
            return squared

    def after_step(self, progress: float, skipped: Tensor) -> None:
        """The radius becomes the quantile of the step's distances that a share ``nu`` exceeds."""
        if not self._seen:
            return
        distance = gather(torch.cat(self._seen))
        self._seen.clear()
        if progress >= self.warmup:
            radius = distance.sqrt().quantile(1 - self.nu)
            self.radius.copy_(torch.where(skipped, self.radius, radius))

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Distance to the centre, squared; minus the squared radius where there is one: ``(B,)``."""
        training = self.training
        self.eval()
        distance = self.distance(x)
        self.train(training)
        return distance - self.radius**2 if self.soft_boundary else distance

    def export(self) -> nn.Module:
        """The network."""
        return self.encoder


@torch.no_grad()
def _centre(network: nn.Module, first: Tensor) -> Tensor:
    """Mean output ``(out,)``; coordinates near zero are moved away from it, else a zero weight could reach them."""
    network.train()  # normalised by the statistics of these inputs, as in training
    z: Tensor = network(first).float().mean(dim=0)
    return torch.where(z.abs() < NEAR_ZERO, torch.where(z < 0, -NEAR_ZERO, NEAR_ZERO), z)
