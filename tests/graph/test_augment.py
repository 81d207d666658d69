"""Augmentations of graphs hold for any batch what their docstrings say; the random ones are counted."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from mmssl.graph.augment import (
    AttributeMasking,
    EdgeDropping,
    EdgePerturbation,
    FeatureDropping,
    GraphViews,
    NodeDropping,
    OneOf,
    Pipeline,
    Star,
    Step,
    Subgraph,
    _new_edges,
)
from mmssl.graph.graphs import Graphs
from tests.graph.samples import check, copied, copies, edge_set, equal, random_graphs

KINDS: list[Any] = [NodeDropping, EdgePerturbation, AttributeMasking, Subgraph, EdgeDropping, FeatureDropping]
kinds = pytest.mark.parametrize("kind", KINDS)
batches = st.builds(
    random_graphs,
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    density=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    seed=st.integers(0, 1000),
)
strengths = st.sampled_from([0.01, 0.1, 0.2, 0.29, 0.5, 0.9])


def share(strength: float, count: int) -> int:
    """⌊strength · count⌋ of the strength as it is written."""
    return math.floor(round(strength * 100) * count / 100 + 1e-6)


@kinds
@given(graphs=batches, strength=strengths, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_no_edge_crosses_graphs_and_no_index_dangles(kind: Any, graphs: Graphs, strength: float, seed: int) -> None:
    torch.manual_seed(seed)
    before = copied(graphs)
    view = kind(strength)(graphs)
    check(view)
    assert len(view) == len(graphs)
    assert equal(graphs, before)  # the input is left alone


@kinds
@given(graphs=batches)
@settings(max_examples=10, deadline=None)
def test_strength_0_is_the_identity(kind: Any, graphs: Graphs) -> None:
    assert equal(kind(0.0)(graphs), graphs)


@kinds
def test_a_seed_repeats_a_view_and_another_changes_it(kind: Any) -> None:
    graphs = random_graphs([12, 9, 14])
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(kind(0.4)(graphs))
    assert equal(views[0], views[1])
    assert not equal(views[0], views[2])


@kinds
@pytest.mark.parametrize("strength", [-0.1, 1.0, 1.5])
def test_an_impossible_strength_is_refused(kind: Any, strength: float) -> None:
    with pytest.raises(ValueError, match=rf"strength must lie in \[0, 1\), got {strength}"):
        kind(strength)


@given(graphs=batches, strength=strengths, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_node_dropping_takes_the_floor_of_its_share_and_leaves_the_induced_subgraph(
    graphs: Graphs, strength: float, seed: int
) -> None:
    torch.manual_seed(seed)
    view = NodeDropping(strength)(graphs)
    assert [min(share(strength, n), n - 1) for n in graphs.sizes] == (graphs.sizes - view.sizes).tolist()
    induces(graphs, view)


def induces(graphs: Graphs, view: Graphs) -> None:
    """The view is the subgraph of the nodes that it has, which their features tell."""
    kept = [int((graphs.x == row).all(dim=1).int().argmax()) for row in view.x]
    assert kept == sorted(kept)  # nodes keep their order
    place = {node: i for i, node in enumerate(kept)}
    expected = {(place[a], place[b]) for a, b in edge_set(graphs) if a in place and b in place}
    assert edge_set(view) == expected
    assert torch.equal(graphs.batch[kept], view.batch)


@given(graphs=batches, strength=strengths, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_edge_perturbation_drops_the_floor_of_its_share_and_adds_pairs_that_had_no_edge(
    graphs: Graphs, strength: float, seed: int
) -> None:
    torch.manual_seed(seed)
    view = EdgePerturbation(strength)(graphs)
    assert torch.equal(view.x, graphs.x)
    old, new = edge_set(graphs), edge_set(view)
    for g, (n, m) in enumerate(zip(graphs.sizes.tolist(), graphs.edge_counts.tolist(), strict=True)):
        inside = [{(a, b) for a, b in edges if graphs.batch[a] == g} for edges in (old, new)]
        changed, free = share(strength, m), n * (n - 1) // 2 - m
        assert len(inside[0] - inside[1]) == changed
        assert min(changed, free, 1) <= len(inside[1] - inside[0]) <= min(changed, free)


@given(graphs=batches, strength=strengths, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_edge_perturbation_without_adding_only_drops(graphs: Graphs, strength: float, seed: int) -> None:
    torch.manual_seed(seed)
    view = EdgePerturbation(strength, add=False)(graphs)
    assert edge_set(view) <= edge_set(graphs)
    assert [m - share(strength, m) for m in graphs.edge_counts.tolist()] == view.edge_counts.tolist()


@given(graphs=batches, strength=strengths, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_star_is_a_node_with_its_share_of_neighbours(graphs: Graphs, strength: float, seed: int) -> None:
    torch.manual_seed(seed)
    before = copied(graphs)
    view = Star(strength)(graphs)
    check(view)
    induces(graphs, view)
    assert equal(graphs, before)
    degree = graphs.degrees
    for g, n in enumerate(graphs.sizes.tolist()):
        kept = [int((graphs.x == row).all(dim=1).int().argmax()) for row in view.x[view.batch == g]]
        centres = [
            node
            for node in kept
            if len(kept) == 1 + min(share(strength, n), int(degree[node]))
            and all((min(node, other), max(node, other)) in edge_set(graphs) for other in kept if other != node)
        ]
        assert centres


def test_every_node_of_a_star_is_its_centre_and_every_neighbour_stays_equally_often() -> None:
    torch.manual_seed(0)
    hub = Graphs(torch.arange(5.0)[:, None], torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4]]), torch.tensor([0, 5]))
    counts: dict[tuple[int, ...], int] = {}
    for kept in Star(0.2)(copies(hub, 4000)).x[:, 0].long().view(4000, 2).tolist():
        counts[tuple(kept)] = counts.get(tuple(kept), 0) + 1
    assert set(counts) == {(0, leaf) for leaf in range(1, 5)}  # of the hub a random leaf, of a leaf the hub
    assert chisquare(list(counts.values())).pvalue > 1e-3
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\), got 1.0"):
        Star(1.0)


def test_every_pair_without_an_edge_is_added_equally_often_and_no_other() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([1, 6, 5, 7], density=0.4, seed=3)
    counts: dict[tuple[int, int], int] = {}
    for a, b in (_new_edges(copies(graphs, 1500), torch.ones(6000, dtype=torch.int64)) % len(graphs.x)).T.tolist():
        counts[a, b] = counts.get((a, b), 0) + 1
    for g in range(4):
        nodes = [i for i in range(len(graphs.x)) if graphs.batch[i] == g]
        free = {(a, b) for a in nodes for b in nodes if a < b} - edge_set(graphs)
        drawn = {pair: count for pair, count in counts.items() if pair[0] in nodes}
        assert set(drawn) == free
        if free:
            assert chisquare(list(drawn.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    ("step", "left"), [(NodeDropping(0.4), 3), (Subgraph(0.4), 3)], ids=["node dropping", "subgraph"]
)
def test_every_node_of_a_ring_stays_equally_often(step: Step, left: int) -> None:
    torch.manual_seed(0)
    ring = Graphs(torch.arange(5.0)[:, None], torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 4, 4]]), torch.tensor([0, 5]))
    kept = step(copies(ring, 800)).x[:, 0].long()
    assert len(kept) == 800 * left
    assert chisquare(torch.bincount(kept).numpy()).pvalue > 1e-3


def test_masked_nodes_lose_all_features_or_get_noise() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([10, 21, 3], features=400)
    zero = AttributeMasking(0.2)(graphs)
    masked = (zero.x == 0).all(dim=1)
    assert [int(masked[graphs.batch == g].sum()) for g in range(3)] == [2, 4, 0]
    assert torch.equal(zero.x[~masked], graphs.x[~masked])
    noisy = AttributeMasking(0.2, noise=True)(graphs)
    replaced = (noisy.x != graphs.x).any(dim=1)
    assert int(replaced.sum()) == 6
    assert kstest((noisy.x[replaced].flatten().numpy() - 0.5) / 0.5, "norm").pvalue > 1e-3


@given(graphs=batches, strength=strengths, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_subgraph_is_of_the_stated_size_and_as_connected_as_the_graph_allows(
    graphs: Graphs, strength: float, seed: int
) -> None:
    torch.manual_seed(seed)
    view = Subgraph(strength)(graphs)
    assert [n - min(share(strength, n), n - 1) for n in graphs.sizes.tolist()] == view.sizes.tolist()
    induces(graphs, view)
    for g in range(len(graphs)):
        whole, part = (components(x, g) for x in (graphs, view))
        # all components that the walk went through are whole, but for the last one
        left, complete = sorted(part), list(whole)
        for size in part:
            if size in complete:
                complete.remove(size)
                left.remove(size)
        assert len(left) <= 1


def components(graphs: Graphs, g: int) -> list[int]:
    network = nx.Graph()
    network.add_nodes_from((graphs.batch == g).nonzero().flatten().tolist())
    network.add_edges_from(pair for pair in edge_set(graphs) if int(graphs.batch[pair[0]]) == g)
    return [len(c) for c in nx.connected_components(network)]


def test_a_subgraph_grows_along_random_edges_out_of_it() -> None:
    # a star with a tail 0 - 1 - 2 - 3 and leaves 4, 5, 6 at node 0: three nodes of seven stay
    torch.manual_seed(0)
    edges = [(0, 1), (1, 2), (2, 3), (0, 4), (0, 5), (0, 6)]
    star = Graphs(torch.arange(7.0)[:, None], torch.tensor(edges).T.contiguous(), torch.tensor([0, 7]))
    counts: dict[tuple[int, ...], int] = {}
    for kept in Subgraph(4 / 7)(copies(star, 4000)).x[:, 0].long().view(4000, 3).tolist():
        counts[tuple(kept)] = counts.get(tuple(kept), 0) + 1
    expected: dict[tuple[int, ...], float] = {}
    for start in range(7):  # by the definition: start anywhere, then twice along an edge that leads out
        grow(frozenset([start]), 1 / 7, edges, expected)
    assert set(counts) == set(expected)
    observed = [counts[key] for key in sorted(expected)]
    assert chisquare(observed, [4000 * expected[key] for key in sorted(expected)]).pvalue > 1e-3


def grow(
    nodes: frozenset[int], chance: float, edges: list[tuple[int, int]], found: dict[tuple[int, ...], float]
) -> None:
    if len(nodes) == 3:
        key = tuple(sorted(nodes))
        found[key] = found.get(key, 0.0) + chance
        return
    out = [b if a in nodes else a for a, b in edges if (a in nodes) != (b in nodes)]
    for node in out:
        grow(nodes | {node}, chance / len(out), edges, found)


def test_edges_and_features_leave_independently_with_the_stated_probability() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([60, 60], density=0.9, features=900)
    edges = EdgeDropping(0.3)(graphs)
    n = graphs.edges.shape[1]
    assert edge_set(edges) <= edge_set(graphs)
    assert abs(n - edges.edges.shape[1] - 0.3 * n) < 4 * math.sqrt(0.21 * n)
    features = FeatureDropping(0.3)(graphs)
    zero = features.x == 0
    assert torch.equal(features.x[~zero], graphs.x[~zero])
    gone = torch.stack([zero[graphs.batch == g].all(dim=0) for g in (0, 1)])
    assert torch.equal(zero, gone[graphs.batch])  # for all nodes of a graph together
    assert abs(int(gone.sum()) - 0.3 * 1800) < 4 * math.sqrt(0.21 * 1800)
    assert not torch.equal(gone[0], gone[1])


def test_one_of_several_steps_is_drawn_for_every_graph() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([10] * 400, density=1.0)
    view = OneOf((NodeDropping(0.5), AttributeMasking(0.5), EdgePerturbation(0.5)))(graphs)
    check(view)
    smaller = view.sizes == 5
    masked = torch.zeros(400).index_add(0, view.batch, (view.x == 0).all(dim=1).float()) == 5
    thinner = (view.edge_counts == 23) & ~smaller  # a complete graph gains no edge
    assert (smaller.int() + masked.int() + thinner.int() == 1).all()
    assert chisquare([int(smaller.sum()), int(masked.sum()), int(thinner.sum())]).pvalue > 1e-3


@given(graphs=batches, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_graphs_that_were_parted_for_one_of_several_steps_are_put_back_in_their_order(
    graphs: Graphs, seed: int
) -> None:
    torch.manual_seed(seed)
    view = OneOf((NodeDropping(0.0), EdgePerturbation(0.0), AttributeMasking(0.0)))(graphs)
    assert torch.equal(view.x, graphs.x)
    assert torch.equal(view.offsets, graphs.offsets)
    assert edge_set(view) == edge_set(graphs)


def test_a_pipeline_applies_its_steps_in_order_and_views_are_two() -> None:
    torch.manual_seed(0)
    graphs = random_graphs([10, 10], features=8)
    step = Pipeline((NodeDropping(0.5), FeatureDropping(0.5)))
    first, second = GraphViews(step, None)(graphs)
    assert first.sizes.tolist() == [5, 5]
    assert (first.x == 0).any()
    assert second is graphs


def test_graphs_without_an_edge_or_with_one_node_go_through_every_step() -> None:
    torch.manual_seed(0)
    lonely = Graphs(torch.ones(4, 2), torch.empty(2, 0, dtype=torch.int64), torch.tensor([0, 1, 4]))
    for kind in [*KINDS, Star]:
        view = kind(0.7)(lonely)
        check(view)
        assert view.sizes[0] == 1
        assert view.edges.shape == (2, 0)
