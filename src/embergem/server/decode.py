"""Decoding request bodies: JSON becomes a validated struct, or an error that names the field at fault.

`input` and `title` stay raw JSON (`msgspec.Raw`) until the number of their entries is known; see `bounded_json`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Generic, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Raw

from embergem.config import Settings
from embergem.errors import EmptyInput, InvalidRequest, InvalidTask
from embergem.protocol import EmbeddingsRequest, ShortText, TextRequest
from embergem.registry import DEFAULT
from embergem.server.bounded_json import NOT_JSON, SMALL, decode_fields, decode_list, not_json
from embergem.suggestions import did_you_mean, misspelt

Body = TypeVar("Body", bound=msgspec.Struct)
Text = TypeVar("Text", bound=TextRequest)
Text_co = TypeVar("Text_co", bound=TextRequest, covariant=True)

MAX_IDS = 4 * 2**20
"""Token ids of a request. As a Python integer each takes 40 bytes."""

_INPUT_FORMS = "`input` is a string, a list of strings, a list of token ids, or a list of lists of token ids, unmixed."
_FIRST_CHARACTERS = re.compile(rb'\s*(?:"|\[\s*(?:["\[\]]|))')
_LIST = re.compile(rb"\s*\[")


@dataclass(frozen=True, slots=True)
class DecodedRequest(Generic[Text_co]):
    """The decoded body of a request that has texts or token ids.

    Attributes:
        body: The fields.
        ignored: Names of fields that the server does not know.
        texts, ids: The inputs; one of the two is None.
        titles: A title (or None) for each text; None without titles.
        model: Name of the model; the default model if the body names none.
        dimensions: Size of the vectors; JSON may write it as 384.0.
    """

    body: Text_co
    ignored: list[str]
    texts: list[str] | None
    ids: list[list[int]] | None
    titles: list[str | None] | None
    model: str
    dimensions: int | None


def decode_request(content: bytes, kind: type[Text], settings: Settings) -> DecodedRequest[Text]:
    """Decode the body of a request that has texts or token ids.

    Raises:
        InvalidRequest: `param` names the field at fault.
    """
    body, ignored = decode_body(content, kind, strict=settings.strict, max_inputs=settings.max_inputs)
    texts, ids = decode_input(body.input, settings.max_inputs)
    titles = None
    if texts is not None and body.title is not None:
        titles = decode_titles(body.title, len(texts), settings.max_inputs)
    model = DEFAULT if body.model is None else body.model
    dimensions = body.dimensions if isinstance(body, EmbeddingsRequest) else None
    return DecodedRequest(
        body, ignored, texts, ids, titles, model, dimensions=None if dimensions is None else int(dimensions)
    )


def decode_body(
    content: bytes, kind: type[Body], *, strict: bool = False, max_inputs: int = 2048
) -> tuple[Body, list[str]]:
    """Decode a JSON object as `kind`; return it with the names of ignored fields.

    An unknown field whose name is close to a known one is refused with a suggestion. Other unknown fields are ignored,
    because clients send fields that other servers know; with `strict` they are refused. `max_inputs` is as in
    `decode_fields`.

    Raises:
        InvalidRequest: `param` names the field at fault.

    >>> from embergem.protocol import EmbeddingsRequest
    >>> request, ignored = decode_body(b'{"input": "a", "priority": 5}', EmbeddingsRequest)
    >>> bytes(request.input), ignored
    (b'"a"', ['priority'])
    """
    try:
        return _known_fields_decoder(kind).decode(content), []
    except NOT_JSON:
        pass  # the body has an unknown field or an error; the rest of this function finds out which
    fields = decode_fields(content, max_inputs)
    known, required = _field_names(kind)
    ignored = [name for name in fields if name not in known]
    for name in ignored:
        meant = misspelt(name, known)
        if meant or strict:
            advice = f"Did you mean {meant!r}?" if meant else f"The known fields are: {', '.join(known)}."
            shown = msgspec.json.encode(name if len(name) <= 60 else name[:57] + "...").decode()
            raise InvalidRequest(f"The field {shown} is unknown. {advice}", param=name[:64])
    for name in required:
        if name not in fields:
            raise InvalidRequest(f"The field {name!r} is missing.", param=name)
    try:
        return msgspec.json.decode(content, type=kind), ignored
    except msgspec.ValidationError as error:
        raise _explain(str(error), fields, _choices(kind)) from None
    except NOT_JSON as error:
        raise not_json(error) from None


def decode_input(value: Raw, max_inputs: int) -> tuple[list[str] | None, list[list[int]] | None]:
    """Decode the four forms of `input`; return (texts, None) or (None, rows of token ids).

    Raises:
        InvalidRequest: The value has another form (the message names the entry at fault), or too many entries.

    >>> decode_input(Raw(b'"a"'), 9), decode_input(Raw(b"[5, 6]"), 9)
    ((['a'], None), (None, [[5, 6]]))
    """
    match = _FIRST_CHARACTERS.match(memoryview(value))
    start = match[0].translate(None, b" \t\r\n") if match else b""
    if start == b"[]":
        raise EmptyInput("`input` is an empty list. Give at least one text or one list of token ids.", param="input")
    if not start:
        raise InvalidRequest(f"`input` is {_shown(value)}. {_INPUT_FORMS}", param="input")
    if start[:1] == b"[" and start != b'["' and len(memoryview(value)) > SMALL and bytes(value).count(b",") >= MAX_IDS:
        raise InvalidRequest(f"`input` has more than {MAX_IDS} token ids. Send several requests.", param="input")
    texts: list[str] | None = None
    ids: list[list[int]] | None = None
    try:
        if start == b'"':
            texts = [msgspec.json.decode(value, type=str)]
        elif start == b'["':
            texts = decode_list(value, str, max_inputs)
        elif start == b"[[":
            ids = decode_list(value, list[int], max_inputs)
        else:
            ids = [msgspec.json.decode(value, type=list[int])]
    except msgspec.ValidationError as error:
        raise _invalid_input(str(error), value, several=start in (b'["', b"[[")) from None
    except NOT_JSON as error:
        raise not_json(error) from None
    if len(texts or ids or ()) > max_inputs:
        raise InvalidRequest(
            f"`input` has more than {max_inputs} entries, the most that this server accepts. Send several requests.",
            param="input",
        )
    return texts, ids


def decode_titles(title: Raw, count: int, max_inputs: int) -> list[str | None]:
    """Decode `title`: one title for all `count` texts, or a list with one title (or null) a text.

    Raises:
        InvalidTask: The list has more or fewer than `count` titles.
        InvalidRequest: The value has another form.

    >>> decode_titles(Raw(b'"T"'), 2, 9), decode_titles(Raw(b'["T", null]'), 2, 9)
    (['T', 'T'], ['T', None])
    """
    try:
        if not _LIST.match(memoryview(title)):
            return [msgspec.json.decode(title, type=ShortText)] * count
        titles: list[str | None] = decode_list(title, ShortText | None, max_inputs)
    except msgspec.ValidationError as error:
        raise _explain(f"{str(error).split(' - at')[0]} - at `$.title{_path(str(error))}`", {"title": title}) from None
    except NOT_JSON as error:
        raise not_json(error) from None
    if len(titles) != count:
        found = f"more than {count}" if len(titles) > count else len(titles)
        raise InvalidTask(
            f"`title` has {found} titles for {count} inputs. Give one title for all inputs, or one title an input.",
            param="title",
        )
    return titles


@cache
def _known_fields_decoder(kind: type[Body]) -> "msgspec.json.Decoder[Body]":
    """Return a decoder of `kind` that fails on unknown fields, so that most bodies need one call only."""
    strict = msgspec.defstruct(kind.__name__, (), bases=(kind,), forbid_unknown_fields=True, kw_only=True)
    return msgspec.json.Decoder(strict)


@cache
def _field_names(kind: type[msgspec.Struct]) -> tuple[list[str], list[str]]:
    """Return the names of all fields of a struct, and those of its required fields."""
    fields = msgspec.structs.fields(kind)
    return [field.encode_name for field in fields], [field.encode_name for field in fields if field.required]


@cache
def _choices(kind: type[msgspec.Struct]) -> dict[str, tuple[str, ...]]:
    """Return the fields of a struct that take one of several strings, with these strings."""

    def strings(annotation: object) -> tuple[str, ...]:
        if get_origin(annotation) is Literal:
            return get_args(annotation)
        return tuple(string for inner in get_args(annotation) for string in strings(inner))

    found = {field.encode_name: strings(field.type) for field in msgspec.structs.fields(kind)}
    return {name: values for name, values in found.items() if values}


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
"""JSON types by the names that msgspec has for them."""


def _explain(
    message: str, fields: dict[str, Raw], choices: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> InvalidRequest:
    """Make an error that names the field at fault, its value and what to give from a message of msgspec.

    `choices` are the values of the fields that take one of several strings.
    """
    path = _path(message).removeprefix(".")
    name = path.split("[")[0].split(".")[0]
    what = message.split(" - at")[0]
    shown = _shown(fields[name]) if name in fields else None
    if what.startswith("Invalid enum value") and shown is not None and name in choices:
        value = shown.strip('"')
        others = [other for other, values in choices.items() if other != name and value in values]
        elsewhere = f" The field {others[0]} takes {shown}." if others else ""
        allowed = ", ".join(choices[name])
        return InvalidRequest(
            f"{name} is {shown}.{did_you_mean(value, choices[name])} It must be one of: {allowed}.{elsewhere}",
            param=name,
        )
    if kinds := re.fullmatch(r"Expected `([a-z| ]+)`, got `([a-z]+)`", what):
        wanted = [kind for kind in kinds[1].split(" | ") if kind != "null"]
        if wanted == ["int", "float"]:  # a whole number may be written as 384.0
            wanted = ["int"]
        value = f"{shown}, " if shown is not None and path == name else ""
        found = "a boolean" if kinds[2] == "bool" else _KINDS.get(kinds[2], kinds[2])
        give = " or ".join(_KINDS.get(kind, kind) for kind in wanted)
        return InvalidRequest(f"{path or 'The body'} is {value}{found}. Give {give}.", param=name or None)
    if "multiple of 1.0" in what:
        return InvalidRequest(f"{path} is {shown}. Give a whole number.", param=name)
    got = "" if "got" in what or shown is None else f", got {shown}"
    return InvalidRequest(f"{path or 'The body'}: {what}{got}.", param=name or None)


def _invalid_input(message: str, value: Raw, several: bool) -> InvalidRequest:
    """Describe the entry of `input` at fault: its index, and for a small `input` also its value.

    `several`: the entries of the list are inputs; else the list is one input, and its entries are token ids.
    """
    indices = [int(index) for index in _path(message).strip("[]").split("][")]
    place = "".join(f"[{index}]" for index in indices)
    if len(memoryview(value)) > SMALL:
        fault = f"is invalid at input{place}: {message.split(' - at')[0]}."
    else:
        element = value
        for index in indices:
            element = msgspec.json.decode(element, type=list[Raw])[index]
        fault = f"is invalid: input{place} is {_shown(element)}."
    return InvalidRequest(f"{fault} {_INPUT_FORMS}", param="input", input_index=indices[0] if several else 0)


def _path(message: str) -> str:
    """Return where msgspec found the fault: `.name[2]`, or "" for the whole value."""
    return message.rsplit("`$", 1)[-1].rstrip("`") if "`$" in message else ""


def _shown(value: Raw) -> str:
    text = bytes(memoryview(value)[:61]).decode(errors="replace")
    return text if len(text) <= 60 else text[:57] + "..."
