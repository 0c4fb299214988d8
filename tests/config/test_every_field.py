"""Each field of a configuration with an invalid value: the error names the place, the value, and what is allowed."""

import msgspec
import pytest

from embergem.config import Key, Settings, read_config
from embergem.config.fields import describe_type, read_fields
from embergem.config.models import EmbeddingFields, UpstreamEntry, read_entry
from embergem.errors import InvalidConfig

KINDS = {"server": Settings, "model": EmbeddingFields, "upstream": UpstreamEntry, "key": Key}
FIELDS = [(place, field) for place, kind in KINDS.items() for field in msgspec.structs.fields(kind)]


def invalid(field):
    """Return a value that the type of the field does not allow."""
    words = describe_type(field.type)
    return -1 if "number" in words else 5 if "string" in words or "one of" in words else "nonsense"


@pytest.mark.parametrize(("place", "field"), FIELDS, ids=[f"{place}.{field.name}" for place, field in FIELDS])
def test_a_value_of_another_type_is_named_with_what_is_allowed(place, field):
    value = invalid(field)
    required = {other.name: "x" for other in msgspec.structs.fields(KINDS[place]) if other.required}
    given = {field.name: value} | {name: text for name, text in required.items() if name != field.name}
    with pytest.raises(InvalidConfig) as caught:
        read_fields(KINDS[place], given, f"a.toml: {place}")
    shown = "invalid" if field.name == "sha256" else repr(value)  # it may be a key, which is not shown
    expected = f"a.toml: {place}.{field.name} is {shown}. It must be {describe_type(field.type)}."
    assert str(caught.value) == expected


@pytest.mark.parametrize(("place", "field"), FIELDS, ids=[f"{place}.{field.name}" for place, field in FIELDS])
def test_a_misspelt_field_is_suggested(place, field):
    wrong = field.name[:-1] + ("" if len(field.name) > 4 else "ee" if len(field.name) > 2 else field.name[-1] * 2)
    with pytest.raises(InvalidConfig, match=rf"a.toml: {place}.{wrong} is unknown. Did you mean '{field.name}'\\?"):
        read_fields(KINDS[place], {wrong: 1}, f"a.toml: {place}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nlog_level = 'nonsense'", "server.log_level is 'nonsense'. It must be one of: critical, debug"),
        ("[server]\nlog_level = 'warn'", "server.log_level is 'warn'. Did you mean 'warning'?"),
        ("[server]\nport = 70000", "server.port is 70000. It must be a whole number from 0 to 65535."),
        ("[sever]\nport = 1", "'sever' is unknown. Did you mean 'server'?"),
        ("[server]\ndtype = 'int12'", "server.dtype is 'int12'"),
    ],
)
def test_values_and_tables_of_a_file(tmp_path, text, words):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        read_config(file, {}, {})
    assert words in str(caught.value)


def test_a_misspelt_selector_is_suggested():
    with pytest.raises(InvalidConfig, match=r"m.json: gemma.Embeding is unknown. Did you mean 'Embedding'\?"):
        read_entry("gemma", {"Embeding": {"model_id": "org/name"}}, "m.json: gemma")


@pytest.mark.parametrize("name", ["models.yaml", "models.yml", "models"])
def test_a_file_of_another_format_says_which_there_are(tmp_path, name):
    (tmp_path / name).write_text("models: {}")
    with pytest.raises(InvalidConfig, match=rf"{name} is neither a .toml nor a .json file. Write the configuration as"):
        read_config(tmp_path / name, {}, {})
