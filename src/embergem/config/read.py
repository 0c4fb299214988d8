"""Settings from a file, the environment and flags; each error names the setting and where it was given."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from embergem.config.models import Entry, entry
from embergem.config.settings import Key, Settings
from embergem.errors import InvalidConfig

PREFIX = "EMBERGEM_"


class Config(Struct, frozen=True, kw_only=True):
    """All that a server needs to know; `keys_file` is read again on SIGHUP, with the keys of the file itself."""

    settings: Settings
    models: tuple[Entry, ...] = ()
    keys: tuple[Key, ...] = ()


def read(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """Put settings together: a flag wins over the environment (`EMBERGEM_PORT`), that over the file.

    `flags` that are None were not given. A `.json` file holds models in the selector form; a `.toml` file holds tables
    `[server]`, `[models.NAME]` and `[[keys]]`.

    Raises:
        InvalidConfig: Naming the setting and the file, variable or flag.

    >>> read(None, {"EMBERGEM_PORT": "8080", "EMBERGEM_STRICT": "true"}, {"port": None}).settings.port
    8080
    """
    tables = _tables(file) if file else {}
    layers = [(f"{file}: server.{name}", name, value, True) for name, value in tables.get("server", {}).items()]
    for name in Settings.__struct_fields__:
        variable = PREFIX + name.upper()
        if variable in environ:
            value: Any = environ[variable]
            layers.append((variable, name, value.split(",") if name == "cors" else value, False))
    layers += [("--" + name.replace("_", "-"), name, value, True) for name, value in flags.items() if value is not None]
    settings = Settings(**{name: _value(place, name, value, strict) for place, name, value, strict in layers})
    models = tuple(entry(name, given, f"{file}: {name}") for name, given in tables.get("models", {}).items())
    _names_differ(models, file)
    keys = _keys(tables.get("keys", []), str(file))
    place = file
    if settings.keys is not None:
        place = Path(settings.keys).expanduser()
        if not place.is_absolute() and file and tables.get("server", {}).get("keys") == settings.keys:
            place = file.parent / place
        keys += read_keys(place)
    if not keys and (settings.keys is not None or "keys" in tables):
        raise InvalidConfig(
            f"{place} has no API key, and without one the server would be open "
            "to everybody; make one with `embergem keys new NAME --file FILE`, or leave the setting `keys` away"
        )
    names = [key.name for key in keys]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidConfig(f"two API keys are called {twice!r}; give each a name of its own")
    return Config(settings=settings, models=models, keys=keys)


def read_keys(file: Path) -> tuple[Key, ...]:
    """Read a file of keys: TOML with a table `[[keys]]` for each."""
    tables = _toml(file)
    if unknown := set(tables) - {"keys"}:
        raise InvalidConfig(f"{file}: {unknown.pop()!r} is unknown; a file of keys has tables [[keys]]")
    return _keys(tables.get("keys", []), str(file))


def _tables(file: Path) -> dict[str, Any]:
    if file.suffix == ".toml":
        tables = _toml(file)
        if unknown := set(tables) - {"server", "models", "keys"}:
            raise InvalidConfig(f"{file}: {unknown.pop()!r} is unknown; there is: server, models, keys")
        for name in ("server", "models"):
            if not isinstance(tables.get(name, {}), dict):
                raise InvalidConfig(f"{file}: {name} must be a table [{name}]")
        return tables
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
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidConfig(f"{file} cannot be read: {reason}") from None


def _value(place: str, name: str, value: Any, strict: bool) -> Any:
    field = next((field for field in msgspec.structs.fields(Settings) if field.name == name), None)
    if field is None:
        raise InvalidConfig(f"{place} is unknown; there is: {', '.join(Settings.__struct_fields__)}")
    if not strict and value == "" and type(None) in get_args(field.type):
        return None
    try:
        return msgspec.convert(value, field.type, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidConfig(f"{place} is {value!r}: {error}") from None


def _keys(given: Any, place: str) -> tuple[Key, ...]:
    try:
        return msgspec.convert(given, tuple[Key, ...])
    except msgspec.ValidationError as error:
        raise InvalidConfig(f"{place}: keys: {str(error).replace('`$', '`keys')}") from None


def _names_differ(models: tuple[Entry, ...], file: Path | None) -> None:
    seen: dict[str, str] = {"default": "the default model"}
    for model in models:
        for name in (model.name, *model.aliases):
            if name in seen:
                raise InvalidConfig(f"{file}: {model.name}: the name {name!r} already stands for {seen[name]}")
            seen[name] = model.name
