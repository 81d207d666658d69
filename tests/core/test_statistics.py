"""Statistics of batch normalisation before training."""

from __future__ import annotations

import copy

import torch
from torch import nn

from mmssl.core.statistics import estimate_statistics


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm1d(4))


def test_an_untrained_network_is_normalised_in_evaluation_as_in_training() -> None:
    net = model()
    x = torch.randn(512, 3) * 5 + 7
    estimate_statistics(net, [x])
    net.eval()
    out = net(x)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.std(dim=0), torch.ones(4), atol=5e-3, rtol=0)


def test_they_are_the_mean_over_all_batches_whatever_was_there_before() -> None:
    net = model()
    net.train()
    net(torch.full((8, 3), 100.0) + torch.randn(8, 3))
    batches = [torch.randn(64, 3) + i for i in range(3)]
    expected = torch.stack([net[0](x).mean(dim=0) for x in batches]).mean(dim=0)
    estimate_statistics(net, batches)
    torch.testing.assert_close(net[1].running_mean, expected.detach())


def test_weights_momentum_and_mode_are_left_as_they_are() -> None:
    net = model()
    net[3].eval()
    weights = [p.detach().clone() for p in net.parameters()]
    modes = [m.training for m in net.modules()]
    estimate_statistics(net, [torch.randn(8, 3)])
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), weights, strict=True))
    assert [m.training for m in net.modules()] == modes
    assert net[1].momentum == 0.3


def test_a_network_without_batch_normalisation_is_not_run() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    before = copy.deepcopy(net.state_dict())
    estimate_statistics(net, [torch.randn(8, 99)])  # does not fit
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
