"""`python -m mmssl`: embed new data with a finished run, search, find similar episodes, look at augmentations."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
import warnings
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmssl
from mmssl.messages import one_line

if TYPE_CHECKING:
    import pandas as pd


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

    preview = commands.add_parser("preview", help="draw what each augmentation does to your own data")
    preview.add_argument("modality", choices=["timeseries"])
    preview.add_argument("settings", nargs="*", help="data.path=… views.…=…, and the file to write, .html or .png")
    preview.set_defaults(command=_preview)

    neighbours = commands.add_parser("neighbours", help="find the episodes of a series that are most like one of them")
    neighbours.add_argument("run", help="run folder of a time-series recipe")
    neighbours.add_argument("data", help="file or folder of the same schema as the training data")
    neighbours.add_argument("--at", required=True, metavar="ENTITY/TIME", help="the episode; a row where no times are")
    neighbours.add_argument("-k", type=int, default=5, help="episodes to find")
    neighbours.add_argument("--length", type=int, help="rows of an episode; those of the run's windows if left out")
    neighbours.add_argument("--out", default="neighbours.html", help="picture to write")
    neighbours.add_argument("--device", default="cpu", help="cpu or cuda")
    neighbours.set_defaults(command=_neighbours)

    search = commands.add_parser("search", help="find images by what they show")
    search.add_argument("run", help="run folder of an image–text recipe")
    search.add_argument("query", help='what the image shows, such as "black chess knight"')
    search.add_argument("data", help="folder, archive, Parquet or NPZ of images")
    search.add_argument("-k", type=int, default=10, help="images to find")
    search.add_argument("--out", default="search.html", help="picture to write: .html, or .png")
    search.add_argument("--device", default="cpu", help="cpu or cuda")
    search.set_defaults(command=_search)

    anomaly = commands.add_parser("anomaly", help="say of new data how unlike the training data it is")
    anomaly.add_argument("run", help="run folder, runs/<recipe>/<time>")
    anomaly.add_argument("data", help="file or folder of the same schema as the training data")
    anomaly.add_argument("out", help="table to write: .parquet, .feather or .csv")
    anomaly.add_argument("--distance", default="knn", help="knn or mahalanobis, between embeddings")
    anomaly.add_argument("--rate", type=float, default=0.01, help="share of usual data that may be called unusual")
    anomaly.add_argument("--device", default="cpu", help="cpu or cuda")
    anomaly.set_defaults(command=_anomaly)

    recipes = commands.add_parser("recipes", help="list the recipes")
    recipes.set_defaults(command=_recipes)

    chosen = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = one_line
            chosen.command(chosen)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _embed(chosen: argparse.Namespace) -> None:
    embedder = mmssl.load(chosen.run, device=chosen.device)
    from mmssl.eval.embeddings import write_parts

    rows = write_parts(_parts(embedder, chosen.data), chosen.out)
    _print_drift(embedder, chosen.data)
    print(f"{rows:,} embeddings of {embedder.dim} numbers: {chosen.out}")


def _parts(embedder: Any, data: str) -> Iterable[pd.DataFrame]:
    """Embeddings, in parts where data may be larger than memory."""
    return embedder.embed_parts(data) if hasattr(embedder, "embed_parts") else [embedder.embed(data)]


def _print_drift(embedder: Any, data: str) -> None:
    """Of a table: its columns tell whether it was read as the training data was."""
    if hasattr(embedder, "describe_drift"):
        print(embedder.describe_drift(data))


def _preview(chosen: argparse.Namespace) -> None:
    from mmssl.recipes.command import command_line
    from mmssl.recipes.series_preview import Config, main

    settings = [setting if "=" in setting else f"out={setting}" for setting in chosen.settings]
    sys.argv = ["python -m mmssl preview timeseries", *settings]
    command_line(main, Config, prog=sys.argv[0])


def _neighbours(chosen: argparse.Namespace) -> None:
    from mmssl.eval.report import page
    from mmssl.eval.table import Table, as_text
    from mmssl.timeseries.embedder import SeriesEmbedder
    from mmssl.timeseries.retrieval import gallery, similar_episodes

    embedder = mmssl.load(chosen.run, device=chosen.device)
    if not isinstance(embedder, SeriesEmbedder):
        raise ValueError(f"{chosen.run} is no run of a time-series recipe")
    series = embedder.read(chosen.data)
    query, found = similar_episodes(embedder, series, at=chosen.at, k=chosen.k, length=chosen.length)
    title = f"Episodes like {query.entity} from {query.start}"
    rows = [(episode.entity, episode.start, f"{episode.similarity:.3f}") for episode in found]
    print(as_text(Table(title, ("entity", "from", "cosine"), tuple(rows))))
    Path(chosen.out).write_text(page(title, f"<h1>{escape(title)}</h1>{gallery(query, found)}"), encoding="utf-8")
    print(f"picture: {chosen.out}")


def _search(chosen: argparse.Namespace) -> None:
    from mmssl.eval.report import page
    from mmssl.eval.table import Table, as_text
    from mmssl.multimodal.embedder import PairEmbedder
    from mmssl.multimodal.search import gallery, search, write_grid

    embedder = mmssl.load(chosen.run, device=chosen.device)
    if not isinstance(embedder, PairEmbedder):
        raise ValueError(f"{chosen.run} is no run of an image–text recipe")
    images = embedder.read(chosen.data)
    found = search(embedder, chosen.query, images, k=chosen.k)
    title = f"Images like “{chosen.query}”"
    rows = [(hit.name, f"{hit.similarity:.3f}") for hit in found]
    print(as_text(Table(f"{title} among {len(images):,}", ("image", "cosine"), tuple(rows))))
    if chosen.out.lower().endswith((".html", ".htm")):
        body = f"<h1>{escape(title)}</h1>{gallery(found, images)}"
        Path(chosen.out).write_text(page(title, body), encoding="utf-8")
    else:
        write_grid(found, images, chosen.out)
    print(f"picture: {chosen.out}")


def _anomaly(chosen: argparse.Namespace) -> None:
    embedder = mmssl.load(chosen.run, device=chosen.device)
    from mmssl.eval.embeddings import read_embeddings, write_parts
    from mmssl.eval.novelty import Novelty, novelty

    train, known = read_embeddings(Path(chosen.run) / "embeddings.parquet", split="train")
    groups = known["entity"].to_numpy() if "entity" in known else None
    found: list[Novelty] = []

    def scored(frame: pd.DataFrame) -> pd.DataFrame:
        features = frame.filter(regex=r"^e\d+$")
        found.append(
            novelty(
                train,
                features.to_numpy(dtype="float32"),
                distance=chosen.distance,
                rate=chosen.rate,
                groups=groups,
                overlap=getattr(embedder, "overlap", 0),
            )
        )
        return frame.drop(columns=features.columns).assign(score=found[-1].scores, unusual=found[-1].unusual)

    rows = write_parts(map(scored, _parts(embedder, chosen.data)), chosen.out)
    _print_drift(embedder, chosen.data)
    print(
        f"{sum(part.unusual.sum() for part in found):,} of {rows:,} are unusual: their distance exceeds "
        f"{found[0].threshold:.4g}, as that of {chosen.rate:.1%} of the training data does: {chosen.out}"
    )


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
