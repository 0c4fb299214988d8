"""Operations of the HTTP API, and the OpenAPI document made from them and from the structs that validate bodies."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from embergem import __version__
from embergem.protocol import ErrorResponse
from embergem.server.state import RequestContext

Handler = Callable[[RequestContext], Awaitable[Response]]
Access = Literal["open", "key", "admin"]

RESPONSE_HEADERS = {
    "x-request-id": "Id of the request: the client's own, or a new one.",
    "x-embergem-space": "Fingerprint of the vector space.",
    "x-embergem-dtype": "Arithmetic of the model.",
    "x-embergem-task": "Task whose prompt was applied, or `none`.",
    "x-embergem-prompt": "The prompted text as a JSON string, with `{content}` for the text; `none` for token ids.",
    "x-embergem-truncated": "Indices of the inputs that were truncated.",
    "x-embergem-cached": "Indices of the inputs whose vectors were in the cache.",
    "x-embergem-ignored": "Fields of the body that the server does not know.",
    "x-embergem-warning": "A likely mistake in token ids that were accepted.",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, in the sense of OpenAPI: a method and a path, with what the route and the document need.

    Attributes:
        method, path: As Starlette's routes have them.
        handler: Answers a request. Its docstring is the operation's summary (first line) and description.
        access: "open" to all, for clients with a "key", or for an "admin".
        body: The struct that decodes the body.
        answer: The struct of the response, or its media type.
        query: Query parameters, each with its possible values, or its type where they are many.
        form: Whether the body is a form (multipart/form-data) instead of JSON.
        statuses: Statuses of errors, beside those that follow from `access`, `body` and `query`.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler
    access: Access = "key"
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | str = "application/json"
    query: tuple[tuple[str, tuple[str, ...] | Literal["string", "integer"]], ...] = ()
    statuses: tuple[int, ...] = ()
    form: bool = False


def openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `operations`."""
    structs: set[type] = {kind for one in operations for kind in (one.body, one.answer) if isinstance(kind, type)}
    ordered = sorted({*structs, ErrorResponse}, key=lambda kind: kind.__name__)
    refs, schemas = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    ref = dict(zip(ordered, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(operation, path, ref)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "embergem",
            "version": __version__,
            "summary": "Embeddings through OpenAI's API, with tasks, smaller encodings and explicit truncation.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, if the server has any."}
            },
        },
    }


def _describe(operation: Operation, path: str, ref: dict[Any, Any]) -> dict[str, Any]:
    docstring = (operation.handler.__doc__ or "").strip()
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": docstring.split("\n")[0],
        "responses": {"200": _describe_answer(operation, ref)},
    }
    # The rest of the docstring up to its first section is for readers of the API.
    if rest := " ".join(docstring.partition("\n")[2].split("Raises:")[0].split()):
        described["description"] = rest
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", path)
    ] + [
        {"name": name, "in": "query", "required": False, "schema": _query_schema(values)}
        for name, values in operation.query
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {
                "multipart/form-data" if operation.form else "application/json": {"schema": ref[operation.body]}
            },
        }
    if operation.access != "open":
        described["security"] = [{"key": []}, {}] if operation.access == "key" else [{"key": []}]
    for status in sorted({*operation.statuses, *_common_statuses(operation)}):
        described["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": ref[ErrorResponse]}},
        }
    return described


def _query_schema(values: tuple[str, ...] | str) -> dict[str, Any]:
    return {"type": values} if isinstance(values, str) else {"type": "string", "enum": list(values)}


def _common_statuses(operation: Operation) -> set[int]:
    """Return the statuses of errors that follow from an operation's body, query and access."""
    statuses = {400, 408, 415} if operation.body else {400} if operation.query else set()
    if operation.access != "open":
        statuses |= {401, 429}
    return statuses | ({403} if operation.access == "admin" else set())


def _describe_answer(operation: Operation, ref: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(operation.answer, str):
        media, schema = operation.answer, {} if operation.answer == "application/json" else {"type": "string"}
    else:
        media, schema = "application/json", ref[operation.answer]
    names = list(RESPONSE_HEADERS) if operation.body else ["x-request-id"]
    return {
        "description": "OK",
        "headers": {name: {"description": RESPONSE_HEADERS[name], "schema": {"type": "string"}} for name in names},
        "content": {media: {"schema": schema}},
    }
