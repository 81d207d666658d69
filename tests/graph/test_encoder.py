"""Encoders against PyTorch Geometric's layers with the same weights, and what holds for all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmssl.graph.encoder import ENCODERS, GAT, GCN, GIN, GraphEncoder, PyGEncoder, StructureGIN, _Attention
from mmssl.graph.graphs import Graphs
from tests.graph.samples import random_graphs

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


def test_gin_is_that_of_pytorch_geometric_pooled_layer_by_layer() -> None:
    from torch_geometric.nn import GINConv, global_add_pool

    torch.manual_seed(0)
    graphs = random_graphs([5, 1, 7])
    encoder = GIN(3, hidden=4, depth=2)
    h, pools = graphs.x, []
    for mlp, norm in zip(encoder.mlps, encoder.norms, strict=True):
        h = norm(torch.relu(GINConv(mlp)(h, graphs.edge_index)))
        pools.append(global_add_pool(h, graphs.batch))
    torch.testing.assert_close(encoder(graphs), torch.cat(pools, dim=1))
    assert encoder.dim == 8


def test_gcn_is_that_of_pytorch_geometric() -> None:
    from torch_geometric.nn import GCNConv

    torch.manual_seed(0)
    graphs = random_graphs([5, 1, 7])
    encoder = GCN(3, widths=(6, 4), activation="relu")
    nn.init.normal_(encoder.biases[0])
    h = graphs.x
    for linear, bias in zip(encoder.linears, encoder.biases, strict=True):
        conv = GCNConv(linear.in_features, linear.out_features)
        conv.lin.weight, conv.bias = linear.weight, bias
        h = torch.relu(conv(h, graphs.edge_index))
    torch.testing.assert_close(encoder(graphs), h)


def test_gat_is_that_of_pytorch_geometric() -> None:
    from torch_geometric.nn import GATConv

    torch.manual_seed(0)
    graphs = random_graphs([5, 1, 7])
    encoder = GAT(3, widths=(6, 4), heads=2, activation="elu")
    h = graphs.x
    for layer in encoder.attention:
        assert isinstance(layer, _Attention)
        conv = GATConv(layer.linear.in_features, layer.linear.out_features // 2, heads=2)
        conv.lin.weight, conv.bias = layer.linear.weight, layer.bias
        conv.att_src, conv.att_dst = nn.Parameter(layer.sends[None]), nn.Parameter(layer.receives[None])
        h = nn.functional.elu(conv(h, graphs.edge_index))
    torch.testing.assert_close(encoder(graphs), h)


def test_any_module_of_pytorch_geometric_may_be_passed_in() -> None:
    from torch_geometric.nn import GraphSAGE

    torch.manual_seed(0)
    graphs = random_graphs([4, 3])
    encoder = PyGEncoder(GraphSAGE(3, 8, num_layers=2, out_channels=5), in_dim=3, dim=5, pool="mean")
    means = torch.stack([encoder.nodes(graphs)[part].mean(dim=0) for part in (slice(0, 4), slice(4, 7))])
    torch.testing.assert_close(encoder(graphs), means)


MAKE: dict[str, Any] = {
    "GIN": lambda pool: GIN(3, hidden=4, depth=2, pool=pool),
    "GCN": lambda pool: GCN(3, widths=(4, 6), norm=True, activation="prelu", pool=pool),
    "GAT": lambda pool: GAT(3, widths=(4, 6), heads=2, pool=pool),
}
every = pytest.mark.parametrize("name", MAKE)


@every
def test_a_graph_is_embedded_without_regard_to_others_and_to_the_order_of_its_nodes(name: str) -> None:
    torch.manual_seed(0)
    encoder = MAKE[name]("sum").eval()
    graphs = random_graphs([5, 1, 7])
    order = torch.tensor([3, 1, 4, 0, 2, 5, 12, 7, 9, 8, 10, 6, 11])
    place = order.argsort()
    moved = place[graphs.edges].sort(dim=0).values
    torch.testing.assert_close(encoder(Graphs(graphs.x[order], moved, graphs.offsets)), encoder(graphs))
    alone = graphs.keep_nodes(graphs.batch == 2)
    last = Graphs(alone.x, alone.edges, torch.tensor([0, 7]))
    torch.testing.assert_close(encoder(last), encoder(graphs)[2:])


@every
@pytest.mark.parametrize("pool", ["sum", "mean", None])
def test_output_has_the_size_that_it_says_and_every_weight_a_gradient(name: str, pool: Any) -> None:
    encoder: GraphEncoder = MAKE[name](pool)
    graphs = random_graphs([5, 1, 7])
    out: Tensor = encoder(graphs)
    assert out.shape == (3 if pool else 13, encoder.dim)
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@every
def test_its_arguments_build_it_again(name: str) -> None:
    encoder = MAKE[name]("mean")
    again = ENCODERS[name](**encoder.arguments)
    again.load_state_dict(encoder.state_dict())
    graphs = random_graphs([5, 2])
    torch.testing.assert_close(again.eval()(graphs), encoder.eval()(graphs))


@every
def test_a_graph_without_edges_is_embedded(name: str) -> None:
    lonely = Graphs(torch.ones(3, 3), torch.empty(2, 0, dtype=torch.int64), torch.tensor([0, 1, 3]))
    assert MAKE[name]("sum")(lonely).isfinite().all()


def test_impossible_settings_and_features_are_refused() -> None:
    with pytest.raises(ValueError, match="expected nodes with 5 features, got 3"):
        GIN(5)(random_graphs([4]))
    with pytest.raises(ValueError, match="pool must be 'sum', 'mean' or None, got 'max'"):
        GIN(5, pool="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activation must be one of relu, prelu, elu, got 'gelu'"):
        GCN(5, activation="gelu")
    with pytest.raises(ValueError, match="widths must be multiples of heads=4, got 6"):
        GAT(5, widths=(8, 6))


@pytest.mark.parametrize("name", [*MAKE, "StructureGIN"])
def test_fine_tuning_gets_every_parameter_once(name: str) -> None:
    encoder = MAKE[name]("sum") if name in MAKE else StructureGIN(3, depth=2)
    assert len(encoder.layers()) >= 2
    named = [id(p) for group in encoder.layers() for p in group]
    assert sorted(named) == sorted(id(p) for p in encoder.parameters())
