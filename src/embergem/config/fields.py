"""Read the fields of a struct from a file, the environment or flags; each error names the place, the key and the value.

Beyond the type of a field, `CHECKS` has what its value must be. An empty string is never a value: it usually comes from
a variable that is not set, and a server whose keys are such a string must not start without keys.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import msgspec.inspect

from embergem.errors import InvalidConfig, UnsupportedOption
from embergem.options import LoadOptions
from embergem.suggestions import did_you_mean

Fields = TypeVar("Fields", bound=msgspec.Struct)

SECRET = {"sha256"}
"""Fields whose values are not shown: someone may have written the key instead of its hash."""

_PORTS = {"http": 80, "https": 443}


def read_fields(kind: type[Fields], given: Mapping[str, Any], place: str, other_names: Iterable[str] = ()) -> Fields:
    """Return the struct `kind` with the given fields; `other_names` are suggested for an unknown field, too.

    Raises:
        InvalidConfig: A field is unknown, missing or has an invalid value.

    >>> from embergem.config.settings import Key
    >>> read_fields(Key, {"name": "a", "sha256": "0" * 64, "concurrency": 0}, "keys.toml: keys[0]")
    Traceback (most recent call last):
    embergem.errors.InvalidConfig: keys.toml: keys[0].concurrency is 0. It must be a whole number from 1 to 2147483647.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in given:
        if name not in fields:
            near = did_you_mean(name, [*fields, *other_names])
            raise InvalidConfig(f"{place}.{name} is unknown.{near} It can have: {', '.join(fields)}.")
    for name, field in fields.items():
        if field.required and name not in given:
            raise InvalidConfig(f"{place}.{name} is missing.")
    return kind(**{name: read_value(f"{place}.{name}", fields[name], value) for name, value in given.items()})


def read_value(place: str, field: msgspec.structs.FieldInfo, value: Any, *, strict: bool = True) -> Any:
    """Return the value of a field; with `strict=False` the value is a string that stands for any type.

    Raises:
        InvalidConfig: The value is empty or invalid.
    """
    if isinstance(value, str) and not value.strip():
        raise InvalidConfig(f"{place} is empty. Leave it out, or give it a value.")
    shown = "invalid" if field.name in SECRET else repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:197]}..."
    try:
        read = msgspec.convert(value, field.type, strict=strict)
        if field.name in CHECKS:
            CHECKS[field.name](read)
    except msgspec.ValidationError:
        near = did_you_mean(str(value), choices) if (choices := _choices(field.type)) else ""
        raise InvalidConfig(f"{place} is {shown}.{near} It must be {describe_type(field.type)}.") from None
    except UnsupportedOption as error:
        raise InvalidConfig(f"{place} is {shown}: {error.message.removesuffix('.')}.") from None
    return read


def describe_type(kind: Any) -> str:
    """Describe the values that the type of a field allows.

    >>> from typing import Annotated, Literal
    >>> describe_type(Annotated[int, msgspec.Meta(ge=0, le=65535)] | None), describe_type(Literal["text", "json"])
    ('a whole number from 0 to 65535', 'one of: json, text')
    """
    return _describe(msgspec.inspect.type_info(kind))


_WORDS: dict[type, str] = {
    msgspec.inspect.BoolType: "true or false",
    msgspec.inspect.IntType: "a whole number",
    msgspec.inspect.FloatType: "a number",
    msgspec.inspect.StrType: "a string",
}


def _describe(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.Metadata(type=inner):
            return _describe(inner)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(_describe(one) for one in types if not isinstance(one, msgspec.inspect.NoneType))
        case msgspec.inspect.LiteralType(values=values):
            return f"one of: {', '.join(map(str, values))}"
        case msgspec.inspect.VarTupleType(item_type=item) | msgspec.inspect.ListType(item_type=item):
            return f"a list, each element {_describe(item)}"
        case msgspec.inspect.StrType(pattern=str(pattern)):
            return f"a string that matches {pattern}"
    words = _WORDS[type(info)]
    bounds = {
        "from": getattr(info, "ge", None), "above": getattr(info, "gt", None),
        "to": getattr(info, "le", None), "below": getattr(info, "lt", None),
    }  # fmt: skip
    return " ".join([words, *(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)])


def _choices(kind: Any) -> tuple[str, ...]:
    """Return the values of a field that allows a few strings."""
    info = msgspec.inspect.type_info(kind)
    return tuple(map(str, info.values)) if isinstance(info, msgspec.inspect.LiteralType) else ()


def check_name(name: str) -> None:
    """Raise `UnsupportedOption` for a name of a model that no client could send or no log could show.

    >>> check_name(" a")
    Traceback (most recent call last):
    embergem.errors.UnsupportedOption: The name ' a' is empty, begins or ends with a space, or has control characters. \
Choose another name.
    """
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise UnsupportedOption(
            f"The name {name!r} is empty, begins or ends with a space, or has control characters. Choose another name."
        )


def check_origin(origin: str) -> None:
    """Raise `UnsupportedOption` for a string that is not the origin of a page as browsers write it.

    >>> check_origin("https://app.example")
    >>> check_origin("https://App.example:443/")
    Traceback (most recent call last):
    embergem.errors.UnsupportedOption: 'https://App.example:443/' is not an origin. Write 'https://app.example'.
    """
    if origin in ("*", "null"):
        return
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or "*" in host or host.strip() != host:
        raise UnsupportedOption(
            f"{origin!r} is not an origin. Write one such as 'https://app.example', or '*' for all."
        )
    host = f"[{host}]" if ":" in host else host
    browsers = f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _PORTS.get(parts.scheme)) else "")
    if origin != browsers:
        raise UnsupportedOption(f"{origin!r} is not an origin. Write {browsers!r}.")


def check_address(address: str) -> None:
    """Raise `UnsupportedOption` for a string that is not the address of an HTTP server.

    >>> check_address("localhost:8000")
    Traceback (most recent call last):
    embergem.errors.UnsupportedOption: 'localhost:8000' is not an http:// or https:// address. \
Write one such as 'http://localhost:8000/v1'.
    """
    try:
        parts = urlsplit(address)
        valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not address.isprintable() or " " in address:
        raise UnsupportedOption(
            f"{address!r} is not an http:// or https:// address. Write one such as 'http://localhost:8000/v1'."
        )


def _check_all(check: Callable[[str], None]) -> Callable[[tuple[str, ...]], None]:
    def check_each(values: tuple[str, ...]) -> None:
        for value in values:
            check(value)

    return check_each


def _check_options(name: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        LoadOptions(**{name: value})

    return check


CHECKS: dict[str, Callable[[Any], None]] = {
    "aliases": _check_all(check_name),
    "cors": _check_all(check_origin),
    "upstream": check_address,
    **{name: _check_options(name) for name in ("dtype", "revision")},
}
"""What the value of a field must be beyond its type, by the name of the field."""
