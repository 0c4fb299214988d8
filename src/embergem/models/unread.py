"""The fields of config.json that no family reads: those known to change nothing, and an error for all others.

A field that is skipped without a word can be the one that makes another model of the checkpoint. Each field is
therefore read by the family, declared as `Inert` by the family, listed in inert.json for all families, or refused. The
Rust SDK includes inert.json in its build, and decides with it and with the conditions of a program card.
"""

import json
import pkgutil
from collections.abc import Container, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from embergem.errors import UnsupportedModel

REMOTE_CODE = "auto_map"
"""The field that names code in the checkpoint's repository."""


def require_all_read(config: dict[str, Any], conditions: Sequence[dict[str, Any]], model_type: str) -> None:
    """Refuse a config.json with a field that no condition is about, unless the field is inert.

    `conditions` are what a `RecordingConfig` recorded when the fields were read.

    Raises:
        UnsupportedModel: There is such a field; the message names the first one.
    """
    read = {tuple(condition["path"]) for condition in conditions}
    read_whole = {tuple(condition["path"]) for condition in conditions if not condition.get("object")}
    for path, value in _unread(config, (), read, read_whole):
        _require_inert(path, value, model_type)


def _unread(
    config: dict[str, Any], at: tuple[str, ...], read: Container[Any], read_whole: Container[Any]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield path and value of each field below `at` that was not read, in name order."""
    for name, value in sorted(config.items()):
        path = (*at, name)
        if path not in read:
            yield path, value
        elif isinstance(value, dict) and path not in read_whole:
            yield from _unread(value, path, read, read_whole)


def _require_inert(path: Sequence[str], value: Any, model_type: str) -> None:
    field, shown = ".".join(path), shortened(value)
    if path[-1] == REMOTE_CODE:
        if value in (None, {}):
            return
        raise remote_code_error(f"config.json: {field}", shown, model_type)
    values, reason = _inert(path[-1])
    if values is None or any(json.dumps(value) == json.dumps(allowed) for allowed in values):
        return
    if reason:
        allowed = " or ".join(json.dumps(one) for one in values)
        raise UnsupportedModel(f"config.json: {field} is {shown}; embergem supports {allowed} here ({reason}).")
    raise UnsupportedModel(
        f"config.json: {field} is {shown}. embergem does not know this field of a {model_type} model, so it cannot "
        "tell whether the field changes the vectors. If it changes nothing, remove it from config.json; otherwise the "
        "model needs the library that wrote it."
    )


def remote_code_error(place: str, code: str, model_type: str) -> UnsupportedModel:
    """Return the error for code that comes with a model. `place` is the file and the field, `code` what it names."""
    return UnsupportedModel(
        f"{place} names code that comes with the model, {code}. embergem never runs such code, and the code may "
        f"compute another model than transformers' own {model_type}. If both give the same vectors, remove the field."
    )


@cache
def _inert(name: str) -> tuple[tuple[Any, ...] | None, str]:
    """Return the accepted values of a field, or None if all are, with the reason, which is "" for an unknown field."""
    for entry in _listed():
        if any(fnmatchcase(name, pattern) for pattern in entry["fields"]):
            return (tuple(entry["values"]) if "values" in entry else None), entry["reason"]
    return (), ""


@cache
def _listed() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(pkgutil.get_data("embergem.models", "inert.json") or b"")
    return listed


def shortened(value: Any) -> str:
    """Return a value as JSON for an error message, cut to 80 characters, as `brief` in crates/checkpoint does."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
