"""Declarations of model families: they are found without imports, agree with the code, and are enforced."""

import importlib
import json
import py_compile
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from goldens import DATA, TINY

import embergem
from embergem import models
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import UnsupportedModel, UnsupportedOption
from embergem.models import architecture, families, model_type_of, require_arch
from embergem.models.conditions import RecordingConfig
from embergem.models.family import ANY, declaration

sys.path.insert(0, str(DATA.parents[2] / "scripts"))
from published_configs import PUBLISHED, spellings

PACKAGE = Path(embergem.__file__).parent
FAMILIES = families()


def described_by(family):
    """Return the configs of a family's goldens and of its published models, in every spelling."""
    configs = [read_checkpoint(Location(name, path)).config for name, path in TINY.items()]
    configs += [form for published in PUBLISHED for form in spellings(published.config)]
    return [config for config in configs if model_type_of(config) in family.model_types]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_declaration_in_the_source_is_the_one_of_the_module(name):
    module = importlib.import_module(f"embergem.models.{name}")
    assert declaration(Path(module.__file__).read_text(), name) == module.FAMILY
    code = importlib.import_module(f"embergem.models.{module.FAMILY.arithmetic or name}")
    assert callable(code.read_config)
    assert callable(code.forward)


@pytest.mark.parametrize("name", FAMILIES)
def test_declared_fields_are_those_that_are_read(name):
    family, found = FAMILIES[name], set()
    configs = described_by(family)
    assert configs
    for config in configs:
        recorded = RecordingConfig(config)
        architecture(recorded)
        nested = family.nested if isinstance(config.get(family.nested), dict) else None
        own = [condition["path"] for condition in recorded.conditions if condition["path"] != ["model_type"]]
        found |= {path[1] if nested else path[0] for path in own if path != [family.nested]}
    optional = {"norms_folded"}  # written by the GGUF reader
    assert found - optional == {*family.fields, *(inert.field for inert in family.inert)} - optional


@pytest.mark.parametrize(
    ("name", "inert"),
    [(name, inert) for name, family in FAMILIES.items() for inert in family.inert if inert.values != ANY],
)
def test_another_value_of_an_inert_field_is_refused_with_the_reason(name, inert):
    family = FAMILIES[name]
    config = json.loads(json.dumps(described_by(family)[0]))
    inside = config[family.nested] if isinstance(config.get(family.nested), dict) else config
    for value in inert.values:
        inside[inert.field] = value
        architecture(config)
    inside[inert.field] = "another"
    with pytest.raises(UnsupportedModel) as refused:
        architecture(config)
    assert f"{inert.field} is 'another'" in str(refused.value)
    assert inert.reason in str(refused.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_name_of_a_family_selects_it_and_no_other(name):
    family = FAMILIES[name]
    for arch in (*family.arch_names, *family.model_types, *(other for other, _ in family.spellings)):
        accepted = {one for other in FAMILIES.values() for one in other.model_types if accepts(one, arch)}
        assert accepted
        assert accepted <= set(family.model_types), arch


def test_an_unknown_arch_is_refused_with_the_known_names():
    names = sorted(name for family in FAMILIES.values() for name in family.arch_names)
    with pytest.raises(UnsupportedOption, match=rf"It has: auto, {', '.join(names)}\.$"):
        require_arch("bert", "no such name")


def accepts(model_type, arch):
    try:
        require_arch(model_type, arch)
    except UnsupportedModel:
        return False
    return True


LOAD_BERT = """
import json, sys
from embergem.models import architecture
print(architecture(json.load(open(sys.argv[1]))).model_type)
print(*sorted(name for name in sys.modules if name.startswith("embergem.models.")))
"""
WITHOUT_CODE = {"architecture", "conditions", "config", "corrections", "family", "head", "rope", "unread"}


def loaded_by_bert(*paths):
    """Read a BERT config in a process that imports embergem from `paths`; return the family modules that it imports."""
    code = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n{LOAD_BERT}"
    command = [sys.executable, "-I", "-c", code, str(DATA / "bert_mean" / "config.json")]
    model_type, modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert model_type == "bert"
    return {name.rpartition(".")[2] for name in modules.split()} - WITHOUT_CODE


def test_loading_a_model_imports_its_family_only():
    assert loaded_by_bert(PACKAGE.parent) == {"bert"}


def test_families_are_found_in_a_zip_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "embergem.zip", "w") as archive:
        for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.json")):
            archive.write(path, path.relative_to(PACKAGE.parent))
    assert loaded_by_bert(tmp_path / "embergem.zip") == {"bert"}


def test_without_sources_families_are_imported(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "embergem", ignore=shutil.ignore_patterns("models", "__pycache__", "*.so"))
    for path in PACKAGE.glob("models/*.py"):
        py_compile.compile(path, tmp_path / "embergem" / "models" / f"{path.stem}.pyc", doraise=True)
    for path in PACKAGE.glob("models/*.json"):
        shutil.copy(path, tmp_path / "embergem" / "models")
    assert loaded_by_bert(tmp_path) == set(FAMILIES)


DECLARED = """
FAMILY = Family(
    title="Other",
    checkpoints="none",
    differs="nothing",
    model_types=("{model_type}",),
    special_tokens=(),
)
"""


@pytest.fixture
def more_families(tmp_path, monkeypatch):
    """Return a function that writes a family module into a directory that extends the package."""
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)

    return write


def test_two_families_with_one_name_are_refused(more_families):
    more_families("other", DECLARED.format(model_type="bert"))
    with pytest.raises(ValueError, match=r"models\.bert and embergem\.models\.other both declare the name 'bert'"):
        families()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (DECLARED.replace("()", "tuple()"), "must be literals"),
        (DECLARED.replace("    differs", "    unknown"), "must be literals: .*unexpected keyword argument 'unknown'"),
        ("FAMILY = dict()\n", "one argument a line"),
    ],
)
def test_a_declaration_that_is_no_literal_is_refused(more_families, source, message):
    more_families("other", source)
    with pytest.raises(ValueError, match=f"embergem.models.other: .*{message}"):
        families()


def test_a_module_without_a_declaration_is_no_family():
    assert declaration('"""Helpers."""\n\nx = 1\n', "helpers") is None
    assert "config" not in FAMILIES


def test_the_config_of_a_family_is_a_frozen_dataclass():
    for name, path in TINY.items():
        described = architecture(read_checkpoint(Location(name, path)).config)
        assert replace(described.config) == described.config
        assert described.config.vocab_size > 0
        assert hash(described.config) is not None
