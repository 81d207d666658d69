"""What every recipe does around its own work: open or resume the run folder, and say how to repeat it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lightning_fabric import Fabric
from omegaconf import OmegaConf

from mmssl.messages import setting
from mmssl.train.run import Run

C = TypeVar("C", bound=Any)
SHOWN = 12  # names in a message


def configuration(cfg: C) -> C:
    """``cfg``, or the configuration of the run that ``cfg.resume`` names.

    Raises:
        FileNotFoundError: it is no run.
        ValueError: ``resume`` stands beside other settings, which the run could not follow; or the run is that of
            another recipe.
    """
    if cfg.resume is None:
        return cfg
    run = Run.open(cfg.resume)
    default = flat(type(cfg)())
    changed = [f"{key}={value}" for key, value in flat(cfg).items() if key != "resume" and value != default[key]]
    if changed:
        raise ValueError(
            f"resume goes on with the configuration of the run and takes no other: drop {' '.join(changed)}, "
            "or start a new run"
        )
    loaded = OmegaConf.load(run.config)
    _check_recipe(run, _leaves(OmegaConf.to_container(loaded), default), default)
    saved = OmegaConf.merge(OmegaConf.structured(type(cfg)), loaded)
    return replace(OmegaConf.to_object(saved), resume=str(cfg.resume))  # type: ignore[type-var,return-value]


def open_run(cfg: Any, *, recipe: str, fabric: Fabric, folder: Path | None = None) -> Run:
    """The run that ``cfg.resume`` names, or a new folder; with config.yaml in it.

    Args:
        cfg: a recipe's dataclass with ``resume`` and ``root``, all values worked out.
        recipe: its name.
        fabric: rank 0 makes the folder and tells the others.
        folder: use this one instead of a new one below ``cfg.root``.

    Raises:
        OSError: the folder cannot be written to.
    """
    if cfg.resume is not None and folder is None:
        return Run(cfg.resume)
    if fabric.global_rank == 0:
        run = Run.create(recipe, root=cfg.root) if folder is None else Run.at(folder)
        save_config(cfg, run)
        folder = run.path
    return Run(fabric.broadcast(str(folder)))


def check_data(run: Run, fingerprint: Mapping[str, int | str], *, resumed: bool, fabric: Fabric) -> None:
    """Keep what tells the data of a new run from other data; refuse to go on with other data.

    A run that kept nothing goes on with any.

    Raises:
        ValueError: the data is not that of the run; says what differs.
    """
    if resumed and run.data.exists():
        kept = json.loads(run.data.read_text())
        changed = [name for name in kept | dict(fingerprint) if kept.get(name) != fingerprint.get(name)]
        if changed:
            shown = ", ".join(_difference(name, kept.get(name), fingerprint.get(name)) for name in changed[:SHOWN])
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            raise ValueError(
                f"the data is not that which {run.path} began with, so test rows might have been learnt from: other "
                f"{shown}{more}. Put the data back as it was, or start a new run"
            )
    elif not resumed and fingerprint and fabric.global_rank == 0:
        run.data.write_text(json.dumps(fingerprint, indent=1) + "\n")


def _difference(name: str, before: int | str | None, now: int | str | None) -> str:
    """Numbers are shown, hashes are not."""
    return f"{name} ({before:,}, now {now:,})" if isinstance(before, int) and isinstance(now, int) else name


def save_config(cfg: Any, run: Run) -> None:
    """The configuration as it runs, with every value that was worked out."""
    run.config.write_text(config_yaml(cfg))


def config_yaml(cfg: Any) -> str:
    return OmegaConf.to_yaml(OmegaConf.structured(replace(cfg, resume=None)))


def command(cfg: Any, recipe: str) -> str:
    """What to type to run this configuration again: every value that differs from the default."""
    default = flat(type(cfg)())
    changed = [
        setting(f"+{key}" if isinstance(value, dict) else key, value)  # Hydra adds to a mapping
        for key, value in flat(cfg).items()
        if value != default[key] and key != "resume"
    ]
    return " ".join([f"python -m mmssl.recipes.{recipe}", *changed])


def resume_command(run: Run, recipe: str) -> str:
    return f"python -m mmssl.recipes.{recipe} resume={shlex.quote(str(run.path))}"


def flat(cfg: Any) -> dict[str, Any]:
    """``{"train.lr": 0.001, …}``; a setting that is a mapping, such as ``data.units``, is one value."""
    out: dict[str, Any] = {}
    for part in fields(cfg):
        value = getattr(cfg, part.name)
        if is_dataclass(value):
            out |= {f"{part.name}.{key}": inner for key, inner in flat(value).items()}
        else:
            out[part.name] = value
    return out


def _leaves(tree: Any, known: Collection[str]) -> dict[str, Any]:
    """The same of a configuration as it is saved; ``known`` are the settings, whose values stay whole."""
    out: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict) and prefix not in known:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            out[prefix] = node

    walk("", tree)
    return out


def _check_recipe(run: Run, saved: Collection[str], known: Collection[str]) -> None:
    """Raise a ValueError if a recipe of other settings made the run; each method has settings of its own."""
    wrong = [f"has {key}" for key in saved if key not in known]
    wrong += [f"lacks {key}" for key in known if key.startswith("method.") and key not in saved]
    if wrong:
        recipe = run.path.resolve().parent.name
        raise ValueError(
            f"{run.path} is the run of another recipe ({recipe}, by its folder): its configuration {', '.join(wrong)}. "
            "Go on with the recipe that began it"
        )


@contextmanager
def resume_hint(run: Run, recipe: str, *, show: bool) -> Iterator[None]:
    """Says how to go on if Ctrl-C or a full disk ends the block."""
    try:
        yield
    except (KeyboardInterrupt, OSError):
        if show:
            print(f"\nstopped; go on with\n  {resume_command(run, recipe)}", file=sys.stderr)
        raise


def print_paths(run: Run) -> None:
    """Where to look, and what to do with it."""
    print(f"\nreport:     {Path(run.report)}")
    print(f"embeddings: {Path(run.embeddings)}")
    print(f"encoder:    mmssl.load({str(run.path)!r}), or: python -m mmssl embed {run.path} <data> <out.parquet>")
