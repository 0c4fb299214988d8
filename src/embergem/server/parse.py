"""A body of bytes becomes a struct, or an error that names the field at fault."""

import difflib
from functools import cache
from typing import Any, TypeVar

import msgspec

from embergem.errors import EmptyInput, InvalidRequest

Body = TypeVar("Body", bound=msgspec.Struct)


def parse(body: bytes, kind: type[Body], *, strict: bool = False) -> tuple[Body, list[str]]:
    """Read a JSON object as `kind`; the second value names the fields that were ignored.

    A field that is almost the name of a known one is refused with the suggestion. Other unknown fields are ignored,
    since clients send what other servers know; with `strict` they are refused, too.

    Raises:
        InvalidRequest: With `param` naming the field.

    >>> from embergem.server.schema import EmbeddingsRequest
    >>> request, ignored = parse(b'{"input": "a", "priority": 5}', EmbeddingsRequest)
    >>> request.input, ignored
    ('a', ['priority'])
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidRequest('the body must be a JSON object such as {"input": "a text"}')
    known, required = _names(kind)
    ignored = [name for name in fields if name not in known]
    for name in ignored:
        near = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.8)
        if near or strict:
            advice = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known)}"
            raise InvalidRequest(f"the field {_brief(name)} is unknown; {advice}", param=name[:64])
    for name in required:
        if name not in fields:
            raise InvalidRequest(f"the field {name!r} is missing", param=name)
    try:
        return msgspec.convert(fields, kind), ignored
    except msgspec.ValidationError as error:
        raise _explain(str(error), fields) from None


def texts_or_ids(value: Any) -> tuple[list[str] | None, list[list[int]] | None]:
    """Tell the four forms of `input` apart: (texts, None) or (None, rows of ids).

    Raises:
        InvalidRequest: It is none of them; the message names the element at fault.

    >>> texts_or_ids("a"), texts_or_ids([5, 6])
    ((['a'], None), (None, [[5, 6]]))
    """
    if isinstance(value, str):
        return [value], None
    if not isinstance(value, list):
        raise InvalidRequest(f"input is {_brief(value)}; {_FORMS}", param="input")
    if not value:
        raise EmptyInput("input is an empty list; give at least one text or one row of token ids", param="input")
    try:
        if isinstance(value[0], str):
            return msgspec.convert(value, list[str]), None
        if isinstance(value[0], list):
            return None, msgspec.convert(value, list[list[int]])
        return None, [msgspec.convert(value, list[int])]
    except msgspec.ValidationError as error:
        place = _place(str(error))
        element = value
        for index in place.strip("[]").split("]["):
            element = element[int(index)]
        raise InvalidRequest(f"input{place} is {_brief(element)}; {_FORMS}", param="input") from None


_FORMS = (
    "input is a string, a list of strings, a list of token ids, or a list of lists of token ids, and never a mixture"
)


@cache
def _names(kind: type[msgspec.Struct]) -> tuple[list[str], list[str]]:
    """All fields of a struct, and those that must be there; asking msgspec takes longer than reading a body."""
    fields = msgspec.structs.fields(kind)
    return [field.encode_name for field in fields], [field.encode_name for field in fields if field.required]


def _explain(message: str, fields: dict[str, Any]) -> InvalidRequest:
    place = _place(message).removeprefix(".")
    name = place.split("[")[0].split(".")[0]
    what = message.split(" - at")[0]
    got = "" if "got" in what or name not in fields else f", got {_brief(fields[name])}"
    if what.startswith("Invalid enum value") and name in fields:
        what, got = f"{_brief(fields[name])} is not possible", ""
    return InvalidRequest(f"{place or 'the body'}: {what}{got}", param=name or None)


def _place(message: str) -> str:
    """Where msgspec found the fault: `.name[2]`, or `` for the whole."""
    return message.rsplit("`$", 1)[-1].rstrip("`") if "`$" in message else ""


def _brief(value: Any) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # a lone surrogate
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
