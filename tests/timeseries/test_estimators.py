"""TS2Vec behind scikit-learn's face: series of one length and of many, pipelines, searches, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mmssl
from mmssl.timeseries import Ts2VecTransformer


def waves(n: int = 24, steps: int = 20, channels: int = 2) -> npt.NDArray[np.float64]:
    """Fast and slow ones in turn, with noise."""
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(n) % 2, 0.3, 1.2)[:, None, None]
    phase = rng.uniform(0, 6, (n, 1, channels))
    return np.sin(rate * np.arange(steps)[:, None] + phase) + 0.1 * rng.standard_normal((n, steps, channels))


def small(**settings: Any) -> Ts2VecTransformer:
    return Ts2VecTransformer(**{"dim": 8, "hidden": 8, "depth": 2, "steps": 4, "random_state": 0, **settings})


def test_an_array_and_a_list_of_its_series_are_the_same() -> None:
    x = waves()
    model = small().fit(x)
    z = model.transform(x)
    assert z.shape == (24, 8)
    assert z.dtype == np.float32
    np.testing.assert_allclose(small().fit_transform(list(x)), z, rtol=1e-5, atol=1e-6)
    one = small().fit(x[..., 0])
    assert one.n_features_in_ == 1
    np.testing.assert_allclose(one.transform(list(x[..., 0])), one.transform(x[..., :1]), rtol=1e-5, atol=1e-6)


def test_series_of_any_length_and_with_gaps_have_embeddings() -> None:
    x = [series[: 5 + i % 15] for i, series in enumerate(waves())]
    x[3][2, 1] = np.nan
    x[4][1] = np.nan
    model = small().fit(x)
    z = model.transform(x)
    assert np.isfinite(z).all()
    np.testing.assert_allclose(model.transform(x[5:6]), z[5:6], rtol=1e-4, atol=1e-5)
    padded = np.full((1, 40, 2), np.nan)
    padded[0, : len(x[5])] = x[5]
    np.testing.assert_allclose(model.transform(padded), z[5:6], rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.transform(waves(2, 300))).all()


def test_the_same_seed_gives_the_same_and_the_global_generator_is_left_alone() -> None:
    x = waves()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = small().fit_transform(x)
    torch.testing.assert_close(torch.rand(3), expected)
    np.testing.assert_array_equal(first, small().fit_transform(x))
    assert not np.array_equal(first, small(random_state=1).fit_transform(x))


def test_it_works_in_pipelines_and_searches_with_lists_too() -> None:
    x, y = waves(), np.arange(24) % 2
    ragged = [series[: 12 + i % 8] for i, series in enumerate(x)]
    for series in (x, ragged):
        model = make_pipeline(small(steps=2), LogisticRegression())
        search = GridSearchCV(model, {"ts2vectransformer__dim": [4, 8]}, cv=2, error_score="raise").fit(series, y)
        assert search.predict(series).shape == (24,)


def test_output_is_pandas_if_wished() -> None:
    out = small().set_output(transform="pandas").fit_transform(waves())
    assert isinstance(out, pd.DataFrame)
    assert list(out.columns[:2]) == ["ts2vectransformer0", "ts2vectransformer1"]
    assert list(small().fit(waves()).get_feature_names_out()) == list(out.columns)


def test_a_saved_estimator_comes_back_without_pickle(tmp_path: Path) -> None:
    x = waves()
    model = small().fit(x)
    model.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"encoder.json", "encoder.safetensors", "estimator.json"}
    again = Ts2VecTransformer.load(tmp_path)
    np.testing.assert_array_equal(again.transform(x), model.transform(x))
    assert again.get_params() == model.get_params() == clone(again).get_params()
    assert again.loss_ == model.loss_
    embedder: Any = mmssl.load(tmp_path)
    np.testing.assert_allclose(embedder.embed(x).to_numpy(), model.transform(x), rtol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"no estimator\.json"):
        Ts2VecTransformer.load(tmp_path / "other")


def test_it_learns_to_tell_fast_from_slow_waves() -> None:
    x, y = waves(40, 40, 1), np.arange(40) % 2
    model = small(steps=60, depth=3).fit(x)
    assert np.mean(model.loss_[-3:]) < np.mean(model.loss_[:3])
    z = StandardScaler().fit_transform(model.transform(x))
    assert LogisticRegression().fit(z[:20], y[:20]).score(z[20:], y[20:]) > 0.9


@pytest.mark.parametrize(
    ("x", "settings", "problem"),
    [
        (np.zeros((3, 4, 2, 2)), {}, r"shape \(N, T, C\) or \(N, T\), got float64 of shape \(3, 4, 2, 2\)"),
        (np.full((3, 4), "a"), {}, "series must be numbers"),
        ([], {}, "no series in an empty list"),
        ([np.ones((4, 2)), np.ones((4, 3))], {}, "series 1 has 3 channels, and series 0 has 2"),
        ([np.ones((4, 2)), np.array([["a"]])], {}, "series 1 must be numbers"),
        ([np.arange(4.0), np.ones(1)], {}, r"series 1 has 1 timestamp\(s\), and 2 are needed: leave it out"),
        (waves(4, 6), {"temporal_unit": 2}, "has 6 timestamp.s., and 8 are needed for temporal_unit=2"),
        (waves(4) * np.inf, {}, "infinite value"),
        (waves(4), {"steps": 0}, "steps must be at least 1, got 0"),
        (waves(4), {"mask_rate": 1.0}, "mask_rate must lie in"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(x: Any, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        small(**settings).fit(x)


def test_new_series_need_the_channels_of_the_training() -> None:
    with pytest.raises(ValueError, match="the series have 3 channels, and Ts2VecTransformer was fitted on 2"):
        small().fit(waves()).transform(waves(channels=3))


def test_a_series_that_has_no_embedding_is_named() -> None:
    x = waves()
    model = small().fit(x)
    for value, problem in ((np.nan, "series 5 has no value at all"), (np.inf, "series 5 has infinite values")):
        wrong = x.copy()
        wrong[5] = value
        for form in (wrong, list(wrong)):
            with pytest.raises(ValueError, match=problem):
                model.transform(form)


def test_a_data_frame_has_a_series_in_each_row() -> None:
    x = waves(channels=1)[..., 0]
    model = make_pipeline(StandardScaler(), small()).set_output(transform="pandas")
    z = model.fit_transform(pd.DataFrame(x))
    np.testing.assert_allclose(z, make_pipeline(StandardScaler(), small()).fit_transform(x), rtol=1e-5, atol=1e-6)
