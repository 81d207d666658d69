"""What augmentations do to series, as a page or a picture, each with the meaning that it can destroy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmssl.timeseries.pictures import sheet
from mmssl.timeseries.steps import Step

Floats = npt.NDArray[np.float32]
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin: 2rem 0 0; font-size: 1.1rem }
h2 code { font-weight: normal; opacity: .7 }
p { margin: .2rem 0 .6rem; max-width: 48rem }
table { border-collapse: collapse }
th { font-weight: normal; font-size: .8rem; text-align: left; opacity: .7; padding-right: 1rem }
td { padding: .2rem .6rem .2rem 0 }
"""


@dataclass(frozen=True, eq=False)
class Example:
    """An augmentation on some series.

    Args:
        step: what was done.
        setting: with which the user would ask for it.
        views: the series afterwards, ``(T, C)`` each.
    """

    step: Step
    setting: str
    views: list[Floats]

    @property
    def title(self) -> str:
        return type(self.step).__name__


def examples(x: Tensor, steps: Sequence[tuple[str, Step]], *, seed: int = 0) -> list[Example]:
    """Every step on the same series.

    Args:
        x: ``(B, T, C)``, NaN for missing.
        steps: the setting and the augmentation.
        seed: of the random numbers; the global generator is left alone.
    """
    made = []
    with torch.random.fork_rng(devices=[]):
        for setting, step in steps:
            torch.manual_seed(seed)
            made.append(Example(step, setting, list(step(x).numpy())))
    return made


def does(step: Step) -> str:
    """The first sentence of the augmentation's description, without its source."""
    first = _prose(step).split(". ")[0].rstrip(".")
    return re.sub(r" \([^()]*(?:arXiv|et al\.)[^()]*\)", "", _prose(step)[: len(first)]).split(" (Um et al")[0] + "."


def destroys(step: Step) -> str:
    """The sentence that says which meaning the augmentation can destroy."""
    match = re.search(r"\b(?:D|d)estroys .*", _prose(step))
    if match is None:
        raise ValueError(f"the description of {type(step).__name__} does not say what it destroys")
    text = match[0].split(". Standardise")[0].rstrip(".")
    return f"D{text[1:]}."


def page(series: Sequence[Floats], names: Sequence[str], made: Sequence[Example], *, title: str) -> str:
    """A self-contained page.

    Args:
        series: as they are, ``(T, C)`` each.
        names: of them.
        made: the augmentations of the same series.
        title: of the page, any text.
    """
    parts = [f"<h2>As they are</h2>{sheet([series], names)}"]
    for example in made:
        head = f"<h2>{escape(example.title)} <code>{escape(example.setting)}</code></h2>"
        words = f"<p>{escape(does(example.step))} <b>{escape(destroys(example.step))}</b></p>"
        parts.append(head + words + sheet([example.views], names))
    note = (
        "What a view changes is what the encoder is told to ignore: leave out what would destroy the meaning of your "
        "data. Standardised values; at most six channels are drawn."
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1><p>{note}</p>\n{chr(10).join(parts)}\n"
        "</body></html>\n"
    )


def _prose(step: Step) -> str:
    """The description before its arguments, in one line, quotation marks of code left out."""
    text = (inspect.getdoc(type(step)) or "").split("\nArgs:")[0]
    return re.sub(r"\s+", " ", text).replace("`", "").strip()
