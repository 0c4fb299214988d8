"""Read the configuration of a server from a file, the environment and flags.

Each error names the setting, and the file, variable or flag that sets it.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from embergem.config.environment import PREFIX, read_environment
from embergem.config.fields import read_fields, read_value
from embergem.config.models import Entry, read_entry
from embergem.config.settings import Key, Settings
from embergem.errors import InvalidConfig
from embergem.suggestions import did_you_mean

PATHS = {"batch_path", "keys", "tls_cert", "tls_key"}
"""Settings that name files or directories. In a configuration file, they are relative to that file."""


class Config(Struct, frozen=True, kw_only=True):
    """The configuration of a server.

    Attributes:
        settings: Settings of the server.
        models: Models of the configuration file.
        keys: API keys of the configuration file and of the file that `settings.keys` names.
        notes: What the operator should know, such as variables that are ignored.
    """

    settings: Settings
    models: tuple[Entry, ...] = ()
    keys: tuple[Key, ...] = ()
    notes: tuple[str, ...] = ()


def read_config(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """Combine settings. A flag has priority over the environment (`EMBERGEM_PORT`), and the environment over the file.

    Args:
        file: A `.json` file with models in the selector form, or a `.toml` file with the tables `[server]`,
            `[models.NAME]` and `[[keys]]`. None reads no file.
        environ: Environment variables.
        flags: Values of command line flags by setting; None stands for a flag that was not given.

    Raises:
        InvalidConfig: Naming the setting and the file, variable or flag.

    >>> read_config(None, {"EMBERGEM_PORT": "8080", "EMBERGEM_STRICT": "true"}, {"port": None}).settings.port
    8080
    """
    tables = _tables(file) if file else {}
    of_file = tables.get("server", {})
    found = {name: _value(f"{file}: server.{name}", name, value, strict=True) for name, value in of_file.items()}
    if file:
        found |= {name: str(file.parent / Path(found[name]).expanduser()) for name in PATHS & found.keys()}
    values, notes = read_environment(environ, Settings.__struct_fields__)
    for name, text in values.items():
        value: Any = [item.strip() for item in text.split(",")] if name == "cors" else text
        found[name] = _value(PREFIX + name.upper(), name, value, strict=False)
    for name, value in flags.items():
        if value is not None:
            found[name] = _value("--" + name.replace("_", "-"), name, value, strict=True)
    settings = Settings(**found)
    _require_both("tls_cert", settings.tls_cert, "tls_key", settings.tls_key)
    models = tuple(read_entry(name, given, f"{file}: {name}") for name, given in tables.get("models", {}).items())
    _require_unique_names(models, file)
    keys = _keys(tables.get("keys", []), str(file))
    place = file
    if settings.keys is not None:
        place = Path(settings.keys).expanduser()
        keys += read_keys(place)
    if not keys and (settings.keys is not None or "keys" in tables):
        raise InvalidConfig(
            f"{place} has no API key. The server does not start, because without keys it would accept every request. "
            "Make a key with `embergem keys new NAME --file FILE`, or remove the setting `keys`."
        )
    names = [key.name for key in keys]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidConfig(f"Two API keys are called {twice!r}. Give each key a name of its own.")
    return Config(settings=settings, models=models, keys=keys, notes=notes)


def read_keys(file: Path) -> tuple[Key, ...]:
    """Read a file of API keys: TOML with one table `[[keys]]` for each key."""
    tables = _toml(file)
    if unknown := set(tables) - {"keys"}:
        raise InvalidConfig(f"{file}: {unknown.pop()!r} is unknown. A file of keys has tables [[keys]].")
    return _keys(tables.get("keys", []), str(file))


_TABLES = ("server", "models", "keys")


def _tables(file: Path) -> dict[str, Any]:
    if file.suffix == ".toml":
        tables = _toml(file)
        if unknown := set(tables) - set(_TABLES):
            raise InvalidConfig(
                f"{file}: {min(unknown)!r} is unknown."
                f"{did_you_mean(min(unknown), _TABLES)} Known tables: {', '.join(_TABLES)}."
            )
        for name in ("server", "models"):
            if not isinstance(tables.get(name, {}), dict):
                raise InvalidConfig(f"{file}: {name} must be a table [{name}].")
        return tables
    if file.suffix != ".json":
        raise InvalidConfig(
            f"{file} is neither a .toml nor a .json file. Write the configuration as TOML, with the tables [server], "
            "[models.NAME] and [[keys]], or the models as JSON; docs/operations.md has examples of both."
        )
    try:
        models = json.loads(_text(file))
    except ValueError as error:
        raise InvalidConfig(f"{file} is not valid JSON: {error}") from None
    if not isinstance(models, dict) or not models:
        raise InvalidConfig(f'{file}: it must be an object such as {{"gemma": {{"Embedding": {{"model_id": "..."}}}}}}')
    return {"models": models}


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(file))
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{file} is not valid TOML: {error}") from None


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidConfig(f"{file} cannot be read: {reason}. Check the path and its permissions.") from None


def _value(place: str, name: str, value: Any, strict: bool) -> Any:
    field = next((field for field in msgspec.structs.fields(Settings) if field.name == name), None)
    if field is None:
        known = Settings.__struct_fields__
        raise InvalidConfig(f"{place} is unknown.{did_you_mean(name, known)} Known settings: {', '.join(known)}.")
    return read_value(place, field, value, strict=strict)


def _require_both(name: str, value: str | None, other: str, other_value: str | None) -> None:
    if (value is None) != (other_value is None):
        missing, given = (name, other) if value is None else (other, name)
        raise InvalidConfig(f"{given} is set and {missing} is not. HTTPS needs both; set {missing}, or remove {given}.")


def _keys(given: Any, place: str) -> tuple[Key, ...]:
    if not isinstance(given, list) or not all(isinstance(key, dict) for key in given):
        raise InvalidConfig(f"{place}: keys must be tables [[keys]], one for each key.")
    return tuple(read_fields(Key, key, f"{place}: keys[{index}]") for index, key in enumerate(given))


def _require_unique_names(models: tuple[Entry, ...], file: Path | None) -> None:
    seen: dict[str, str] = {"default": "the default model"}
    for model in models:
        for name in (model.name, *model.aliases):
            if name in seen:
                raise InvalidConfig(
                    f"{file}: {model.name}: the name {name!r} is already used for {seen[name]}. Choose another name."
                )
            seen[name] = model.name
