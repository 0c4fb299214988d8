"""`answer_line`: answers one line of a batch with the code that answers `POST /v1/embeddings`."""

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw
from starlette.requests import Request as HttpRequest
from starlette.types import Message, Scope

from embergem.batch_protocol import BatchError
from embergem.errors import EmbergemError, ModelLoading, TryLater
from embergem.protocol import ErrorResponse
from embergem.server.access_log import RECORD, AccessRecord
from embergem.server.bounded_json import NOT_JSON
from embergem.server.errors import (
    ABOUT_FILES,
    forget_frames,
    handle_embergem_error,
    handle_memory_error,
    handle_unexpected_error,
    without_files,
)
from embergem.server.routes.embeddings import embeddings
from embergem.server.state import RequestContext

if TYPE_CHECKING:
    from embergem.config import Key
    from embergem.server.batches.input_lines import LineRequest
    from embergem.server.state import ServerState

TEMPORARY = frozenset({429, 502, 503, 504})
"""Statuses after which a line is tried again: a full queue, a model that is loading or failed, an upstream server."""

SPACE = "x-embergem-space"


class Temporary(Exception):
    """A line has no answer yet.

    Attributes:
        reason: Why, for the client.
        seconds: When to try again; None where only a guess is possible.
    """

    def __init__(self, reason: BatchError, seconds: float | None) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class LineAnswer:
    """The answer of a line.

    Attributes:
        status: HTTP status.
        body: The JSON body.
        tokens: Tokens that the model read.
        model, space: Main name of the model, and fingerprint of its vectors; "" without vectors.
    """

    status: int
    body: bytes
    tokens: int
    model: str
    space: str


class ResponseBody(msgspec.Struct, frozen=True):
    """The field `response` of a line of results."""

    status_code: int
    request_id: str
    body: Raw


class ResultError(msgspec.Struct, frozen=True):
    """The field `error` of a line of results: why the request was not answered."""

    code: str
    message: str


class ResultLine(msgspec.Struct, frozen=True):
    """A line of the files of results."""

    id: str
    custom_id: str
    response: ResponseBody | None
    error: ResultError | None


def line_id(batch_id: str, number: int) -> str:
    """Return 32 hex digits that stand for a line of a batch. A line that is answered again gets the same ones."""
    return sha256(f"{batch_id}/{number}".encode()).hexdigest()[:32]


def encode_answer(batch_id: str, number: int, custom_id: str, found: LineAnswer) -> bytes:
    """Return the line of the results for an answer."""
    name = line_id(batch_id, number)
    body = found.body if b"\n" not in found.body else msgspec.json.format(found.body, indent=-1)
    return _encode(ResultLine(f"batch_req_{name}", custom_id, ResponseBody(found.status, name, Raw(body)), None))


def encode_unanswered(batch_id: str, number: int, custom_id: str, code: str, message: str) -> bytes:
    """Return the line of the errors for a request that was not answered."""
    return _encode(ResultLine(f"batch_req_{line_id(batch_id, number)}", custom_id, None, ResultError(code, message)))


def _encode(line: ResultLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"


async def answer_line(
    state: "ServerState", key: "Key | None", batch_id: str, number: int, line: "LineRequest"
) -> LineAnswer:
    """Answer a line in the bulk lane, for the owner of `key`.

    Raises:
        Temporary: The line has no answer yet.
    """
    request_id = line_id(batch_id, number)
    record = AccessRecord(request_id, method="POST", path=line.url, route=line.url, key=key.name if key else "")
    messages = [{"type": "http.request", "body": bytes(line.body), "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Future()  # a batch does not close its connection
        raise AssertionError

    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": line.url,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())],
        "client": None,
        "server": None,
        RECORD: record,
    }
    http = HttpRequest(scope, receive)
    # A tenant beside the key: a large request of the key must not wait for all that is queued of its batches.
    tenant = f"{key.name if key else ''}/batches"
    context = RequestContext(http, state, record, key=key, lane="bulk", tenant=tenant, of_batch=True)
    try:
        response = await embeddings(context)
    except EmbergemError as error:
        if isinstance(error, ABOUT_FILES) and not context.sees_files:
            error = without_files(error)
        if error.status in TEMPORARY:
            forget_frames(error)
            # How long a model loads is a guess before its first load, and a restarted server goes on before that.
            seconds = None
            if isinstance(error, TryLater) and not isinstance(error, ModelLoading):
                seconds = error.retry_after
            raise Temporary(BatchError(error.code, error.message), seconds) from None
        response = await handle_embergem_error(http, error)
    except MemoryError as error:
        response = await handle_memory_error(http, error)
    except Exception as error:
        response = await handle_unexpected_error(http, error)
    finally:
        if context.body_bytes:
            state.bodies.release(context)
    status, parts = 500, list[bytes]()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            parts.append(message.get("body", b""))

    await response(scope, receive, send)
    body = b"".join(parts)
    if status in TEMPORARY:
        raise Temporary(_reason(status, body), None)
    if status < 400:
        state.metrics.record_line(record)
    else:
        body = body if _is_json(body) else msgspec.json.encode(body.decode("utf-8", "replace"))
    return LineAnswer(status, body, record.tokens, record.model, response.headers.get(SPACE, ""))


def _reason(status: int, body: bytes) -> BatchError:
    """Return what an error response says."""
    try:
        found = msgspec.json.decode(body, type=ErrorResponse).error
    except msgspec.DecodeError:
        return BatchError("upstream_failed", f"The upstream server answered {status}.")
    return BatchError(found.code or "upstream_failed", found.message)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except NOT_JSON:
        return False
    return True
