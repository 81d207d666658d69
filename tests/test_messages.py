"""Warnings as somebody at a terminal sees them."""

from __future__ import annotations

import warnings

import pytest

import mmssl.__main__
from mmssl.messages import one_line


def test_a_warning_of_a_command_is_one_line_without_a_place_in_the_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmssl.__main__._recipes", lambda _: warnings.warn("2 files are damaged", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert mmssl.__main__.main(["recipes"]) == 0
    assert capsys.readouterr().err == "warning: 2 files are damaged\n"
    assert warnings.showwarning is not one_line
