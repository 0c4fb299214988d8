"""Decoding JSON of clients within limits: the number of entries is known before they are built.

msgspec would build a gigabyte of lists from fifty megabytes of `[[],[],...`. The functions here stop at a number of
fields or entries. Content that is not JSON is refused with the reason.
"""

import re
from functools import cache
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw

from embergem.errors import InvalidRequest, InvalidText

MAX_FIELDS = 100
"""Fields of a body. OpenAI's largest request has less than half as many."""

SMALL = 64 * 1024
"""Bytes of a value that may be built before its number of entries is known."""

NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for content that is not JSON. A `ValidationError` is a `DecodeError`: except it first."""

_POSSIBLY_LONE = re.compile(
    rb"""
    \\u[dD](?:
      [89abAB][0-9a-fA-F]{2}(?:            # the escape of a high surrogate
        (?!\\u[dD][c-fC-F])                # without a low one after it,
        | (?<=\\\\u[0-9a-fA-F]{4})         # or after a backslash, so that it may be no escape
      )
      | [c-fC-F][0-9a-fA-F]{2}             # the escape of a low surrogate without a high one before it
        (?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4})
    )
    """,
    re.VERBOSE,
)
_LOW = re.compile(rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SEARCHED = 16 * 2**20
_MOST_CANDIDATES = 10_000
_MOST_BACKSLASHES = 4096
"""Bounds of the search for a lone surrogate: bytes of a body, places to look at, and backslashes before a place. Beyond
them the error says only that the content is not JSON."""

_FIELDS_DECODER = msgspec.json.Decoder(dict[str, Raw])


def decode_fields(content: bytes, max_inputs: int) -> dict[str, Raw]:
    """Return the fields of a JSON object, each value as raw JSON.

    Args:
        content: The JSON object.
        max_inputs: Most entries of a list among which the one with a lone surrogate is looked for.

    Raises:
        InvalidText: A string has a lone surrogate; the error names the field and the index in its list.
        InvalidRequest: The content is not a JSON object, or it has more than `MAX_FIELDS` fields.

    >>> {name: bytes(value) for name, value in decode_fields(b'{"input": ["a"]}', 9).items()}
    {'input': b'["a"]'}
    """
    decoder = _FIELDS_DECODER if len(content) <= SMALL else _counting_decoder(MAX_FIELDS)
    try:
        fields = decoder.decode(content)
        if len(fields) > MAX_FIELDS:
            raise _TooManyFields
    except msgspec.ValidationError:
        raise InvalidRequest('The body must be a JSON object such as {"input": "a text"}.') from None
    except NOT_JSON as error:
        raise _lone_surrogate(content, max_inputs) or not_json(error) from None
    except _TooManyFields:
        raise InvalidRequest(f"The body has more than {MAX_FIELDS} fields. Leave out the unknown ones.") from None
    return {str(name): value for name, value in fields.items()}


def decode_list(value: Raw, kind: Any, limit: int) -> list[Any]:
    """Decode a list of `kind`; of a large list with more than `limit` entries build only `limit` + 1.

    Raises:
        msgspec.ValidationError: An entry is of another kind.
    """
    if len(memoryview(value)) <= SMALL:
        return msgspec.json.decode(value, type=list[kind])
    found = msgspec.structs.astuple(msgspec.json.decode(value, type=_array(kind, limit + 1)))
    return [entry for entry in found if entry is not msgspec.UNSET]


def not_json(error: Exception) -> InvalidRequest:
    """Make the error for content that is not JSON from one of `NOT_JSON`."""
    return InvalidRequest(f"The body is not valid JSON: {error}.")


def _lone_surrogate(content: bytes, max_inputs: int) -> InvalidText | None:
    """Return the error about the first lone surrogate in a JSON object; None if it has none.

    The object is cut before the surrogate and closed again, so its last field is the one at fault.
    """
    place = _find_lone_surrogate(content) if len(content) <= _SEARCHED else None
    if place is None:
        return None
    fault = f"has the lone surrogate {content[place : place + 6].decode()}"
    advice = (
        "so it is not Unicode. Replace such characters before sending: text.toWellFormed() in JavaScript, or in Python "
        "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
    )
    for end in (b'"}', b'"]}'):
        try:
            fields = decode_fields(content[:place] + end, max_inputs)
            field = next(reversed(fields))
            entries = decode_list(fields[field], str | None, max_inputs) if end == b'"]}' else [""]
        except (InvalidRequest, msgspec.ValidationError):
            continue
        if field in ("input", "title") and len(entries) <= max_inputs:
            where = "" if field == "input" else " in its title"
            return InvalidText(f"{fault}{where}, {advice}", param=field, input_index=len(entries) - 1)
        return InvalidText(f"The field {field[:64]!r} {fault}, {advice}", param=field[:64])
    return InvalidText(f"The body {fault}, {advice}")


def _find_lone_surrogate(content: bytes) -> int | None:
    """Return where the escape of the first lone surrogate begins."""
    for match in islice(_POSSIBLY_LONE.finditer(content), _MOST_CANDIDATES):
        place = match.start()
        before = content[max(0, place - _MOST_BACKSLASHES) : place]
        backslashes = len(before) - len(before.rstrip(b"\\"))
        if backslashes == _MOST_BACKSLASHES:
            continue
        escape = backslashes % 2 == 0
        if _LOW.match(content, match.end()) and content[place + 3] in b"89abAB":
            if not escape:
                return match.end()
        elif escape:
            return place
    return None


@cache
def _array(kind: Any, size: int) -> type[msgspec.Struct]:
    """Return a struct that decodes from a JSON array: msgspec skips the entries beyond its `size` fields."""
    fields: list[tuple[str, Any, Any]] = [(f"at{place}", kind, msgspec.UNSET) for place in range(size)]
    return msgspec.defstruct("Entries", fields, array_like=True)


def _counting_decoder(limit: int) -> "msgspec.json.Decoder[dict[str, Raw]]":
    """Return a decoder of one object that stops after `limit` fields.

    msgspec calls `dec_hook` for each name, because it does not know the type `_Name`.
    """
    count = 0

    def name(_: type, text: str) -> _Name:
        nonlocal count
        count += 1
        if count > limit:
            raise _TooManyFields
        return _Name(text)

    return msgspec.json.Decoder(dict[_Name, Raw], dec_hook=name)


class _Name(str):
    __slots__ = ()


class _TooManyFields(Exception):
    pass
