"""The shape of the project: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "embergem"

LAYERS = [
    {"errors", "tasks", "paths", "_native"},
    {"types", "ops", "catalog", "progress", "protocol"},
    {"models"},
    {"program", "checkpoint"},
    {"hub"},
    {"selfcheck"},
    {"engine"},
    {"registry", "sdk", "config", "diagnostics", "client", "embedder", "async_embedder"},
    {"compat", "sentence_transformers"},
    {"integrations"},
    {"server"},
    {"cli"},
    {"__init__", "__main__"},
]
"""From the lowest to the highest: a layer imports from itself and from those before it."""

LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}


def layer(module):
    """`embergem.ops.trace` -> `ops`; `embergem` itself -> `__init__`."""
    return [*module.split("."), "__init__"][1]


def imports(path):
    """Modules of embergem that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] if node.module != "embergem" else [f"embergem.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "embergem")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path):
    own = layer(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
    for module in imports(path):
        if module == "embergem.__version__":
            continue
        assert LEVEL[layer(module)] <= LEVEL[own], f"{own} imports {module}"


def test_every_module_is_in_a_layer():
    found = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found | {"_native"} == set(LEVEL)


@pytest.mark.parametrize("crate", ["core", "text"])
def test_crates_below_python_stay_there(crate):
    manifest = (SOURCE.parents[1] / "crates" / crate / "Cargo.toml").read_text()
    assert "pyo3" not in manifest
    assert "embergem-" not in manifest.split("[dependencies]")[1]


def test_importing_embergem_loads_nothing_heavy():
    code = "import sys; before = set(sys.modules); import embergem; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "msgspec", "huggingface_hub", "typer", "rich", "starlette", "uvicorn", "torch", "asyncio"}
    assert not heavy & set(loaded)
    assert [name for name in loaded if name.startswith("embergem")] == ["embergem"]


def test_help_needs_neither_numpy_nor_the_hub():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom embergem.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\nprint(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "huggingface_hub", "starlette", "uvicorn", "embergem._native"} & set(loaded)


def test_the_module_table_is_current():
    command = [sys.executable, str(SOURCE.parents[1] / "scripts" / "module_table.py"), "--check"]
    assert subprocess.run(command).returncode == 0, "docs/structure.md is stale: make module-table"
