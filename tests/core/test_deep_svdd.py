"""Deep SVDD: the centre's rule, both objectives by hand, and that it learns rather than pretends to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from mmssl.core.methods.deep_svdd import DeepSVDD, svdd_network
from mmssl.train.fit import fit, setup_fabric

NO = torch.tensor(False)


def inputs(n: int = 256, *, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, generator=generator)
    x[:, 6:] = 0.1 * x[:, 6:] + x[:, :6].abs()  # what is normal lies near a surface
    x[:, 6:] += shift
    return x


def method(**options: object) -> DeepSVDD:
    torch.manual_seed(0)
    return DeepSVDD(svdd_network(12, hidden=16, out=4), inputs(), **options)  # type: ignore[arg-type]


def trained(svdd: DeepSVDD, steps: int = 150) -> DeepSVDD:
    def batches(first: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(1)
        while True:
            yield inputs()[torch.randperm(256, generator=generator)[:64]]

    optimizer = torch.optim.Adam(svdd.parameters(), lr=1e-2)
    for _ in fit(svdd, batches, optimizer=optimizer, steps=steps, fabric=setup_fabric(device="cpu")):
        pass
    return svdd


@pytest.mark.parametrize("soft_boundary", [False, True])
def test_parameters_move_and_scores_differ_and_find_what_is_not_normal(soft_boundary: bool) -> None:
    svdd = method(soft_boundary=soft_boundary)
    before = [p.detach().clone() for p in svdd.parameters()]
    loss = float(svdd(inputs())["loss"].detach())
    trained(svdd)
    for was, now in zip(before, svdd.parameters(), strict=True):
        assert (was - now).abs().max() > 1e-3
    normal, odd = svdd.scores(inputs(seed=5)), svdd.scores(inputs(shift=-2.0, seed=6))
    assert normal.std() > 1e-6
    assert len(torch.unique(normal)) > 250
    assert roc_auc_score([0] * 256 + [1] * 256, torch.cat([normal, odd]).numpy()) > 0.9
    if not soft_boundary:
        assert float(svdd.train()(inputs())["loss"].detach()) < 0.5 * loss


def test_the_centre_is_the_mean_of_the_first_pass_away_from_zero() -> None:
    network = nn.Linear(3, 3, bias=False)
    network.weight.data = torch.eye(3)
    x = torch.tensor([[1.0, 0.02, -0.3], [3.0, 0.04, 0.2]])  # means 2, 0.03 and -0.05
    svdd = DeepSVDD(network, x)
    torch.testing.assert_close(svdd.centre, torch.tensor([2.0, 0.1, -0.1]))
    expected = ((x - svdd.centre) ** 2).sum(dim=1).mean()
    torch.testing.assert_close(svdd(x)["loss"], expected)


def test_the_soft_boundary_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data = torch.ones(1, 1)
    svdd = DeepSVDD(network, torch.full((4, 1), 5.0), soft_boundary=True, nu=0.25, warmup=0.5)
    x = torch.tensor([[5.0], [6.0], [7.0], [9.0]])  # squared distances 0, 1, 4, 16
    torch.testing.assert_close(svdd(x)["loss"], torch.tensor(21 / 4 / 0.25))
    svdd.after_step(0.4, NO)
    assert svdd.radius == 0  # still warming up
    svdd(x)
    svdd.after_step(0.6, NO)
    radius = torch.tensor([0.0, 1.0, 2.0, 4.0]).quantile(0.75)
    torch.testing.assert_close(svdd.radius, radius)
    excess = torch.tensor([0.0, 0.0, 4 - radius**2, 16 - radius**2]).clamp(min=0)
    torch.testing.assert_close(svdd(x)["loss"], radius**2 + excess.mean() / 0.25)
    torch.testing.assert_close(svdd.scores(x), torch.tensor([0.0, 1.0, 4.0, 16.0]) - radius**2)


def test_a_skipped_step_leaves_the_radius_alone() -> None:
    svdd = method(soft_boundary=True, warmup=0.0)
    svdd(inputs())
    svdd.after_step(0.5, torch.tensor(True))
    assert svdd.radius == 0


def test_the_network_has_nothing_that_could_reach_the_centre_by_itself() -> None:
    names = [name for name, _ in svdd_network(12).named_parameters()]
    assert names == ["0.weight", "3.weight"]
    with pytest.raises(ValueError, match=r"must have no biases, got 0\.bias, 1\.bias"):
        DeepSVDD(nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4)), inputs())


@pytest.mark.parametrize("nu", [0.0, 1.0])
def test_an_impossible_share_is_refused(nu: float) -> None:
    with pytest.raises(ValueError, match="nu must lie between 0 and 1"):
        method(nu=nu)


def test_state_survives_a_round_trip() -> None:
    svdd = trained(method(soft_boundary=True, warmup=0.0), steps=5)
    other = DeepSVDD(svdd_network(12, hidden=16, out=4), inputs(seed=9), soft_boundary=True)
    other.load_state_dict(svdd.state_dict())
    torch.testing.assert_close(other.scores(inputs()), svdd.scores(inputs()), rtol=0, atol=0)
