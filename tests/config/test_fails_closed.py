"""Configuration fails closed: an empty, misspelt or impossible value ends the start, wherever it stands.

The invalid values are derived from the types of the fields, so a new setting is tested without a line here.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import msgspec
import pytest
from typer.testing import CliRunner

from embergem.cli.app import app
from embergem.config import Key, Settings, UpstreamEntry, read_config
from embergem.config.environment import VARIABLES
from embergem.config.models import EmbeddingFields
from embergem.errors import InvalidConfig

ROOT = Path(__file__).parents[2]
NAN, INFINITY, HUGE = float("nan"), float("inf"), 10**30

INVALID = {
    int: [-1, 0, HUGE, 1.5, NAN, True, "", "x", []],
    float: [-1, 0, HUGE, NAN, INFINITY, True, "", "x", []],
    str: ["", " ", 5, True, NAN, ["a"]],
    bool: ["", "yes", 2, NAN, []],
    Literal: ["", "other", 5, True],
    tuple: ["", "a", 5, [""], ["a", " "], [5]],
}
"""Values that a field of each type must refuse."""

MEANINGFUL = {
    ("port", 0): "0 takes a free one",
    ("cache_bytes", 0): "0 turns it off",
    ("keep_alive", 0): "0 unloads it at the next check",
}
"""Exceptions, each with its words in the docstring of the struct."""

ALSO_INVALID = {
    "cors": [
        ["https://a/"], ["https://a/page"], ["https://A.example"], ["https://a:443"], ["a.example"], ["https://*.a"],
        ["https://a?b"], ["https://user@a"], ["https://a:99999"],
    ],
    "dtype": ["float16", "int4"],
    "revision": ["../x"],
    "aliases": [[" a"], ["a\nb"]],
    "upstream": ["localhost:1", "http://", "https://:80", "ftp://a", "http://a b"],
    "name": ["a b", "a\n", "a" * 65],
    "sha256": ["0" * 63, "0" * 64 + "\n", "g" * 64],
    "max_header_bytes": [1023],
    "port": [65536],
    "window": [1],
}  # fmt: skip
REQUIRED = {
    EmbeddingFields: {"model_id": "org/name"},
    UpstreamEntry: {"upstream": "http://a"},
    Key: {"name": "a", "sha256": "0" * 64},
    Settings: {},
}


def base_type(kind):
    """Return the type without None and constraints: `Annotated[int, ...] | None` -> int."""
    if get_origin(kind) is Annotated:
        return base_type(get_args(kind)[0])
    for one in get_args(kind) if type(None) in get_args(kind) else ():
        if one is not type(None):
            return base_type(one)
    return get_origin(kind) or kind


def invalid_values(kind, name):
    """Yield the values that a field must refuse."""
    field = next(field for field in msgspec.structs.fields(kind) if field.name == name)
    for value in [*INVALID[base_type(field.type)], *ALSO_INVALID.get(name, [])]:
        if type(value) is bool or (name, value) not in [*MEANINGFUL]:
            yield value


def cases(*kinds):
    return [
        pytest.param(kind, name, id=f"{kind.__name__}-{name}")
        for kind in kinds
        for name in kind.__struct_fields__
        if (kind, name) != (UpstreamEntry, "name")  # the key of the table
    ]


def toml(value):
    """Write a value in TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return str(value).lower() if isinstance(value, bool | float) else json.dumps(value)


@pytest.mark.parametrize(("kind", "name"), cases(Settings, EmbeddingFields, UpstreamEntry, Key))
def test_a_file_with_an_invalid_value_is_refused_with_its_place(tmp_path, kind, name):
    file = tmp_path / "server.toml"
    table, place = {
        Settings: ("[server]", "server."),
        Key: ("[[keys]]", "keys[0]."),
        EmbeddingFields: ("[models.x]", "x."),
        UpstreamEntry: ("[models.x]", "x."),
    }[kind]
    for value in invalid_values(kind, name):
        fields = {**REQUIRED[kind], name: value}
        file.write_text("\n".join([table, *(f"{key} = {toml(one)}" for key, one in fields.items())]))
        with pytest.raises(InvalidConfig) as refused:
            read_config(file, {}, {})
        message = refused.value.message
        assert f"{file}: {place}{name} " in message, (value, message)
        shown = "empty" if isinstance(value, str) and not value.strip() else repr(value)
        assert shown in message or name == "sha256", (value, message)


