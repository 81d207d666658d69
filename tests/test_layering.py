"""Who may import whom, read from the source; and `import mmssl` is instant."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mmssl"
MODALITIES = {"vision", "timeseries", "audio", "tabular", "graph", "text", "multimodal"}
MODULES = sorted(ROOT.rglob("*.py"))
OF_ONE_MODALITY = {
    "aeon": "timeseries",
    "seglearn": "timeseries",
    "torchvision": "vision",
    "timm": "vision",
    "torchaudio": "audio",
    "soundfile": "audio",
    "soxr": "audio",
    "espeakng_loader": "audio",
    "torch_geometric": "graph",
    "tokenizers": "text",
}
TABLES = {
    "audio/tables.py",
    "eval/embeddings.py",
    "graph/tables.py",
    "multimodal/tables.py",
    "tabular/blocks.py",
    "tabular/data.py",
    "tabular/tables.py",
    "timeseries/columns.py",
    "timeseries/data.py",
    "timeseries/parquet.py",
    "timeseries/reading.py",
    "timeseries/rows.py",
    "timeseries/tables.py",
    "vision/data.py",
}


UNPICKLES = {"graph/planetoid.py"}  # public files that are pickles, by an unpickler that refuses all but arrays


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run: what stands under `if TYPE_CHECKING:` does not."""
    yield node
    children = node.orelse if isinstance(node, ast.If) and for_types_only(node) else ast.iter_child_nodes(node)
    for child in children:
        yield from walk(child)


@cache
def imports(file: Path) -> frozenset[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            assert node.module is not None
            names.add(node.module)
            if node.module == "mmssl" or node.module.count(".") == 1:  # `from mmssl.recipes import session`
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def part(file: Path) -> str:
    """``core``, ``train``, ``eval``, ``recipes`` or a modality; the empty string for `mmssl/*.py`."""
    inside = file.relative_to(ROOT)
    return inside.parts[0] if len(inside.parts) > 1 else ""


def own(file: Path) -> set[str]:
    """Parts of mmssl that a file imports."""
    return {
        name.split(".")[1]
        for name in imports(file)
        if name.startswith("mmssl.") and (ROOT / name.split(".")[1]).is_dir()
    }


def others(file: Path) -> set[str]:
    """Top-level packages outside the standard library and mmssl."""
    return {name.split(".")[0] for name in imports(file)} - sys.stdlib_module_names - {"mmssl"}


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def of(*parts: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", [f for f in MODULES if part(f) in parts], ids=named)


every = pytest.mark.parametrize("file", MODULES, ids=named)


def test_the_reader_of_imports_finds_what_it_should(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import numpy as np\n"
        "from mmssl.recipes import session\n"
        "if TYPE_CHECKING:\n    import pandas as pd\nelse:\n    import json\n"
        "def late():\n    from aeon.deep import inside\n"
    )
    assert imports(file) == {
        "typing",
        "numpy",
        "mmssl.recipes",
        "mmssl.recipes.session",
        "json",
        "aeon.deep",
        "aeon.deep.inside",
    }
    assert {part(f) for f in MODULES} >= {"", "core", "train", "eval", "recipes", "timeseries"}


@of("core")
def test_core_knows_torch_and_nothing_else(file: Path) -> None:
    assert own(file) <= {"core"}
    assert others(file) <= {"torch"}


@of("train")
def test_train_knows_core_and_no_modality(file: Path) -> None:
    assert own(file) <= {"core", "train"}


@of("eval")
def test_eval_knows_features_only(file: Path) -> None:
    assert own(file) <= {"eval"}
    assert "torch" not in others(file)


@of(*MODALITIES)
def test_modalities_know_core_and_never_each_other(file: Path) -> None:
    allowed = {"core", part(file)} | (MODALITIES if part(file) == "multimodal" else set())
    if file.name == "estimators.py":  # scikit-learn's face of a recipe: it trains
        allowed |= {"train"}
    assert own(file) <= allowed


@of("core", "train", "eval", *MODALITIES)
def test_nothing_below_knows_a_recipe(file: Path) -> None:
    assert "recipes" not in own(file)


@every
def test_configuration_libraries_stay_in_the_recipes(file: Path) -> None:
    if part(file) != "recipes":
        assert not others(file) & {"hydra", "omegaconf"}


@every
def test_tables_are_read_in_the_data_modules_only(file: Path) -> None:
    if named(file) not in TABLES:
        assert not others(file) & {"pandas", "pyarrow"}


@every
def test_libraries_of_a_modality_stay_in_it(file: Path) -> None:
    assert {OF_ONE_MODALITY[name] for name in others(file) if name in OF_ONE_MODALITY} <= {part(file)}


@every
def test_nothing_is_pickled(file: Path) -> None:
    text = file.read_text()
    used = {name.split(".")[0] for name in imports(file)} & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}
    assert used == ({"pickle"} if named(file) in UNPICKLES else set())
    assert "pickle.load" not in text
    assert "torch.load(" not in text
    assert "torch.save(" not in text
    assert "allow_pickle=True" not in text


@every
def test_every_module_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))
    assert file.name != "utils.py"


def seconds(code: str) -> float:
    """Best of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def test_importing_mmssl_imports_nothing_heavy() -> None:
    code = "import mmssl, sys; print([n for n in ('torch', 'numpy', 'pandas', 'lightning_fabric') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_mmssl_is_instant() -> None:
    assert seconds("import mmssl") - seconds("pass") < 0.2


IMPORT_EACH = """
import importlib, sys
for name in sys.argv[1:]:
    for known in [known for known in sys.modules if known.split(".")[0] == "mmssl"]:
        del sys.modules[known]
    importlib.import_module(name)
"""


@pytest.mark.slow
def test_every_module_can_be_imported_first() -> None:
    names = [".".join(f.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for f in MODULES]
    command = [sys.executable, "-W", "error", "-c", IMPORT_EACH, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
