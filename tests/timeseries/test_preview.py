"""Every augmentation says what it can destroy, and is drawn on the user's own data."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from mmssl.timeseries.augment import CropResize, Jitter, Scaling, Step, TimeWarp
from mmssl.timeseries.preview import destroys, does, examples, page
from mmssl.timeseries.steps import Pipeline


def test_what_an_augmentation_destroys_is_what_its_description_says() -> None:
    assert destroys(TimeWarp()) == (
        "Destroys periodicity and durations: a constant speed of rotation, the length of a heartbeat."
    )
    assert does(Jitter()).startswith("Independent normal noise on every value")
    assert "arXiv" not in does(Jitter())


def test_an_augmentation_that_does_not_say_what_it_destroys_is_refused() -> None:
    with pytest.raises(ValueError, match="the description of Pipeline does not say what it destroys"):
        destroys(Pipeline(()))


def test_a_page_holds_each_augmentation_of_each_series_and_nothing_from_elsewhere() -> None:
    x = torch.randn(3, 50, 2)
    x[0, 10:20] = float("nan")
    steps: list[tuple[str, Step]] = [("views.scaling=0.2", Scaling(0.2)), ("views.crop is off <", CropResize())]
    before = torch.get_rng_state()
    made = examples(x, steps)
    assert torch.equal(torch.get_rng_state(), before)
    html = page(list(x.numpy()), ["a", "b", "<c>"], made, title="pump & motor")
    assert html.count("<svg") == 3 * 3
    assert "Destroys thresholds" in html
    assert "views.crop is off &lt;" in html
    assert "<c>" not in html
    assert not re.search(r"(?:src|href)=", html)


def test_the_same_seed_draws_the_same_picture() -> None:
    x = torch.randn(2, 30, 1)
    one, other = (examples(x, [("", Jitter(0.3))], seed=4)[0] for _ in range(2))
    np.testing.assert_array_equal(one.views, other.views)
