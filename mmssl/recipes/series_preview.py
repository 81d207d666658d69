"""What each augmentation of series does to your own data: the `preview timeseries` command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.recipes.series_report import when
from mmssl.recipes.timeseries import AUGMENTATIONS, ViewsConfig, with_default_data
from mmssl.timeseries.augment import Rotation, Step
from mmssl.timeseries.dataset import DataConfig, SeriesData, load_data
from mmssl.timeseries.preview import Example, destroys, examples, page


@dataclass
class Config:
    """All settings of the command."""

    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)  # one that is off is shown at its usual strength
    windows: int = 4  # that are shown
    seed: int = 0  # of the choice of windows and of the augmentations
    out: str = "preview.html"  # or .png


def main(cfg: Config) -> Path:
    """Draw, write and say where; returns the file."""
    out = Path(cfg.out)
    if out.suffix not in (".html", ".png"):
        raise ValueError(f"out={cfg.out} must end in .html or .png")
    if cfg.windows < 1:
        raise ValueError(f"windows must be at least 1, got {cfg.windows}")
    cfg = with_default_data(cfg)
    data = load_data(cfg.data, seed=cfg.seed)
    chosen = np.random.default_rng(cfg.seed).permutation(len(data.train))[: cfg.windows]
    windows = data.train.subset(np.sort(chosen))
    x = torch.from_numpy(windows.fetch(np.arange(len(windows))))
    made = examples(x, shown(cfg.views, x.shape[2]), seed=cfg.seed)
    ids, starts = windows.names()
    names = [f"{name} at {when(start)}" for name, start in zip(ids, starts, strict=True)]
    series = list(x.numpy())
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".html":
        out.write_text(page(series, names, made, title=f"Augmentations of {data.name}"))
    else:
        _write_png(series, names, made, out)
    print(f"{_summary(data)}\n" + "\n".join(f"{e.title:15} {destroys(e.step)}" for e in made) + f"\npreview: {out}")
    return out


def shown(views: ViewsConfig, channels: int) -> list[tuple[str, Step]]:
    """Every augmentation as the user set it, at its usual strength where it is off; and how to ask for it."""
    steps: list[tuple[str, Step]] = []
    for name, augmentation in AUGMENTATIONS.items():
        value: Any = getattr(views, name)
        used = value != augmentation.off
        step = augmentation.make(value) if used else augmentation.usual
        if isinstance(step, Rotation) and channels % 3:
            continue  # channels are no triples of axes
        steps.append((f"views.{name}={value}" if used else f"views.{name} is off; drawn as {step}", step))
    return steps


def _summary(data: SeriesData) -> str:
    return f"{data.name}\n{data.description}\n"


def _write_png(series: list[Any], names: list[str], made: list[Example], out: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = [("as they are", "", series), *((e.title, destroys(e.step), e.views) for e in made)]
    figure = Figure(figsize=(3 * len(series), 1.5 * len(rows)), layout=ConstrainedLayoutEngine(h_pad=0.16))
    axes = figure.subplots(len(rows), len(series), squeeze=False)
    for line, (title, meaning, views) in zip(axes, rows, strict=True):
        for axis, view in zip(line, views, strict=True):
            axis.plot(view[:, :6], linewidth=0.8)
            axis.set(xticks=[], yticks=[])
        heading = line[0].annotate(
            f"{title}: {meaning}" if meaning else title,
            (0, 1),
            (0, 3),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8,
        )
        heading.set_in_layout(False)  # it runs over all columns; a title would push the second one aside
    for axis, name in zip(axes[-1], names, strict=True):
        axis.set_xlabel(name, fontsize=7)
    figure.savefig(out, dpi=120)
