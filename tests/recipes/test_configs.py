"""What no interpreter reads is held to the code: experiments, commands and links of every page, the README's tree."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mmssl.__main__ import main as cli
from mmssl.core.methods.mae import MAE
from mmssl.recipes.limits import check_limits
from mmssl.recipes.vision import ImageRecipe, settle
from mmssl.vision.data import read_images
from mmssl.vision.dataset import ImageData
from mmssl.vision.preprocess import ImagePreprocessor

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(p for folder in ("docs", "benchmarks", "datasets") for p in ROOT.glob(f"{folder}/*.md")),
]
PAGES += sorted(ROOT.glob("recipes/*/*.md"))
EXPERIMENTS = sorted(ROOT.glob("recipes/*/*.yaml"))
RECIPES = sorted(f for f in (ROOT / "mmssl" / "recipes").glob("*.py") if "__main__" in f.read_text())
TREE = next(re.finditer(r"^```\n(mmssl/.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S))[1]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def composed(recipe: str, experiment: str = "config", overrides: Sequence[str] = ()) -> Any:
    """The configuration that Hydra makes of a command; an unknown key or a wrong type is an exception."""
    ConfigStore.instance().store(name="config", node=importlib.import_module(f"mmssl.recipes.{recipe}").Config)
    folder = ROOT / "recipes" / recipe
    open_folder = (
        initialize(config_path=None, version_base="1.3")
        if experiment == "config"
        else initialize_config_dir(str(folder), version_base="1.3")
    )
    with open_folder:
        return OmegaConf.to_object(compose(experiment, overrides=list(overrides)))


# ----------------------------------------------------------------------------------------------------- experiments


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=named)
def test_an_experiment_sets_nothing_that_its_recipe_does_not_have(experiment: Path) -> None:
    recipe = experiment.parent.name
    cfg = composed(recipe, experiment.stem)
    assert cfg != type(cfg)()
    check_limits(cfg)
    assert f"--config-dir recipes/{recipe} --config-name {experiment.stem} " in experiment.read_text()


def test_an_unknown_key_in_an_experiment_would_be_found() -> None:
    with pytest.raises(Exception, match="lrr"):
        composed("vision_simclr", overrides=["train.lrr=1"])
    with pytest.raises(Exception, match=r"train\.lr"):
        composed("vision_simclr", overrides=["train.lr=fast"])


def photographs(size: int) -> ImageData:
    """Four of them, of noise."""
    raw = read_images(np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8), size=size)
    preprocessor = ImagePreprocessor().fit(raw)
    return ImageData("noise", preprocessor.prepare(raw), None, preprocessor, "", "none")


@pytest.mark.parametrize("experiment", [e for e in EXPERIMENTS if e.parent.name.startswith("vision_")], ids=named)
def test_the_parts_of_a_vision_experiment_fit_together(experiment: Path) -> None:
    recipe = importlib.import_module(f"mmssl.recipes.{experiment.parent.name}").RECIPE
    assert isinstance(recipe, ImageRecipe)
    cfg = composed(experiment.parent.name, experiment.stem)
    data = photographs(cfg.data.size or 32)
    with torch.device("meta"):  # shapes without values: a ResNet-50 with a projector of 8,192 takes no memory
        cfg, encoder = settle(cfg, recipe, data)
        method: Any = recipe.build(encoder, cfg, data)
    views = method.augment(data.train.fetch(np.arange(2)))
    if isinstance(method, MAE):
        prediction, mask = method.predict(views.to("meta"))
        assert prediction.shape[:2] == mask.shape
    else:
        assert {method.predictor(method.student(view.to("meta"))).shape[0] for view in views} == {2}


# -------------------------------------------------------------------------------------------------------- commands


def code(page: Path) -> Iterator[str]:
    """Fenced blocks of shell, and what stands between backticks."""
    text = page.read_text()
    yield from re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, re.M | re.S)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def commands(text: str) -> Iterator[str]:
    """What follows ``-m`` where a module of this project is run."""
    for line in text.replace("\\\n", " ").splitlines():
        match = re.search(r"(?:python|torchrun)\b.* -m ((?:mmssl|benchmarks)\b.*)", line)
        if match and "<" not in match[1].split()[0]:
            yield " ".join(match[1].split())


@cache
def problem(command: str) -> str:
    """What is wrong with ``<module> <arguments>``; empty if nothing is. ``<…>`` and ``…`` stand for anything."""
    module, *arguments = shlex.split(re.sub(r"<[^>]*>|…|\.{3}", "x", command), comments=True)
    if importlib.util.find_spec(module) is None:
        return f"there is no module {module}"
    if module == "mmssl":
        with pytest.raises(SystemExit) as ended:
            cli([arguments[0], "--help"])
        return f"there is no command {arguments[0]}" if ended.value.code else ""
    if not module.startswith("mmssl.recipes."):
        return ""
    recipe, experiment = module.removeprefix("mmssl.recipes."), "config"
    overrides = []
    while arguments:
        word = arguments.pop(0)
        if word == "--config-dir":
            folder = arguments.pop(0)
            if folder != f"recipes/{recipe}":
                return f"{recipe} with the experiments of {folder}"
        elif word == "--config-name":
            experiment = arguments.pop(0)
        elif word == "--cfg":
            arguments.pop(0)
        elif "=" in word:
            overrides.append(word)
        elif word != "x":
            return f"what is {word}?"
    try:
        composed(recipe, experiment, overrides)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_a_page_can_be_typed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {command: problem(command) for text in code(page) for command in commands(text)}
    assert not {command: why for command, why in found.items() if why}


@pytest.mark.parametrize("file", [*EXPERIMENTS, *RECIPES], ids=named)
def test_every_command_of_an_experiment_and_of_a_recipe_can_be_typed(file: Path) -> None:
    text = file.read_text() if file.suffix == ".yaml" else ast.get_docstring(ast.parse(file.read_text())) or ""
    found = {command: problem(command) for command in commands(text)}
    assert found
    assert not {command: why for command, why in found.items() if why}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("mmssl.recipes.vision_simclr train.lr=1e-3  # a comment", ""),
        ("mmssl.recipes.vision_mae --config-dir recipes/vision_mae --config-name gpu data.path=<some folder>", ""),
        ("mmssl embed runs/x photos out.parquet", ""),
        ("mmssl.recipes.vision_simclr train.lrr=1", "lrr"),
        ("mmssl.recipes.vision_simclr train.lr=fast", "fast"),
        ("mmssl.recipes.vision_simclr --config-dir recipes/vision_simclr --config-name tpu", "tpu"),
        (
            "mmssl.recipes.vision_simclr --config-dir recipes/vision_mae --config-name gpu",
            "experiments of recipes/vision_mae",
        ),
        ("mmssl.recipes.vision_simclr quickly", "what is quickly?"),
        ("mmssl.recipes.vision_simplr", "no module"),
        ("mmssl imbed x y z", "no command imbed"),
    ],
)
def test_a_command_that_cannot_be_typed_would_be_found(
    command: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (reason in problem(command)) if reason else problem(command) == ""


def test_commands_are_found_where_pages_have_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Run `python -m mmssl recipes`, or:\n```bash\n"
        "python -m mmssl.recipes.a \\\n    b=1\nOMP_NUM_THREADS=1 torchrun --nproc-per-node=2 -m mmssl.recipes.c …\n"
        "```\n`python -m mmssl.recipes.<name>` ```python\n"
    )
    found = [command for text in code(page) for command in commands(text)]
    assert found == ["mmssl.recipes.a b=1", "mmssl.recipes.c …", "mmssl recipes"]


# ------------------------------------------------------------------------------------------ Python, links, the tree


def python(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_in_a_page_imports_what_there_is(page: Path) -> None:
    for block in python(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmssl"):
                module = importlib.import_module(node.module or "")
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@pytest.mark.parametrize("number", range(len(python(ROOT / "docs" / "methods.md"))))
def test_the_examples_of_the_methods_page_run(number: int) -> None:
    torch.manual_seed(0)
    exec(compile(python(ROOT / "docs" / "methods.md")[number], "docs/methods.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [link.partition("#")[0] for link in links if not link.startswith(("https://", "http://", "#"))]
    assert not [link for link in local if not (page.parent / link).exists()]


@pytest.mark.parametrize("folder", sorted({e.parent for e in EXPERIMENTS}), ids=named)
def test_a_page_of_results_stands_beside_experiments_and_names_each(folder: Path) -> None:
    page = (folder / "README.md").read_text()
    assert not [e.stem for e in sorted(folder.glob("*.yaml")) if e.stem not in page]


def test_the_tree_of_the_readme_is_that_of_the_folders() -> None:
    listed, above = set(), list[str]()
    for indent, name in re.findall(r"^( *)([\w./]+)/ {2,}\S", TREE, re.M):
        above = [*above[: len(indent) // 2], name]
        listed.add("/".join(above))
    ignored = [line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    top = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")}
    there = {name for name in top if not any(fnmatch(name, pattern) for pattern in ignored)}
    there |= {named(p.parent) for p in (ROOT / "mmssl").rglob("__init__.py")}
    assert listed == there


def test_the_readme_names_every_recipe_and_its_results() -> None:
    page = (ROOT / "README.md").read_text()
    assert not [f.stem for f in RECIPES if f"`{f.stem}`" not in page]
    assert not [named(e.parent) for e in EXPERIMENTS if f"]({named(e.parent)}/README.md)" not in page]
