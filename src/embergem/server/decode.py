"""A body of bytes becomes a struct, or an error that names the field at fault.

Nothing is built before it is known how much of it there may be: of fifty megabytes of `[[],[],...` msgspec makes a
gigabyte of lists.
"""

import difflib
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from embergem.errors import EmptyInput, InvalidRequest, InvalidTask
from embergem.protocol import ShortText

Body = TypeVar("Body", bound=msgspec.Struct)
Value = TypeVar("Value")

MOST_FIELDS = 100
"""Fields of a body: OpenAI's largest request has less than half as many."""

MOST_IDS = 4 * 2**20
"""Token ids of a request: each takes 40 bytes as a number of Python's."""

SMALL = 64 * 1024
"""Bytes of a value that may be built first and looked at then."""


def parse(body: bytes, kind: type[Body], *, strict: bool = False) -> tuple[Body, list[str]]:
    """Read a JSON object as `kind`; the second value names the fields that were ignored.

    A field that is almost the name of a known one is refused with the suggestion. Other unknown fields are ignored,
    since clients send what other servers know; with `strict` they are refused, too.

    Raises:
        InvalidRequest: With `param` naming the field.

    >>> from embergem.protocol import EmbeddingsRequest
    >>> request, ignored = parse(b'{"input": "a", "priority": 5}', EmbeddingsRequest)
    >>> bytes(request.input), ignored
    (b'"a"', ['priority'])
    """
    fields = fields_of(body)
    known, required = _names(kind)
    ignored = [name for name in fields if name not in known]
    for name in ignored:
        near = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.8)
        if near or strict:
            advice = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known)}"
            shown = msgspec.json.encode(name if len(name) <= 60 else name[:57] + "...").decode()
            raise InvalidRequest(f"the field {shown} is unknown; {advice}", param=name[:64])
    for name in required:
        if name not in fields:
            raise InvalidRequest(f"the field {name!r} is missing", param=name)
    try:
        return _read(lambda: msgspec.json.decode(body, type=kind)), ignored
    except msgspec.ValidationError as error:
        raise _explain(str(error), fields) from None


def fields_of(body: bytes) -> dict[str, Raw]:
    """The fields of a JSON object, with their values as they came.

    Raises:
        InvalidRequest: It is none, or it has more fields than anybody needs.

    >>> {name: bytes(value) for name, value in fields_of(b'{"input": ["a"]}').items()}
    {'input': b'["a"]'}
    """
    decoder = _FIELDS if len(body) <= SMALL else _counted(MOST_FIELDS)
    try:
        fields = _read(lambda: decoder.decode(body))
        if len(fields) > MOST_FIELDS:
            raise _TooMany
    except msgspec.ValidationError:
        raise InvalidRequest('the body must be a JSON object such as {"input": "a text"}') from None
    except _TooMany:
        raise InvalidRequest(
            f"the body has more than {MOST_FIELDS} fields; leave away those that are unknown"
        ) from None
    return {str(name): value for name, value in fields.items()}


def texts_or_ids(value: Raw, most: int) -> tuple[list[str] | None, list[list[int]] | None]:
    """Tell the four forms of `input` apart: (texts, None) or (None, rows of ids), `most` of either.

    Raises:
        InvalidRequest: It is none of them, and the message names the element at fault; or it is too large.

    >>> texts_or_ids(Raw(b'"a"'), 9), texts_or_ids(Raw(b"[5, 6]"), 9)
    ((['a'], None), (None, [[5, 6]]))
    """
    opening = _OPENING.match(memoryview(value))
    start = opening[0].translate(None, b" \t\r\n") if opening else b""
    if start == b'"':
        return [_read(lambda: msgspec.json.decode(value, type=str))], None
    if start == b"[]":
        raise EmptyInput("input is an empty list; give at least one text or one row of token ids", param="input")
    if not start:
        raise InvalidRequest(f"input is {_shown(value)}; {_FORMS}", param="input")
    if start != b'["' and len(memoryview(value)) > SMALL and bytes(value).count(b",") >= MOST_IDS:
        raise InvalidRequest(f"input has more than {MOST_IDS} token ids; send them in parts", param="input")
    try:
        if start == b'["':
            texts, ids = _entries(value, str, most), None
        elif start == b"[[":
            texts, ids = None, _entries(value, list[int], most)
        else:
            texts, ids = None, [_read(lambda: msgspec.json.decode(value, type=list[int]))]
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"input{_at_fault(str(error), value)}; {_FORMS}", param="input") from None
    if len(texts or ids or ()) > most:
        raise InvalidRequest(
            f"input has more than {most} entries, the most that this server takes at once; send them in parts",
            param="input",
        )
    return texts, ids


