"""Answers and the small conventions of their headers."""

from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from starlette.responses import Response

MOST = 1000
"""Characters of a list in a header; some clients refuse headers of 8,000."""


def json_response(content: msgspec.Struct, status: int = 200) -> Response:
    """Encode a struct."""
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def quoted_list(names: Sequence[str]) -> str:
    """Join names with commas, percent-encoded where a header needs it; a long list ends in `...`.

    >>> quoted_list(["size", "größe"])
    'size,gr%C3%B6%C3%9Fe'
    """
    text = ",".join(quote(name[:100], safe=" :/@+-_.~", errors="replace") for name in names)
    return text if len(text) <= MOST else text[: text.rindex(",", 0, MOST)] + ",..."
