"""Answers and the small conventions of their headers."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

MOST = 1000
"""Characters of a list or a text in a header; some clients refuse headers of 8,000."""


def json_response(content: msgspec.Struct | bytes, status: int = 200) -> Response:
    """Encode a struct; bytes are JSON already."""
    encoded = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(encoded, status_code=status, media_type="application/json")


def one_by_one(items: Iterable[msgspec.Struct]) -> list[Any]:
    """Encode structs each by itself, to stand in another as they are.

    msgspec holds the interpreter's lock from start to end, and the event loop waits for it beside a thread as it would
    without; between two structs other threads have their turn.
    """
    return [msgspec.Raw(msgspec.json.encode(item)) for item in items]


def quoted_list(names: Sequence[str]) -> str:
    """Join names with commas, percent-encoded where a header needs it; a long list ends in `...`.

    >>> quoted_list(["size", "größe"])
    'size,gr%C3%B6%C3%9Fe'
    """
    text = ",".join(quote(name[:80], safe=" :/@+-_.~", errors="replace") for name in names)  # a letter may become 12
    return text if len(text) <= MOST else text[: text.rindex(",", 0, MOST)] + ",..."


def quoted_text(text: str) -> str:
    r"""Write text as a JSON string in ASCII; a long one ends in `...`.

    >>> print(quoted_text("größe: {content}"))
    "gr\u00f6\u00dfe: {content}"
    """
    kept, end = text, ""
    while len(quoted := json.dumps(kept + end)) > MOST:
        kept, end = kept[: len(kept) * MOST // len(quoted)], "..."
    return quoted
