"""Controls against references written from their definitions."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import torch

from mmssl.graph.controls import histogram, neighbourhoods, weisfeiler_lehman
from mmssl.graph.graphs import Graphs
from mmssl.graph.molecules import morgan, scaffolds
from tests.graph.samples import edge_set, random_graphs


def labelled() -> Graphs:
    graphs = random_graphs([5, 1, 7, 6, 6], density=0.4)
    return graphs.with_features(torch.eye(3)[torch.arange(len(graphs.x)) % 3])


def test_weisfeiler_lehman_features_of_nodes_without_labels_tell_degrees_apart() -> None:
    graphs = random_graphs([6, 7, 8], density=0.4)
    counts = weisfeiler_lehman(graphs.with_features(graphs.x[:, :0]), rounds=1)
    expected = [np.bincount(graphs.degrees[graphs.batch == g], minlength=8) for g in range(3)]
    kernel = np.array([[a.sum() * b.sum() + a @ b for b in expected] for a in expected])
    scale = np.sqrt(np.diag(kernel))
    np.testing.assert_allclose(counts @ counts.T, kernel / np.outer(scale, scale), atol=1e-5)


def test_histograms_count_features_and_degrees() -> None:
    graphs = labelled()
    counts = histogram(graphs)
    for g in range(len(graphs)):
        mine = graphs.batch == g
        assert counts[g, :3].tolist() == graphs.x[mine].sum(dim=0).tolist()
        assert counts[g, 3:].tolist() == np.bincount(graphs.degrees[mine], minlength=65).tolist()


def test_weisfeiler_lehman_features_give_the_kernel_of_its_definition() -> None:
    graphs = labelled()
    network = nx.Graph()
    network.add_nodes_from(range(len(graphs.x)))
    network.add_edges_from(edge_set(graphs))
    label = {i: str(int(row.argmax())) for i, row in enumerate(graphs.x)}
    counts = [Counter[str]() for _ in range(len(graphs))]
    for round_ in range(4):
        for node in network:
            counts[int(graphs.batch[node])][f"{round_}:{label[node]}"] += 1
        label = {n: f"{label[n]}({','.join(sorted(label[m] for m in network[n]))})" for n in network}
    kernel = np.array([[sum(a[key] * b[key] for key in a) for b in counts] for a in counts], dtype=float)
    scale = np.sqrt(np.diag(kernel))
    x = weisfeiler_lehman(graphs, rounds=3)
    np.testing.assert_allclose(x @ x.T, kernel / np.outer(scale, scale), atol=1e-5)


def test_weisfeiler_lehman_keeps_to_its_number_of_features() -> None:
    graphs = random_graphs([9] * 20, density=0.4)
    x = weisfeiler_lehman(graphs, rounds=3, features=64)
    assert x.shape == (20, 64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)


def test_neighbourhoods_are_powers_of_the_normalised_adjacency() -> None:
    graphs = random_graphs([6])
    adjacency = torch.eye(6)
    adjacency[graphs.edge_index[0], graphs.edge_index[1]] = 1
    scale = adjacency.sum(dim=1).rsqrt().diag()
    a = scale @ adjacency @ scale
    np.testing.assert_allclose(neighbourhoods(graphs, hops=2), (a @ a @ graphs.x).numpy(), rtol=1e-4, atol=1e-6)


def test_fingerprints_and_scaffolds_are_those_of_rdkit() -> None:
    prints = morgan(["CCO", "OCC", "c1ccccc1"])
    assert prints.shape == (3, 2048)
    assert (prints[0] == prints[1]).all()
    assert not (prints[0] == prints[2]).all()
    assert scaffolds(["CCO", "Oc1ccccc1", "CC1CCCC1"]).tolist() == ["", "c1ccccc1", "C1CCCC1"]
