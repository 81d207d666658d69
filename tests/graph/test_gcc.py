"""GCC: walks with restarts, induced subgraphs, eigenvectors and seeds, each against its definition."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import eigsh
from scipy.stats import chisquare
from torch import nn

from mmssl.graph.encoder import StructureGIN
from mmssl.graph.gcc import SeedSource, StructuralFeatures, WalkViews, gcc, structure
from mmssl.graph.graphs import Graphs
from mmssl.graph.graphset import GraphSet
from mmssl.graph.spectral import positions
from mmssl.graph.walks import Adjacency, induced, restart_walks
from mmssl.train.batches import ShuffledBatches
from tests.graph.samples import check, edge_set, equal, random_graphs
from tests.resume import assert_resumes_bit_for_bit

# 0 - 1 - 2 - 3 and 1 - 3; 4 alone
KITE = Graphs(torch.zeros(5, 1), torch.tensor([[0, 1, 2, 1], [1, 2, 3, 3]]), torch.tensor([0, 5]))


def walks(count: int, seed: int, **options: Any) -> torch.Tensor:
    return restart_walks(Adjacency.of(KITE), torch.full((count,), seed), **options)


def test_neighbours_are_listed_node_by_node() -> None:
    adjacency = Adjacency.of(KITE)
    assert adjacency.starts.tolist() == [0, 1, 4, 6, 8, 8]
    assert adjacency.neighbours.tolist() == [1, 0, 2, 3, 1, 3, 1, 2]


def test_a_walk_goes_from_neighbour_to_neighbour_and_back_to_its_seed_as_often_as_it_should() -> None:
    torch.manual_seed(0)
    walked = walks(6000, 0, steps=4, restart=0.6)
    joined = edge_set(KITE) | {(b, a) for a, b in edge_set(KITE)}
    assert (walked[:, 0] == 1).all()
    # the second step is from the seed with 0.6, else from node 1, whose neighbours are 0, 2 and 3
    observed = torch.bincount(walked[:, 1], minlength=4)
    expected = 6000 * np.array([0.4 / 3, 0.6, 0.4 / 3, 0.4 / 3])
    assert chisquare(observed.numpy(), expected).pvalue > 1e-3
    # the third one depends on the second alone, or on the seed
    after = walked[walked[:, 1] == 2][:, 2]
    expected = len(after) * np.array([0.6 + 0.4 / 2, 0.4 / 2])
    assert chisquare([int((after == 1).sum()), int((after == 3).sum())], expected).pvalue > 1e-3
    free = walks(50, 0, steps=30, restart=0.0)
    path = torch.cat([torch.zeros(50, 1, dtype=torch.int64), free], dim=1)
    assert {(int(a), int(b)) for row in path for a, b in pairwise(row)} <= joined
    assert set(walks(20, 2, steps=30, restart=1.0).unique().tolist()) <= {1, 3}


def test_a_walk_from_a_node_without_neighbours_stays_there() -> None:
    assert (walks(3, 4, steps=5, restart=0.5) == 4).all()
    empty = Adjacency.of(Graphs(torch.zeros(2, 1), torch.empty(2, 0, dtype=torch.int64), torch.tensor([0, 2])))
    assert restart_walks(empty, torch.tensor([1]), steps=3, restart=0.5).tolist() == [[1, 1, 1]]


def test_impossible_walks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one step, got steps=0"):
        walks(1, 0, steps=0, restart=0.5)
    with pytest.raises(ValueError, match=r"restart must lie in \[0, 1\], got 1.5"):
        walks(1, 0, steps=1, restart=1.5)


def test_subgraphs_are_induced_and_know_their_seed() -> None:
    seeds, visited = torch.tensor([3, 4, 0]), torch.tensor([[1, 2, 1], [4, 4, 4], [1, 1, 2]])
    graphs, node = induced(Adjacency.of(KITE), seeds, visited)
    check(graphs)
    assert node.tolist() == [1, 2, 3, 4, 0, 1, 2]
    assert graphs.sizes.tolist() == [3, 1, 3]
    assert node[graphs.edges].tolist() == [[1, 1, 2, 0, 1], [2, 3, 3, 1, 2]]
    assert graphs.x[:, 0].tolist() == [0, 0, 1, 1, 1, 0, 0]


def normalised(graphs: Graphs, g: int) -> np.ndarray:
    n, first = int(graphs.sizes[g]), int(graphs.offsets[g])
    a = np.zeros((n, n))
    for u, v in edge_set(graphs):
        if graphs.batch[u] == g:
            a[u - first, v - first] = a[v - first, u - first] = 1
    scale = a.sum(axis=0).clip(1) ** -0.5
    return scale[:, None] * a * scale


@pytest.mark.parametrize("dim", [4, 32])
def test_positions_span_what_one_sparse_solver_a_graph_finds(dim: int) -> None:
    graphs = random_graphs([40, 3, 12, 1, 2, 25, 41], density=0.3, seed=2)
    found = positions(graphs, dim)
    compared = 0
    for g, n in enumerate(graphs.sizes.tolist()):
        own = found[graphs.batch == g].numpy()
        k = min(n - 2, dim)
        if k <= 0:
            assert (own == 0).all()
            continue
        assert (own[:, k:] == 0).all()
        matrix = normalised(graphs, g)
        values = np.linalg.eigvalsh(matrix)[::-1]
        if values[k - 1] - values[k] < 1e-3:  # not one subspace
            continue
        compared += 1
        start = np.random.default_rng(0).random(n)
        _, vectors = eigsh(csr_matrix(matrix), k=k, which="LA", ncv=min(n, max(2 * k + 1, 20)), v0=start)
        rows = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        np.testing.assert_allclose(own @ own.T, rows @ rows.T, atol=2e-4)
    assert compared >= 3


def test_positions_do_not_depend_on_who_shares_the_call_but_for_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = random_graphs([9, 14, 30, 8], density=0.4)
    together = positions(graphs, 6)
    monkeypatch.setattr("mmssl.graph.spectral.BLOCK", 1)
    torch.testing.assert_close(positions(graphs, 6).abs(), together.abs(), atol=1e-4, rtol=1e-3)


def test_signs_are_drawn_for_every_eigenvector_and_graph() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([10], density=0.5)
    first = torch.stack([positions(graphs, 4)[0].sign() for _ in range(400)])
    share = (first > 0).float().mean(dim=0)
    assert ((share - 0.5).abs() < 0.1).all()
    assert abs(float((first[:, 0] * first[:, 1]).mean())) < 0.2


def test_seeds_come_as_often_as_their_degree_to_the_three_quarters_says() -> None:
    degrees = torch.tensor([0, 1, 16, 81, 2, 0] * 50)
    source = SeedSource(degrees, torch.device("cpu"))
    assert len(source) == 300
    weight = degrees.double() ** 0.75
    expected = weight / weight.sum() * 300
    torch.manual_seed(0)
    epochs = torch.stack([torch.bincount(source.fetch(np.arange(300)), minlength=300) for _ in range(400)])
    assert ((epochs - expected).abs() < 2).all()  # one from each quantile
    assert (epochs[:, degrees == 0] == 0).all()
    assert (epochs[:, degrees == 1].sum(dim=0) > 0).all()  # a rare seed is one at some time
    off = (epochs.sum(dim=0) - 400 * expected).abs()
    assert (off <= 5 * (400 * expected).sqrt()).all()
    with pytest.raises(ValueError, match="no edge"):
        SeedSource(torch.zeros(3, dtype=torch.int64), torch.device("cpu"))


def test_the_method_learns_and_its_queue_takes_keys_of_both_views() -> None:
    torch.manual_seed(0)
    whole = random_graphs([12, 10, 14], density=0.3)
    method = gcc(StructureGIN(34, hidden=8, depth=2), WalkViews(Adjacency.of(whole), steps=16), queue=64, momentum=0.9)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.005)
    source = SeedSource(whole.degrees, torch.device("cpu"))
    for _ in range(3):
        out = method(source.fetch(np.arange(8)))
        optimizer.zero_grad()
        out["loss"].backward()
        assert all(p.grad is not None for p in method.student.parameters())
        optimizer.step()
        method.after_step(0.5, torch.tensor(False))
    assert method.objective.queue.total == 3 * 16  # type: ignore[union-attr]
    assert out["loss"].isfinite()


def test_it_resumes_bit_for_bit_with_its_seeds_and_walks(tmp_path: Path) -> None:
    whole = random_graphs([12, 10, 14], density=0.3)

    def build() -> nn.Module:
        torch.manual_seed(0)
        return gcc(StructureGIN(34, hidden=4, depth=2), WalkViews(Adjacency.of(whole), steps=4), queue=16)

    seeds = ShuffledBatches(SeedSource(whole.degrees, torch.device("cpu")), batch_size=8)
    assert_resumes_bit_for_bit(build, seeds, tmp_path)


def test_the_encoder_gives_unit_vectors_and_knows_degrees_and_seeds() -> None:
    torch.manual_seed(0)
    graphs = structure(random_graphs([6, 7], features=1))
    encoder = StructureGIN(34, hidden=8, depth=2, max_degree=4).eval()
    z = encoder(graphs)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(2))
    for column in (32, 33):
        x = graphs.x.clone()
        x[:, column] = 1 - x[:, column] if column == 32 else 0
        assert not torch.allclose(encoder(graphs.with_features(x)), z)
    with pytest.raises(ValueError, match="embeds whole graphs"):
        StructureGIN(34, pool=None)


def test_whole_graphs_have_the_node_with_the_largest_degree_as_their_seed_and_the_same_signs_each_time() -> None:
    pairs = np.array([[0, 1, 1, 4], [1, 2, 3, 5]])
    data = GraphSet(pairs, np.array([0, 4, 6, 7]), {}, "graph", np.array(["a", "b", "c"], dtype=object))
    graphs = StructuralFeatures()(data)
    assert graphs.x[:, 32].tolist() == [0, 1, 0, 0, 1, 0, 1]
    assert graphs.x[:, 33].tolist() == [1, 3, 1, 1, 1, 1, 0]
    torch.manual_seed(5)
    assert equal(StructuralFeatures()(data), graphs)
