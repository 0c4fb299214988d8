"""Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}` with a fitting status."""

import logging
import math

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from embergem.errors import Cancelled, EmbergemError, TryLater
from embergem.protocol import ErrorBody, ErrorResponse
from embergem.server.api_keys import Unauthorized

logger = logging.getLogger(__name__)

NAMES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def kind_of(status: int) -> str:
    """The error's `type`, as OpenAI names it."""
    return NAMES.get(status, "invalid_request_error" if status < 500 else "server_error")


def error_response(
    status: int, message: str, *, code: str | None, param: str | None = None, input_index: int | None = None
) -> Response:
    """Build the answer; `type` follows from the status."""
    body = ErrorBody(
        message=message,
        type=kind_of(status),
        param=param,
        code=code,
        input_index=msgspec.UNSET if input_index is None else input_index,
    )
    return Response(msgspec.json.encode(ErrorResponse(body)), status_code=status, media_type="application/json")


async def on_embergem_error(request: Request, error: Exception) -> Response:
    """Answer an error of our own tree with its status; a failure on our side is logged too."""
    assert isinstance(error, EmbergemError)
    if isinstance(error, Cancelled):  # its client has gone: nobody reads this
        return Response(status_code=499)
    if error.status >= 500:
        logger.error("%s %s: %s", request.method, request.url.path, error.message)
    response = error_response(
        error.status, error.message, code=error.code, param=error.param, input_index=error.input_index
    )
    if isinstance(error, TryLater):
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 413:  # the rest of the body is not read
        response.headers["connection"] = "close"
    if isinstance(error, Unauthorized):
        response.headers["www-authenticate"] = "Bearer"
    noted(request, error.code)
    return response


def noted(request: Request, code: str) -> None:
    """Leave the error's code for the log and the metrics."""
    if (notes := request.scope.get("embergem.notes")) is not None:
        notes.code = code


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what Starlette refuses: an unknown path, a method a path does not have."""
    assert isinstance(error, HTTPException)
    message, code = error.detail, "http_error"
    if error.status_code == 404:
        message = f"there is nothing at {request.url.path}; the API is at /v1/embeddings and /v1/models"
        code = "not_found"
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}"
        code = "method_not_allowed"
    noted(request, code)
    response = error_response(error.status_code, message, code=code)
    response.headers.update(error.headers or {})
    return response


async def on_failure(request: Request, error: Exception) -> Response:
    """Answer a fault of ours without telling the caller about our insides; the log has the traceback."""
    logger.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    noted(request, "internal_error")
    return error_response(500, "the server failed to answer this request; its log says why", code="internal_error")
