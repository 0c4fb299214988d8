"""The structure of the project: allowed imports, names and sizes of modules, and the modules that an import loads."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from import_graph import find_cycle, import_graph

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "embergem"
sys.path.insert(0, str(ROOT / "scripts"))

from module_table import described, small  # noqa: E402 - the scripts are no package

LAYERS = [
    {"errors", "tasks", "paths", "free_memory", "memory_use", "suggestions", "keywords", "_native"},
    {"types", "packed_rows", "options", "ops", "catalog", "progress", "protocol", "batch_protocol"},
    {"models"},
    {"program", "checkpoint"},
    {"hub"},
    {"selfcheck"},
    {"engine"},
    {"loader"},
    {"registry", "sdk", "config", "diagnostics", "export", "client", "embedder", "async_embedder", "open_backend"},
    {"compat", "sentence_transformers", "evaluate"},
    {"integrations"},
    {"bulk"},
    {"server"},
    {"ray"},
    {"cli"},
    {"__init__", "__main__"},
]
"""From the lowest to the highest: a layer imports from itself and from those before it."""

CONVENTIONAL = {
    "app.py": "the application object of the server and of the command line",
    "build.py": "builds what the package is about: a program, the models of a server",
    "errors.py": "the errors of the package",
    "options.py": "the options of loading a model: all of them, the hub's part, the command line's flags",
    "models.py": "what the package does with models: commands, routes, settings, a class that manages them",
    "read.py": "reads the files that the package is about",
    "report.py": "the result of the package's checks, as a struct",
    "settings.py": "the settings of a server, and the checks of a model's settings",
    "tables.py": "the arguments of the other library that are accepted, refused or ignored",
}
"""File names that several packages may use, each with what it means in all of them."""


def layer_of(module):
    """Return the layer of a module: `embergem.ops.trace` -> `ops`; `embergem` itself -> `__init__`."""
    return [*module.split("."), "__init__"][1]


def upward_imports(graph, layers):
    """Return "a imports b" for each import from a lower layer into a higher one."""
    level = {name: level for level, layer in enumerate(layers) for name in layer}
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if level[layer_of(other)] > level[layer_of(module)]
    ]


def shared_names(package):
    """Return {file name: files, relative to the package} of the names that more than one module has."""
    found = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            found[path.name].append(path.relative_to(package).as_posix())
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def unexplained(package):
    """Return the modules, relative to the package, that are small and give no reason to be separate."""
    paths = sorted(package.rglob("*.py"))
    return {path.relative_to(package).as_posix() for path in paths if small(path) and not described(path)[1]}


def test_imports_point_downwards():
    assert upward_imports(import_graph(SOURCE, type_checking=True), LAYERS) == []


def test_every_module_is_in_a_layer():
    found = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found | {"_native"} == set().union(*LAYERS)


def test_no_modules_import_each_other():
    cycle = find_cycle(import_graph(SOURCE))
    assert cycle is None, " -> ".join(cycle)


def test_file_names_are_unique():
    shared = shared_names(SOURCE)
    unexplained_names = {name: paths for name, paths in shared.items() if name not in CONVENTIONAL}
    assert unexplained_names == {}, "rename a module, or say in CONVENTIONAL what the name means in all of them"
    assert CONVENTIONAL.keys() - shared.keys() == set(), "one module has this name now: remove it from CONVENTIONAL"


def test_a_small_module_says_why_it_is_separate():
    assert unexplained(SOURCE) == set(), 'add a docstring paragraph that begins with "Separate because", or merge'


@pytest.mark.parametrize("crate", ["core", "text"])
def test_crates_below_python_stay_there(crate):
    manifest = (SOURCE.parents[1] / "crates" / crate / "Cargo.toml").read_text()
    assert "pyo3" not in manifest
    linked, _, of_build_script = manifest.split("[dependencies]")[1].partition("[build-dependencies]")
    assert "embergem-" not in linked
    assert of_build_script.count("embergem-") == of_build_script.count("embergem-build") == 1


def test_a_build_script_is_inside_its_crate():
    """maturin refuses to pack another one into the source distribution."""
    for manifest in (SOURCE.parents[1] / "crates").glob("*/Cargo.toml"):
        assert 'build = "..' not in manifest.read_text("utf-8"), manifest


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


def test_a_command_imports_only_what_it_needs():
    code = (
        "import sys\nfrom embergem.cli.app import assemble, report\n"
        "try:\n    assemble(['embed'])(['embed', 'a', '-m', '/no such model'], standalone_mode=False)\n"
        "except Exception as error:\n    assert report(error) == 4\nprint(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "embergem.loader" in loaded
    assert not {"asyncio", "rich", "embergem.cli.serve", "embergem.cli.models", "embergem.config"} & set(loaded)


def test_the_module_table_is_current():
    command = [sys.executable, str(SOURCE.parents[1] / "scripts" / "module_table.py"), "--check"]
    assert subprocess.run(command).returncode == 0, "docs/structure.md is stale: make module-table"


# Each check finds a fault in a small package that has it.


@pytest.fixture
def sample(tmp_path):
    """Return a function that writes a package {file: source} and returns its directory."""

    def written(files):
        for name, source in files.items():
            path = tmp_path / "sample" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return tmp_path / "sample"

    return written


PACKAGE = {
    "__init__.py": "",
    "lower/__init__.py": "",
    "lower/a.py": "from sample.lower import b\n",
    "lower/b.py": "value = 1\n",
    "upper.py": "from sample.lower.a import b\nfrom sample import __version__\n",
}


def test_a_sound_package_has_no_faults(sample):
    found = import_graph(sample(PACKAGE))
    assert found["sample.lower.a"] == {"sample.lower.b"}
    assert found["sample.upper"] == {"sample.lower.a"}
    assert find_cycle(found) is None
    assert upward_imports(found, [{"lower"}, {"upper"}, {"__init__"}]) == []


@pytest.mark.parametrize(
    "source",
    [
        "from sample.lower import a\n",
        "import sample.lower.a\n",
        "def f():\n    from sample.lower.a import b\n",
        "from sample import upper\n",
    ],
)
def test_a_cycle_is_found(sample, source):
    cycle = find_cycle(import_graph(sample(PACKAGE | {"lower/b.py": source})))
    assert cycle[0] == cycle[-1]
    assert {"sample.lower.a", "sample.lower.b"} <= set(cycle)


def test_a_cycle_through_the_attributes_of_a_package_is_found(sample):
    homes = 'import importlib\n_HOMES = {"a": "lower.a"}\ndef __getattr__(name): ...\n'
    found = import_graph(sample(PACKAGE | {"__init__.py": homes, "lower/b.py": "from sample import a\n"}))
    assert find_cycle(found) == ["sample", "sample.lower.a", "sample.lower.b", "sample"]


def test_an_import_for_type_checkers_closes_no_cycle(sample):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sample.lower import a\n"
    package = sample(PACKAGE | {"lower/b.py": source})
    assert find_cycle(import_graph(package)) is None
    assert find_cycle(import_graph(package, type_checking=True))


def test_an_upward_import_is_found(sample):
    package = sample(PACKAGE | {"lower/b.py": "def f():\n    import sample.upper\n"})
    assert upward_imports(import_graph(package), [{"lower"}, {"upper"}, {"__init__"}]) == [
        "sample.lower.b imports sample.upper"
    ]


def test_a_shared_name_is_found(sample):
    assert shared_names(sample(PACKAGE)) == {}
    assert shared_names(sample({"upper/a.py": ""})) == {"a.py": ["lower/a.py", "upper/a.py"]}


def test_an_unexplained_small_module_is_found(sample):
    package = sample(
        {
            "__init__.py": "",
            "explained.py": '"""A part.\n\nSeparate because two packages use it.\n"""\n',
            "large.py": "x = 1\n" * 60,
            "small.py": '"""A part."""\n',
        }
    )
    assert unexplained(package) == {"small.py"}
