"""`Graphs`: what can be asked of them, PyTorch Geometric and back, and batches by one gather."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSource
from tests.graph.samples import check, edge_set, equal, random_graphs

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


def test_degrees_batch_and_edge_counts_are_those_of_an_adjacency_matrix() -> None:
    graphs = random_graphs([4, 1, 6])
    adjacency = torch.zeros(11, 11)
    adjacency[graphs.edge_index[0], graphs.edge_index[1]] = 1
    assert torch.equal(adjacency, adjacency.T)
    assert graphs.degrees.tolist() == adjacency.sum(dim=1).tolist()
    assert graphs.batch.tolist() == [0] * 4 + [1] + [2] * 6
    blocks = [adjacency[a:b, a:b].sum() / 2 for a, b in ((0, 4), (4, 5), (5, 11))]
    assert graphs.edge_counts.tolist() == blocks


def test_pytorch_geometric_takes_them_and_gives_them_back() -> None:
    from torch_geometric.data import Batch

    graphs = random_graphs([4, 1, 6])
    batch = graphs.to_pyg()
    assert isinstance(batch, Batch)
    assert batch.num_graphs == 3
    assert batch.is_undirected()
    assert batch[2].num_nodes == 6
    for data in (batch, batch.to_data_list()):
        back = Graphs.from_pyg(data)
        check(back)
        assert torch.equal(back.x, graphs.x)
        assert torch.equal(back.offsets, graphs.offsets)
        assert edge_set(back) == edge_set(graphs)
    assert len(Graphs.from_pyg(batch[0])) == 1


def test_loops_and_repeated_edges_of_pytorch_geometric_are_left_out() -> None:
    from torch_geometric.data import Data

    data = Data(x=torch.ones(3, 1), edge_index=torch.tensor([[0, 1, 1, 0, 2], [1, 0, 0, 1, 2]]))
    assert Graphs.from_pyg(data).edges.tolist() == [[0], [1]]


def test_what_cannot_be_read_from_pytorch_geometric_is_refused_with_a_reason() -> None:
    from torch_geometric.data import Data

    x = torch.ones(3, 1)
    with pytest.raises(ValueError, match=r"1 of 2 edges have no way back\. Pass undirected=True"):
        Graphs.from_pyg(Data(x=x, edge_index=torch.tensor([[0, 1, 1], [1, 0, 2]])))
    assert Graphs.from_pyg(Data(x=x, edge_index=torch.tensor([[0, 2], [1, 1]])), undirected=True).edges.shape == (2, 2)
    with pytest.raises(ValueError, match=r"edge 1 joins nodes \[1, 3\], but there are 3 nodes"):
        Graphs.from_pyg(Data(x=x, edge_index=torch.tensor([[0, 1], [1, 3]])))
    strays = [Data(x=x, edge_index=torch.tensor(e)) for e in ([[0, 1], [1, 0]], [[0, 2], [2, 0]], [[0], [0]])]
    strays[1].edge_index[0, 1] = strays[1].edge_index[1, 0] = 3  # the first node of the next graph
    with pytest.raises(ValueError, match="edge 2 of the batch joins graphs 1 and 2: one of them has too large a node"):
        Graphs.from_pyg(strays)
    with pytest.raises(ValueError, match="OneHotDegree"):
        Graphs.from_pyg(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=2))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    picks=st.lists(st.integers(0, 100), min_size=1, max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_a_batch_holds_the_chosen_graphs_in_their_order(sizes: list[int], picks: list[int]) -> None:
    graphs = random_graphs(sizes)
    index = np.array(picks) % len(sizes)
    batch = GraphSource(graphs).fetch(index)
    check(batch)
    assert len(batch) == len(index)
    for i, g in enumerate(index):
        a, b = graphs.offsets[g], graphs.offsets[g + 1]
        c, d = batch.offsets[i], batch.offsets[i + 1]
        assert torch.equal(batch.x[c:d], graphs.x[a:b])
        mine = {(u - int(a), v - int(a)) for u, v in edge_set(graphs) if a <= u < b}
        assert {(u - int(c), v - int(c)) for u, v in edge_set(batch) if c <= u < d} == mine


def test_a_source_of_some_graphs_counts_these_alone() -> None:
    graphs = random_graphs([2, 3, 4])
    source = GraphSource(graphs, np.array([2, 0]))
    assert len(source) == 2
    assert source.fetch(np.array([0, 1])).sizes.tolist() == [4, 2]


def test_all_graphs_in_order_are_the_graphs() -> None:
    graphs = random_graphs([2, 3, 1])
    assert equal(GraphSource(graphs).fetch(np.arange(3)), graphs)


def test_parts_are_the_graphs_one_after_the_other_and_may_be_empty() -> None:
    graphs = random_graphs([4, 1, 6, 3], density=0.6)
    parts = graphs.split(torch.tensor([2, 0, 1, 1]))
    expected = [GraphSource(graphs).fetch(np.array(index, dtype=np.int64)) for index in ([0, 1], [], [2], [3])]
    assert all(equal(part, graph) for part, graph in zip(parts, expected, strict=True))


def test_graphs_are_put_in_another_order_with_their_nodes_and_edges() -> None:
    graphs = random_graphs([4, 1, 6, 3], density=0.6)
    order = torch.tensor([2, 0, 3, 1])
    found, expected = graphs.reordered(order), GraphSource(graphs).fetch(order.numpy())
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.offsets, expected.offsets)
    assert edge_set(found) == edge_set(expected)


def test_nodes_that_leave_take_their_edges_along_and_graphs_may_be_left_empty() -> None:
    graphs = Graphs(torch.arange(4.0)[:, None], torch.tensor([[0, 0, 2], [1, 2, 3]]), torch.tensor([0, 1, 4]))
    kept = graphs.keep_nodes(torch.tensor([False, True, True, True]))
    assert kept.x[:, 0].tolist() == [1, 2, 3]
    assert kept.edges.tolist() == [[1], [2]]
    assert kept.sizes.tolist() == [0, 3]
