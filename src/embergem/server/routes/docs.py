"""`GET /openapi.json` and `GET /docs`.

Separate because each API surface has a file of its own.
"""

from functools import cache
from typing import Any

import msgspec
from starlette.responses import HTMLResponse, Response

from embergem.server.openapi import Operation, openapi
from embergem.server.pages import docs_html
from embergem.server.state import RequestContext

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


async def document(context: RequestContext) -> Response:
    """Describe this API as an OpenAPI 3.1 document."""
    return Response(msgspec.json.encode(_described(context.http.app.state.operations)), media_type="application/json")


async def page(context: RequestContext) -> Response:
    """Describe this API as a page for people."""
    html = docs_html(_described(context.http.app.state.operations))
    return HTMLResponse(html, headers={"content-security-policy": CONTENT_SECURITY_POLICY})


@cache
def _described(operations: tuple[Operation, ...]) -> dict[str, Any]:
    return openapi(operations)
