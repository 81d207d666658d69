"""Standardisation against numpy, and the schema that new data is held against."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mmssl.timeseries.preprocess import SeriesPreprocessor
from mmssl.timeseries.series import SeriesSet, as_objects

NAMES = ("temperature", "pressure", "speed")


def drawn(rows: int = 50, *, seed: int = 0, names: tuple[str, ...] = NAMES, **more: object) -> SeriesSet:
    values = np.random.default_rng(seed).normal(size=(rows, len(names))) * [1, 10, 100][: len(names)] + 1000
    values[3, 0] = np.nan
    return SeriesSet(
        values.astype(np.float32),
        np.array([0, 20, rows]),
        as_objects(["a", "b"]),
        names,
        **more,  # type: ignore[arg-type]
    )


def timed(step: float | None, kind: str = "datetime") -> SeriesSet:
    return drawn(time_kind=kind, times=np.arange(50, dtype=np.int64) * 10**8, step=step)


def test_mean_and_deviation_are_those_of_the_training_rows_and_of_no_other() -> None:
    train, test = drawn(), drawn(seed=1)
    fitted = SeriesPreprocessor().fit(train)
    exact = train.values.astype(np.float64)
    np.testing.assert_allclose(fitted.mean, np.nanmean(exact, axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.std, np.nanstd(exact, axis=0), rtol=1e-9)
    got = fitted(test).values
    want = (test.values - np.nanmean(exact, axis=0)) / np.nanstd(exact, axis=0)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(got), np.isnan(test.values))


def test_standardised_training_rows_have_mean_zero_and_deviation_one() -> None:
    values = SeriesPreprocessor().fit(train := drawn())(train).values
    np.testing.assert_allclose(np.nanmean(values, axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.nanstd(values, axis=0), 1, rtol=1e-4)


def test_fitting_and_applying_leave_the_data_untouched() -> None:
    train = drawn()
    before = train.values.copy()
    SeriesPreprocessor().fit(train)(train)
    np.testing.assert_array_equal(train.values, before)


@pytest.mark.parametrize("level", [0.0, 5.0, 1013.25, 1e8])
def test_a_constant_channel_becomes_zero(level: float) -> None:
    train = drawn()
    train.values[:, 1] = level
    fitted = SeriesPreprocessor().fit(train)
    assert fitted.std[1] == 1
    np.testing.assert_allclose(fitted(train).values[:, 1], 0, atol=1e-3)


def test_more_rows_than_a_chunk_give_the_same_numbers() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=(2**20 + 77, 1)).astype(np.float32)
    series = SeriesSet(values, np.array([0, len(values)]), as_objects(["a"]), ("x",))
    fitted = SeriesPreprocessor().fit(series)
    assert fitted.mean[0] == pytest.approx(values.mean(dtype=np.float64), rel=1e-12)
    assert fitted.std[0] == pytest.approx(values.std(dtype=np.float64), rel=1e-9)
    np.testing.assert_allclose(fitted(series).values[-77:], (values[-77:] - fitted.mean[0]) / fitted.std[0], atol=1e-5)


def test_a_channel_without_any_value_is_named() -> None:
    train = drawn()
    train.values[:, 1] = np.nan
    with pytest.raises(ValueError, match="no value of channel pressure in the training part"):
        SeriesPreprocessor().fit(train)


def test_its_state_is_json_and_comes_back() -> None:
    fitted = SeriesPreprocessor().fit(timed(0.1))
    assert SeriesPreprocessor.from_state(json.loads(json.dumps(fitted.state(), allow_nan=False))) == fitted


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("temperature", "pressure"), "channel 'speed' is missing. Trained on: temperature, pressure, speed"),
        (("temperature", "pressure", "speed_"), r"channel 'speed' is missing \(was it renamed to 'speed_'\?\)"),
        (("temperature", "pressure", "qqq"), "channel 'speed' is missing; the training data had no channel 'qqq'"),
        (("pressure", "temperature", "speed"), "in another order: trained on temperature, pressure, speed; given pres"),
    ],
)
def test_other_channels_are_named(names: tuple[str, ...], message: str) -> None:
    fitted = SeriesPreprocessor().fit(drawn())
    with pytest.raises(ValueError, match=message):
        fitted(drawn(names=names))


def test_a_channel_more_is_named() -> None:
    fitted = SeriesPreprocessor().fit(drawn(names=NAMES[:2]))
    with pytest.raises(ValueError, match="the training data had no channel 'speed'"):
        fitted(drawn())


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (timed(1.0), "one row every 1 s, the training data had one every 0.1 s: resample"),
        (drawn(time_kind="datetime"), "the rows are at irregular times, the training data had one every 0.1 s: resam"),
        (
            replace(timed(None), times=np.arange(50) ** 2),
            r"one row every \S+ s, the training data had one every 0.1 s: r",
        ),
        (timed(0.1, "number"), "times are of kind 'number', the training data had 'datetime'"),
    ],
)
def test_another_rate_is_named(new: SeriesSet, message: str) -> None:
    fitted = SeriesPreprocessor().fit(timed(0.1))
    with pytest.raises(ValueError, match=message):
        fitted(new)


@pytest.mark.parametrize("new", [timed(0.1), timed(0.102), drawn()])
def test_the_same_rate_or_rows_without_times_are_taken(new: SeriesSet) -> None:
    assert SeriesPreprocessor().fit(timed(0.1))(new).channels == NAMES


def test_irregular_times_of_the_same_rate_are_taken_with_a_warning() -> None:
    fitted = SeriesPreprocessor().fit(timed(0.1))
    with pytest.warns(UserWarning, match="irregular times, the training data had one every 0.1 s: they are taken as"):
        fitted(timed(None))


def test_what_is_not_a_value_is_passed_on() -> None:
    new = replace(drawn(), labels=as_objects(["x", "y"]))
    out = SeriesPreprocessor().fit(drawn())(new)
    assert out.labels is new.labels
    assert out.offsets is new.offsets