@pytest.mark.parametrize(("kind", "name"), cases(Settings))
def test_a_flag_with_an_invalid_value_is_refused(kind, name):
    for value in invalid_values(kind, name):
        with pytest.raises(InvalidConfig, match=re.escape("--" + name.replace("_", "-"))):
            read_config(None, {}, {name: value})


@pytest.mark.parametrize(("kind", "name"), cases(Settings))
def test_a_variable_with_an_invalid_value_is_refused(kind, name):
    variable, base = f"EMBERGEM_{name.upper()}", base_type(Settings.__annotations__[name])
    texts = {"", " "}
    for value in invalid_values(kind, name):
        if base is tuple:
            if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
                texts.add(",".join(value))
        elif base is not str or (name in ALSO_INVALID and isinstance(value, str)):  # else every text is a string
            texts.add(str(value))
    if base in (float, bool):
        texts -= {"True"}
    for text in texts:
        with pytest.raises(InvalidConfig, match=rf"^{variable} is "):
            read_config(None, {variable: text}, {})


def test_exceptions_are_documented():
    documented = " ".join(f"{Settings.__doc__} {(ROOT / 'src/embergem/config/models.py').read_text()}".split())
    for (name, _), words in MEANINGFUL.items():
        assert words in documented, name


@pytest.mark.parametrize(
    "value",
    [["https://app.example"], ["*"], ["null"], ["http://localhost:3000"], ["http://[::1]:80", "https://[::1]:1"],
     ["chrome-extension://abcdefgh"], ["app://obsidian.md"], []],
)  # fmt: skip
def test_origins_are_accepted_as_browsers_write_them(value):
    if "http://[::1]:80" in value:
        with pytest.raises(InvalidConfig, match=r"Write 'http://\[::1\]'"):
            read_config(None, {}, {"cors": value})
        value = value[1:]
    assert read_config(None, {}, {"cors": value}).settings.cors == tuple(value)
    if value:
        assert read_config(None, {"EMBERGEM_CORS": " , ".join(value)}, {}).settings.cors == tuple(value)


def test_an_empty_variable_does_not_open_a_server_whose_file_has_keys(tmp_path):
    (tmp_path / "keys.toml").write_text(f'[[keys]]\nname = "a"\nsha256 = "{"0" * 64}"\n')
    file = tmp_path / "server.toml"
    file.write_text('[server]\nkeys = "keys.toml"\n')
    assert len(read_config(file, {}, {}).keys) == 1
    for value in ("", "  "):
        with pytest.raises(InvalidConfig, match=r"^EMBERGEM_KEYS is empty\. Unset it"):
            read_config(file, {"EMBERGEM_KEYS": value}, {})
        with pytest.raises(InvalidConfig, match=r"^--keys is empty"):
            read_config(file, {}, {"keys": value})


