"""`python -m mmssl`: embed new data with a finished run, and list the recipes."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
from pathlib import Path

import mmssl


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmssl", description=mmssl.__doc__)
    parser.add_argument("--version", action="version", version=mmssl.__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    embed = commands.add_parser("embed", help="embed a file or folder with the encoder of a run")
    embed.add_argument("run", help="run folder, runs/<recipe>/<time>")
    embed.add_argument("data", help="file or folder of the same schema as the training data")
    embed.add_argument("out", help="table to write: .parquet, .feather or .csv")
    embed.add_argument("--device", default="cpu", help="cpu or cuda")
    embed.set_defaults(command=_embed)

    recipes = commands.add_parser("recipes", help="list the recipes")
    recipes.set_defaults(command=_recipes)

    chosen = parser.parse_args(arguments)
    try:
        chosen.command(chosen)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _embed(chosen: argparse.Namespace) -> None:
    embedder = mmssl.load(chosen.run, device=chosen.device)
    from mmssl.eval.embeddings import write_frame

    frame = embedder.embed(chosen.data)
    write_frame(frame, chosen.out)
    print(f"{len(frame):,} embeddings of {embedder.dim} numbers: {chosen.out}")


def _recipes(_: argparse.Namespace) -> None:
    """Every module of `mmssl.recipes` that can be run, with the first line of its docstring; imports none of them."""
    spec = importlib.util.find_spec("mmssl.recipes")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for file in sorted(Path(spec.submodule_search_locations[0]).glob("*.py")):
        tree = ast.parse(file.read_text())
        if any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in tree.body):
            first = (ast.get_docstring(tree) or "").splitlines()[0]
            print(f"{f'python -m mmssl.recipes.{file.stem}':48} {first}")


if __name__ == "__main__":
    sys.exit(main())
