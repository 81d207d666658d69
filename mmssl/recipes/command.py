"""From the command line to a recipe's `Config`, through Hydra; and errors as one sentence instead of a traceback."""

from __future__ import annotations

import difflib
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mmssl.core.distributed import close_group
from mmssl.messages import one_line
from mmssl.recipes.limits import check_limits
from mmssl.train.fit import Diverged
from mmssl.train.pretrain import Collapsed

USER_ERRORS = (ValueError, OSError, ModuleNotFoundError, Diverged, Collapsed)


def command_line(main: Callable[[Any], object], config: type, *, prog: str) -> None:
    """Run ``main`` with the configuration that ``sys.argv`` describes.

    ``key=value`` overrides a value, ``--config-dir recipes/<name> --config-name <file>`` takes an experiment,
    ``--help`` and ``--cfg job`` print the configuration. A misspelt key, a wrong type or an impossible number is an
    error that names it.

    Args:
        main: the recipe.
        config: its dataclass.
        prog: what the user typed, for messages and for reproducing the run.
    """
    for argument in sys.argv[1:]:
        if problem := unknown_key(argument, config):
            sys.exit(f"error: {problem}")
    store = ConfigStore.instance()
    store.store(name="config", node=config)
    page = (
        f"{sys.modules[main.__module__].__doc__}\nSettings and their defaults, each to be set as key=value:\n\n$CONFIG"
    )
    store.store(group="hydra/help", name="recipe", node={"app_name": prog, "template": page})
    sys.argv += [
        "hydra/help=recipe",
        "hydra.run.dir=.",  # the run folder is the recipe's business
        "hydra.output_subdir=null",
        "hydra/job_logging=disabled",
        "hydra/hydra_logging=disabled",
    ]

    @hydra.main(version_base="1.3", config_path=None, config_name="config")
    def run(cfg: Any) -> None:
        warnings.showwarning = one_line
        try:
            given = OmegaConf.to_object(cfg)
            check_limits(given)
            main(given)
            close_group()
        except KeyboardInterrupt:
            sys.exit(130)
        except USER_ERRORS as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            print(f"error: {error}\n(HYDRA_FULL_ERROR=1 shows where it comes from)", file=sys.stderr)
            sys.exit(1)

    run()


def unknown_key(argument: str, config: type) -> str:
    """What is wrong with the key of an override such as ``train.lr=1e-3``; empty if nothing is."""
    match = re.match(r"^([A-Za-z_][\w.]*)=", argument)
    if match is None or match[1].split(".")[0] in ("hydra", "config"):
        return ""
    node: Any = config
    path = match[1].split(".")
    for i, name in enumerate(path):
        known = [f.name for f in fields(node)] if is_dataclass(node) else []
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = ".".join([*path[:i], close[0]]) if close else ""
            place = f"{'.'.join(path[:i])} has {', '.join(known)}" if i else f"there are {', '.join(known)}"
            return f"unknown key {match[1]!r}" + (f"; did you mean {hint}?" if hint else "") + f" ({place})"
        node = get_type_hints(node)[name]
    return ""
