"""`LoadOptions`: invalid values, and the rule that functions pass it whole: only entry points name its fields."""

import ast
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from embergem.errors import UnsupportedOption
from embergem.options import LoadKeywords, LoadOptions

SOURCE = Path(__file__).parents[1] / "src" / "embergem"

FIELDS = {field.name for field in fields(LoadOptions)}

MOST = 2
"""Fields that a function outside the entry points may take as parameters or pass as keyword arguments."""

ENTRY_POINTS = {
    "cli/serve.py": "two flags of `serve` are settings of the server",
    "compat/mistralrs/runner.py": "Runner takes the selector of the other library",
    "compat/sentence_transformers/model.py": "SentenceTransformer takes the options as keyword arguments",
    "config/models.py": "reads the fields of an entry in a configuration file",
    "config/settings.py": "completes the options with the settings of the server",
}
"""Modules that build `LoadOptions`, each with what they build it from."""


def spelled_out(source):
    """Return the lines of the functions and calls in `source` that name more than `MOST` fields of `LoadOptions`."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = node.args
            names = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        elif isinstance(node, ast.Call):
            names = {keyword.arg for keyword in node.keywords}
        else:
            continue
        if len(names & FIELDS) > MOST:
            lines.append(node.lineno)
    return lines


def test_only_entry_points_spell_out_the_options():
    found = {
        path.relative_to(SOURCE).as_posix(): lines
        for path in SOURCE.rglob("*.py")
        if (lines := spelled_out(path.read_text()))
    }
    assert {name: lines for name, lines in found.items() if name not in ENTRY_POINTS} == {}, "pass LoadOptions whole"
    assert ENTRY_POINTS.keys() - found.keys() == set(), "remove these from ENTRY_POINTS"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def load(options, cache): ...\nload(options, dtype=a, threads=b)", []),
        ("def load(model, dtype, threads): ...", [1]),
        ("x = 1\nasync def load(model, /, dtype, *, window): ...", [2]),
        ("load(arch=a,\n     window=b, revision=c)", [1]),
        ("f = lambda model, dtype, arch: None", [1]),
        ("class Loader:\n    def load(self, *, model=None, device=None, tokenizer=None): ...", [2]),
    ],
)
def test_the_check_finds_spelled_out_options(source, lines):
    assert spelled_out(source) == lines


def test_the_keywords_of_embedders_are_fields():
    hints = get_type_hints(LoadOptions)
    for name, kind in get_type_hints(LoadKeywords).items():
        assert hints[name] == kind, name


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"dtype": "float16"}, "65,504.*Choose one of: float32"),
        ({"dtype": "q4"}, "dtype='q4' is not available. Choose one of: float32"),
        ({"device": "cuda"}, "device='cuda' is not available"),
        ({"threads": 0}, "threads=0 is not possible"),
        ({"max_batch_tokens": 0}, "max_batch_tokens=0"),
        ({"max_batch_rows": -1}, "max_batch_rows=-1"),
        ({"max_queue_tokens": 0}, "max_queue_tokens=0"),
        ({"window": 1}, "window=1 leaves no neighbouring token"),
        ({"revision": " "}, "is not a branch, tag or commit"),
        ({"token_source": "hf_secret"}, '"env:VARIABLE"'),
        ({"threads": "2"}, "threads is of type str. Give a whole number"),
        ({"threads": True}, "threads is of type bool"),
        ({"window": 6.5}, "window is of type float"),
        ({"dtype": ["int16"]}, "dtype is of type list. Give a string"),
        ({"revision": 5}, "revision is of type int"),
        ({"token_source": b"literal:hf_secret"}, "token_source is of type bytes"),
        ({"tokenizer": 5}, "tokenizer is of type int. Give a string or a path"),
        ({"allow_missing_dense": "no"}, "allow_missing_dense is of type str. Give True or False"),
    ],
)
def test_invalid_values_are_refused_before_any_file_is_read(option, words):
    [name] = option
    with pytest.raises(UnsupportedOption, match=words) as error:
        LoadOptions(**option)
    assert error.value.param == name
    assert "secret" not in error.value.message


def test_the_repr_does_not_show_a_token():
    assert "secret" not in repr(LoadOptions(model="a", token_source="literal:hf_secret"))