def titles_for(title: Raw | None, texts: list[str] | None, most: int) -> list[str | None] | None:
    """One title a text, of which there are at `most` so many.

    Raises:
        InvalidTask: There are more or fewer titles than texts.
        InvalidRequest: They are no titles.

    >>> titles_for(Raw(b'"T"'), ["a", "b"], 9), titles_for(Raw(b'["T", null]'), ["a", "b"], 9)
    (['T', 'T'], ['T', None])
    """
    if title is None or texts is None:
        return None
    try:
        if not _LIST.match(memoryview(title)):
            return [_read(lambda: msgspec.json.decode(title, type=ShortText))] * len(texts)
        titles: list[str | None] = _entries(title, ShortText | None, most)
    except msgspec.ValidationError as error:
        raise _explain(f"{str(error).split(' - at')[0]} - at `$.title{_place(str(error))}`", {"title": title}) from None
    if len(titles) != len(texts):
        count = f"more than {len(texts)}" if len(titles) > len(texts) else len(titles)
        raise InvalidTask(f"{count} titles for {len(texts)} inputs; give one for all or one each", param="title")
    return titles


_FORMS = (
    "input is a string, a list of strings, a list of token ids, or a list of lists of token ids, and never a mixture"
)
_OPENING = re.compile(rb'\s*(?:"|\[\s*(?:["\[\]]|))')
_LIST = re.compile(rb"\s*\[")


_FIELDS = msgspec.json.Decoder(dict[str, Raw])


def _counted(most: int) -> "msgspec.json.Decoder[dict[str, Raw]]":
    """A decoder of one object that stops after `most` fields: msgspec asks for each name of a type it doesn't know."""
    count = 0

    def name(_: type, text: str) -> _Name:
        nonlocal count
        count += 1
        if count > most:
            raise _TooMany
        return _Name(text)

    return msgspec.json.Decoder(dict[_Name, Raw], dec_hook=name)


class _Name(str):
    __slots__ = ()


class _TooMany(Exception):
    pass


def _read(decode: Callable[[], Value]) -> Value:
    """Decode what came.

    Raises:
        InvalidRequest: It is no JSON.
        ValidationError: It is JSON of another kind.
    """
    try:
        return decode()
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None


def _entries(value: Raw, kind: Any, most: int) -> list[Any]:
    """Decode a list of `kind`; of a large one with more than `most` entries only `most` + 1 are built."""
    if len(memoryview(value)) <= SMALL:
        return _read(lambda: msgspec.json.decode(value, type=list[kind]))
    found = msgspec.structs.astuple(_read(lambda: msgspec.json.decode(value, type=_array(kind, most + 1))))
    return [entry for entry in found if entry is not msgspec.UNSET]


@cache
def _array(kind: Any, most: int) -> type[msgspec.Struct]:
    """A struct that is written as an array: msgspec skips what is beyond its fields, where it would build a list."""
    fields: list[tuple[str, Any, Any]] = [(f"at{place}", kind, msgspec.UNSET) for place in range(most)]
    return msgspec.defstruct("Entries", fields, array_like=True)


@cache
def _names(kind: type[msgspec.Struct]) -> tuple[list[str], list[str]]:
    """All fields of a struct, and those that must be there; asking msgspec takes longer than reading a body."""
    fields = msgspec.structs.fields(kind)
    return [field.encode_name for field in fields], [field.encode_name for field in fields if field.required]


def _explain(message: str, fields: dict[str, Raw]) -> InvalidRequest:
    place = _place(message).removeprefix(".")
    name = place.split("[")[0].split(".")[0]
    what = message.split(" - at")[0]
    got = "" if "got" in what or name not in fields else f", got {_shown(fields[name])}"
    if what.startswith("Invalid enum value") and name in fields:
        what, got = f"{_shown(fields[name])} is not possible", ""
    return InvalidRequest(f"{place or 'the body'}: {what}{got}", param=name or None)


def _at_fault(message: str, value: Raw) -> str:
    """Which entry of a list is at fault, and what it is where finding that out costs little."""
    place = _place(message)
    if len(memoryview(value)) > SMALL:
        return f"{place}: {message.split(' - at')[0]}"
    element = value
    for index in place.strip("[]").split("]["):
        element = msgspec.json.decode(element, type=list[Raw])[int(index)]
    return f"{place} is {_shown(element)}"


def _place(message: str) -> str:
    """Where msgspec found the fault: `.name[2]`, or `` for the whole."""
    return message.rsplit("`$", 1)[-1].rstrip("`") if "`$" in message else ""


def _shown(value: Raw) -> str:
    text = bytes(memoryview(value)[:61]).decode(errors="replace")
    return text if len(text) <= 60 else text[:57] + "..."