@pytest.mark.parametrize(
    "variable", [*(f"EMBERGEM_{name.upper()}" for name in Settings.__struct_fields__), *VARIABLES, "EMBERGEM_ANY"]
)
def test_every_variable_is_refused_if_it_is_empty(variable):
    with pytest.raises(InvalidConfig, match=f"^{variable} is empty"):
        read_config(None, {variable: ""}, {})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("EMBERGEM_STRCIT", "EMBERGEM_STRICT"),
        ("EMBERGEM_KEY", "EMBERGEM_KEYS"),
        ("EMBERGEM_CACHE_DIR", "EMBERGEM_CACHE"),
        ("EMBERGEM_port", "EMBERGEM_PORT"),
        ("EMBERGEM_API_KEYS", "EMBERGEM_API_KEY"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_suggestion(variable, meant):
    with pytest.raises(InvalidConfig, match=rf"^{variable} is neither .* Did you mean '{meant}\w*'\?"):
        read_config(None, {variable: "1"}, {})


def test_other_variables_are_accepted():
    environment = {**dict.fromkeys(VARIABLES, "/x"), "HOME": "", "_EMBERGEM_COMPLETE": "complete_bash", "PORT": "x"}
    assert read_config(None, environment, {}).settings == Settings()


LINKS = {
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "1234",
    "SERVICE_PORT_HTTP": "1234",
    "PORT": "tcp://10.0.0.1:1234",
    "PORT_1234_TCP": "tcp://10.0.0.1:1234",
    "PORT_1234_TCP_PROTO": "tcp",
    "PORT_1234_TCP_PORT": "1234",
    "PORT_1234_TCP_ADDR": "10.0.0.1",
}
"""What Kubernetes sets for a Service, after the name of the Service."""


@pytest.mark.parametrize("service", ["EMBERGEM", "EMBERGEM_METRICS"])
def test_links_of_kubernetes_to_the_own_service_are_ignored_with_a_note(service):
    environment = {f"{service}_{name}": value for name, value in LINKS.items()}
    config = read_config(None, environment, {})
    assert config.settings == Settings()
    (note,) = config.notes
    assert all(variable in note for variable in environment)
    assert "enableServiceLinks: false" in note
    assert read_config(None, {}, {}).notes == ()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("EMBERGEM_PORT", "http://10.0.0.1"), ("EMBERGEM_PORT_1234", "5"), ("EMBERGEM_METRICS_PORT", "9")],
)
def test_other_names_and_values_are_no_links(variable, value):
    with pytest.raises(InvalidConfig, match=f"^{variable} is"):
        read_config(None, {variable: value}, {})


def test_every_variable_in_the_source_is_a_setting_or_known():
    """A variable that a module reads and the server refuses would be of no use."""
    settings = {f"EMBERGEM_{name.upper()}" for name in Settings.__struct_fields__}
    elsewhere = {
        "EMBERGEM_BENCHMARK_KERNELS": "read by the benchmark of the kernels",
        "EMBERGEM_BUILD": "set while crates are compiled",
        "EMBERGEM_CASE_RESULTS": "set by a test of the Rust crate",
        "EMBERGEM_MODEL": "read by the examples of the Rust crate, which are no server",
        "EMBERGEM_TEST_INSTRUCTION_SETS": "set by scripts/test_emulated.py for a test of the Rust crate",
        "EMBERGEM_STRCIT": "a misspelt name in a docstring",
    }
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "crates").rglob("*.rs"), *(ROOT / "deploy").iterdir()]
    found = {
        name
        for path in sources
        if path.is_file()
        for name in re.findall("EMBERGEM_[A-Z]+(?:_[A-Z]+)*", path.read_text())
    }
    assert found - settings - {*elsewhere} == {*VARIABLES} & found
    assert {"EMBERGEM_CACHE", "EMBERGEM_API_KEY", "EMBERGEM_PACKED_LIMIT"} <= found


@pytest.mark.parametrize("name", ["", " ", " x", "x\\u0085"])
def test_an_empty_or_unprintable_name_of_a_model_is_refused(tmp_path, name):
    file = tmp_path / "server.toml"
    file.write_text(f'[models."{name}"]\nmodel_id = "org/name"\n')
    with pytest.raises(InvalidConfig, match=r"server\.toml: .*The name "):
        read_config(file, {}, {})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--keys", ""], "--keys is empty"),
        (["--host", " "], "--host is empty"),
        (["--cors", "https://a/"], "--cors is ['https://a/']: 'https://a/' is not an origin. Write 'https://a'"),
        (["--threads", "0"], "--threads"),
        (["--port", "-1"], "--port"),
        (["--dtype", "float8"], "--dtype is 'float8'"),
        (["--model", ""], "No model is called ''"),
    ],
)
def test_serve_refuses_an_invalid_flag(arguments, words):
    result = CliRunner().invoke(app, ["serve", *arguments])
    shown = re.sub(r"\s+", " ", re.sub(r"\x1b\[[\d;]*m|[│╭╮╰╯─]", " ", f"{result.output} {result.exception}"))
    assert result.exit_code != 0
    assert words in shown
