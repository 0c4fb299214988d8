"""Error responses in the form that OpenAI's clients expect: `{"error": {"message", "type", "param", "code"}}`."""

import logging
import math
import traceback

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from embergem.errors import (
    Cancelled,
    EmbergemError,
    InsufficientMemory,
    InvalidConfig,
    LoadError,
    ModelFailed,
    TryLater,
    out_of_memory,
)
from embergem.protocol import ErrorBody, ErrorResponse
from embergem.server.access_log import RECORD, AccessRecord
from embergem.server.api_keys import Unauthorized
from embergem.server.inflate import ACCEPTED, UnsupportedEncoding

log = logging.getLogger("embergem.server")

ABOUT_FILES = (InsufficientMemory, InvalidConfig, LoadError, ModelFailed)
"""Errors whose messages may name files of the server."""

REASON_IN_LOG = "The log of the server has the reason. An admin key gets it from /v1/models/status."

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_type(status: int) -> str:
    """Return the `type` of an error, as OpenAI names it."""
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def error_response(
    request: Request,
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    input_index: int | None = None,
) -> Response:
    """Build an error response, and note the error code in the request's access record."""
    record: AccessRecord | None = request.scope.get(RECORD)
    if record is not None:
        record.code = code
    body = ErrorBody(
        message=message,
        type=error_type(status),
        param=param,
        code=code,
        input_index=msgspec.UNSET if input_index is None else input_index,
    )
    return Response(msgspec.json.encode(ErrorResponse(body)), status_code=status, media_type="application/json")


async def handle_embergem_error(request: Request, error: Exception) -> Response:
    """Answer an `EmbergemError` with its status and code; log errors of the server."""
    assert isinstance(error, EmbergemError)
    if isinstance(error, Cancelled):  # the client has closed the connection
        forget_frames(error)
        return Response(status_code=499)
    if error.status >= 500:
        whole = error.__cause__ if isinstance(error.__cause__, ABOUT_FILES) else error
        log.error("%s %s: %s", request.method, request.url.path, whole)
    response = error_response(
        request, error.status, error.message, error.code, param=error.param, input_index=error.input_index
    )
    forget_frames(error)
    if isinstance(error, TryLater):
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 413:  # the rest of the body is not read
        response.headers["connection"] = "close"
    if isinstance(error, UnsupportedEncoding):
        response.headers["accept-encoding"] = ACCEPTED
    if isinstance(error, Unauthorized):
        response.headers["www-authenticate"] = "Bearer"
    return response


def without_files(error: EmbergemError) -> EmbergemError:
    """Return an error of `ABOUT_FILES` for clients that may not see files of the server; the log has the original."""
    hidden = type(error)(f"The model cannot be used. {REASON_IN_LOG}", param=error.param)
    hidden.__cause__ = error
    return hidden


def forget_frames(error: Exception) -> None:
    """Clear the local variables of the frames that an error passed, because no traceback will be printed.

    Otherwise cycles of the error, these frames and the futures in them keep the texts of a request in memory until the
    garbage collector runs, which takes no notice of their size.
    """
    traceback.clear_frames(error.__traceback__)


async def handle_http_error(request: Request, error: Exception) -> Response:
    """Answer an error of Starlette's routing: an unknown path, or a method that the path does not have."""
    assert isinstance(error, HTTPException)
    message, code = error.detail, "http_error"
    if error.status_code == 404:
        path = request.url.path
        plain = "/" + "/".join(filter(None, path.split("/")))
        known = plain != path and any(plain == operation.path for operation in request.app.state.operations)
        advice = f"Did you mean {plain}?" if known else "The API is at /v1/embeddings and /v1/models."
        message = f"The path {path} does not exist. {advice}"
        code = "not_found"
    elif error.status_code == 405:
        message = f"The path {request.url.path} does not have the method {request.method}."
        code = "method_not_allowed"
    response = error_response(request, error.status_code, message, code)
    response.headers.update(error.headers or {})
    return response


async def handle_memory_error(request: Request, error: Exception) -> Response:
    """Answer that this process has no memory left."""
    return await handle_embergem_error(request, out_of_memory(error))


async def handle_unexpected_error(request: Request, error: Exception) -> Response:
    """Answer any other exception without its details; the log has the traceback."""
    log.exception("%s %s failed.", request.method, request.url.path, exc_info=error)
    return error_response(
        request, 500, "The server could not answer this request because of an internal error. Its log has the cause.",
        "internal_error",
    )  # fmt: skip
