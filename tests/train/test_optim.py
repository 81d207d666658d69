"""Groups of parameters, and both forms of LARS against the formulas of their papers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mmssl.train.optim import LARS, build_optimizer, decay_groups


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def test_biases_and_norms_have_no_weight_decay_unless_asked_for() -> None:
    model = net()
    groups = decay_groups(model, lr=0.1, weight_decay=0.5)
    by_decay = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in groups}
    assert by_decay == {0.5: [2, 2], 0.0: [1, 1, 1, 1]}
    (group,) = decay_groups(model, lr=0.1, weight_decay=0.5, decay_all=True)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_a_cls_token_has_weight_decay() -> None:
    model = nn.Module()
    model.token = nn.Parameter(torch.zeros(1, 1, 8))
    (group,) = decay_groups(model, lr=0.1, weight_decay=0.5)
    assert group["weight_decay"] == 0.5


def test_what_wants_no_gradient_is_left_out() -> None:
    model = net()
    model[0].requires_grad_(False)
    params = [p for group in decay_groups(model, lr=0.1, weight_decay=0.1) for p in group["params"]]
    assert {id(p) for p in params} == {id(p) for p in [*model[1].parameters(), *model[2].parameters()]}
    with pytest.raises(ValueError, match="nothing to train"):
        decay_groups(model.requires_grad_(False), lr=0.1, weight_decay=0.1)


def test_layers_nearer_to_the_input_learn_more_slowly() -> None:
    model = net()
    layers = [list(model[0].parameters()), list(model[1].parameters())]
    groups = decay_groups(model, lr=1.0, weight_decay=0.0, layers=layers, layer_decay=0.5)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert [rate[id(p)] for p in model.parameters()] == [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("variant", ["scale", "clip"])
def test_lars_takes_the_steps_of_its_formula(variant: str) -> None:
    torch.manual_seed(1)
    w = nn.Parameter(torch.randn(4, 3))
    b = nn.Parameter(torch.randn(4))
    lr, momentum, decay = 0.3, 0.9, 0.01
    optimizer = LARS([w, b], lr=lr, momentum=momentum, weight_decay=decay, variant=variant)  # type: ignore[arg-type]
    x, y = w.detach().double().numpy().copy(), b.detach().double().numpy().copy()
    buffers = [np.zeros_like(x), np.zeros_like(y)]
    for _ in range(4):
        w.grad, b.grad = torch.randn(4, 3), torch.randn(4)
        g, h = w.grad.double().numpy(), b.grad.double().numpy()
        optimizer.step()
        if variant == "scale":  # SimCLR, appendix B.6; the official code of Barlow Twins
            d = g + decay * x
            d = d * 0.001 * np.linalg.norm(x) / np.linalg.norm(d)
        else:  # LARC
            rate = 0.02 * np.linalg.norm(x) / (np.linalg.norm(g) + decay * np.linalg.norm(x))
            d = (g + decay * x) * min(float(rate) / lr, 1.0)
        buffers[0] = momentum * buffers[0] + d
        buffers[1] = momentum * buffers[1] + h + decay * y
        x, y = x - lr * buffers[0], y - lr * buffers[1]
    np.testing.assert_allclose(w.detach().numpy(), x, rtol=2e-6)
    np.testing.assert_allclose(b.detach().numpy(), y, rtol=2e-6)


def test_lars_leaves_everything_alone_where_a_gradient_was_not_finite() -> None:
    w = nn.Parameter(torch.randn(4, 3))
    optimizer = LARS([w], lr=0.1)
    w.grad = torch.randn(4, 3)
    optimizer.step()
    before, state = w.detach().clone(), copy.deepcopy(optimizer.state_dict()["state"])
    w.grad = torch.full((4, 3), float("nan"))
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert torch.equal(w, before)
    assert torch.equal(optimizer.state_dict()["state"][0]["momentum_buffer"], state[0]["momentum_buffer"])
    optimizer.found_inf = torch.tensor(0.0)
    w.grad = torch.randn(4, 3)
    optimizer.step()
    assert not torch.equal(w, before)
    assert w.isfinite().all()


def test_lars_starts_from_a_matrix_of_zeros() -> None:
    w = nn.Parameter(torch.zeros(2, 2))
    w.grad = torch.ones(2, 2)
    LARS([w], lr=0.1, momentum=0.0).step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), -0.1))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lars", "larc"])
def test_every_optimiser_can_skip_a_step_without_being_asked(name: str) -> None:
    model = net()
    optimizer = build_optimizer(name, decay_groups(model, lr=0.1, weight_decay=0.1), lr=0.1)
    assert all(group["fused"] for group in optimizer.param_groups)
    before = copy.deepcopy(model.state_dict())
    for bad in (True, False):
        for p in model.parameters():
            p.grad = torch.full_like(p, float("nan") if bad else 1.0)
        optimizer.found_inf = torch.tensor(float(bad))  # type: ignore[attr-defined]
        optimizer.step()
        same = all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert same == bad
        assert all(value.isfinite().all() for value in model.state_dict().values())


def test_sgd_is_torchs_whether_or_not_its_first_step_is_left_out() -> None:
    ours, theirs = net(), net()
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer("sgd", decay_groups(ours, lr=0.1, weight_decay=0.1), lr=0.1)
    reference = torch.optim.SGD(decay_groups(theirs, lr=0.1, weight_decay=0.1), lr=0.1, momentum=0.9, fused=True)
    torch.full((1 << 20,), float("nan"))  # what lies in memory that is free again
    for step in range(4):
        for model in (ours, theirs):
            generator = torch.Generator().manual_seed(step)
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
        optimizer.found_inf = torch.tensor(float(step == 0))  # type: ignore[attr-defined]
        optimizer.step()
        if step:
            reference.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(state["momentum_buffer"].isfinite().all() for state in optimizer.state.values())


def test_an_unknown_optimiser_or_form_of_lars_is_refused() -> None:
    with pytest.raises(ValueError, match="one of adamw, adam, sgd, lars, larc, got 'adagrad'"):
        build_optimizer("adagrad", net().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="'scale' or 'clip', got 'larc'"):
        LARS(net().parameters(), lr=0.1, variant="larc")  # type: ignore[arg-type]
