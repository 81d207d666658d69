"""Methods on graphs: every joint embedding of the core, GraphCL, GRACE, BGRL and GraphMAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmssl.graph.augment import AttributeMasking, EdgePerturbation, GraphViews, NodeDropping, OneOf, Star
from mmssl.graph.bgrl import bgrl
from mmssl.graph.encoder import GAT, GCN, GIN
from mmssl.graph.grace import grace, node_views
from mmssl.graph.graphcl import OneWay, authors_views, graphcl, paper_views
from mmssl.graph.graphmae import GraphMAE, scaled_cosine_error
from mmssl.graph.graphs import Graphs
from tests.core.methods import JOINT_EMBEDDINGS
from tests.graph.samples import random_graphs
from tests.resume import assert_resumes_bit_for_bit

VIEWS = GraphViews(NodeDropping(0.3), EdgePerturbation(0.3))
METHODS: dict[str, Callable[[], Any]] = {
    **{
        f"{name} of graphs": lambda preset=preset: preset(GIN(3, hidden=4, depth=2), VIEWS)  # type: ignore[misc]
        for name, preset in JOINT_EMBEDDINGS.items()
    },
    **{
        f"{name} of nodes": lambda preset=preset: preset(GCN(3, widths=(5, 4)), node_views())  # type: ignore[misc]
        for name, preset in JOINT_EMBEDDINGS.items()
    },
    "graphcl": lambda: graphcl(GIN(3, hidden=4, depth=2), paper_views()),
    "graphcl of the authors": lambda: graphcl(GIN(3, hidden=4), authors_views(), reference="authors"),
    "grace": lambda: grace(GCN(3, widths=(5, 4)), node_views(), hidden=6),
    "bgrl": lambda: bgrl(GCN(3, widths=(5, 4), norm=True, activation="prelu"), node_views(), hidden=6, momentum=0.9),
    "graphmae": lambda: GraphMAE(GIN(3, hidden=4, depth=2)),
    "graphmae of the authors": lambda: GraphMAE(GAT(3, widths=(4, 4), heads=2), reference="authors"),
}
every = pytest.mark.parametrize("name", METHODS)


def build(name: str) -> Any:
    torch.manual_seed(0)
    return METHODS[name]().train()


def sample(seed: int) -> Graphs:
    return random_graphs([6, 5, 7, 4, 8, 6], seed=seed)


def batches(first: int) -> Iterator[Graphs]:
    while True:
        yield sample(first)
        first += 1


@every
def test_it_has_a_finite_loss_and_a_gradient_in_every_trainable_parameter(name: str) -> None:
    method = build(name)
    method(sample(0))["loss"].backward()
    method.after_step(1.0, torch.tensor(False))  # what is frozen at first is no longer
    method.zero_grad()
    out = method(sample(1))
    out["loss"].backward()
    assert all(value.isfinite() for value in out.values())
    assert not [
        name
        for name, p in method.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]


@every
def test_it_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    assert_resumes_bit_for_bit(lambda: build(name), batches, tmp_path)


def test_the_paper_and_the_authors_differ_in_views_and_loss() -> None:
    torch.manual_seed(0)
    graphs = sample(0)
    first, second = authors_views(0.4)(graphs)
    assert first is graphs
    assert second is not graphs
    assert all(view is not graphs for view in paper_views(0.4)(graphs))
    assert [view is graphs for view in paper_views(0.4, original=True)(graphs)] == [True, False]
    assert isinstance(authors_views(0.1).second, OneOf)
    assert authors_views(0.1).second.steps == (  # type: ignore[union-attr]
        NodeDropping(0.1),
        EdgePerturbation(0.1, add=False),
        AttributeMasking(0.1, noise=True),
        Star(0.2),
    )
    z = [torch.randn(4, 3), torch.randn(4, 3)]
    cosine = torch.nn.functional.cosine_similarity(z[0][:, None], z[1][None], dim=2)
    s = (cosine / 0.2).exp()
    expected = torch.stack([-(s[i, i] / (s[i].sum() - s[i, i])).log() for i in range(4)]).mean()
    torch.testing.assert_close(OneWay(0.2)(z, []), expected)
    with pytest.raises(ValueError, match="reference must be 'paper' or 'authors', got 'theirs'"):
        graphcl(GIN(3), VIEWS, reference="theirs")  # type: ignore[arg-type]


def test_the_scaled_cosine_error_is_the_papers_over_masked_nodes() -> None:
    torch.manual_seed(0)
    restored, x = torch.randn(5, 4), torch.randn(5, 4)
    masked = torch.tensor([True, False, True, True, False])
    terms = [(1 - restored[i] @ x[i] / (restored[i].norm() * x[i].norm())) ** 3 for i in (0, 2, 3)]
    torch.testing.assert_close(scaled_cosine_error(restored, x, masked, gamma=3.0), torch.stack(terms).mean())
    assert scaled_cosine_error(restored, x, torch.zeros(5, dtype=torch.bool), gamma=3.0) == 0


class Seen(GIN):
    """Remembers what it is shown."""

    def nodes(self, graphs: Graphs) -> Tensor:
        self.shown = graphs.x
        return super().nodes(graphs)


def test_graphmae_hides_its_share_of_every_graph_behind_the_token_or_another_node() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([40, 80], features=5)
    encoder = Seen(5, hidden=4)
    method = GraphMAE(encoder, mask=0.5, replace=0.2)
    nn.init.constant_(method.mask_token, 9.0)
    method(graphs)
    token = (encoder.shown == 9).all(dim=1)
    other = (encoder.shown != graphs.x).any(dim=1) & ~token
    hidden = token | other
    assert 17 <= int(hidden[:40].sum()) <= 20  # a replaced node may get its own features
    assert 36 <= int(hidden[40:].sum()) <= 40
    assert 3 <= int(other.sum()) <= 22
    rows = {tuple(row) for row in graphs.x.tolist()}
    assert all(tuple(row) in rows for row in encoder.shown[other].tolist())


def test_graphmae_masks_again_before_it_decodes() -> None:
    """What the encoder makes of a masked node must not reach the decoder."""
    torch.manual_seed(0)
    graphs = Graphs(torch.randn(8, 3), torch.empty(2, 0, dtype=torch.int64), torch.tensor([0, 8]))
    method = GraphMAE(GIN(3, hidden=4, depth=1), mask=0.5, replace=0.0)
    decoded: list[Tensor] = []
    method.decoder.register_forward_pre_hook(lambda module, x: decoded.append(x[0]))
    nn.init.constant_(method.second_token, 7.0)
    method(graphs)
    assert int((decoded[0] == 7).all(dim=1).sum()) == 4
    zeros = GraphMAE(GIN(3, hidden=4, depth=1), mask=0.5, reference="authors")
    zeros.decoder.register_forward_pre_hook(lambda module, x: decoded.append(x[0]))
    zeros(graphs)
    assert int((decoded[1] == 0).all(dim=1).sum()) == 4
    assert "second_token" not in zeros.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": 0.0}, "mask must lie between 0 and 1, got 0.0"),
        ({"replace": 1.5}, r"replace must lie in \[0, 1\], got 1.5"),
        ({"gamma": 0.0}, "gamma must be positive, got 0.0"),
        ({"reference": "mine"}, "reference must be 'paper' or 'authors', got 'mine'"),
    ],
)
def test_impossible_settings_of_graphmae_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphMAE(GIN(3), **options)


def test_graphcl_learns_to_tell_graphs_apart() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([10] * 24, density=0.3, features=6)
    method = graphcl(GIN(6, hidden=16, depth=2), paper_views())
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = method(graphs)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_graphmae_does_not_begin_where_all_nodes_of_normalised_words_are_restored_alike() -> None:
    """As the features of Cora: twenty of six hundred words in a node, which sum to 1."""
    rng = np.random.default_rng(0)
    x = torch.zeros(80, 600)
    for words in x:
        words[torch.from_numpy(rng.choice(600, 20, replace=False))] = 1 / 20
    ends = torch.from_numpy(rng.integers(0, 80, (2, 200)))
    graph = Graphs(x, ends[:, ends[0] != ends[1]], torch.tensor([0, 80]))
    torch.manual_seed(0)
    method = GraphMAE(GAT(600, widths=(32, 32), heads=4))
    restored: list[Tensor] = []
    method.decoder.register_forward_hook(lambda module, x, y: restored.append(y))
    method(graph)
    direction = torch.nn.functional.normalize(restored[0], dim=1)
    assert (direction @ direction.T).mean() < 0.7
