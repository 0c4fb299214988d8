"""The OpenAPI document, made from the table of operations and the structs that validate."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from embergem import __version__
from embergem.protocol import ErrorResponse
from embergem.server.call import Operation

HEADERS = {
    "x-request-id": "The request's id, the client's own where it sent one.",
    "x-embergem-space": "Fingerprint of the space that the vectors are in.",
    "x-embergem-dtype": "Arithmetic of the model.",
    "x-embergem-task": "Task whose prompt was applied, or `none`.",
    "x-embergem-prompt": "What a text became, as a JSON string with `{content}` where it went; `none` for token ids.",
    "x-embergem-truncated": "Indices of the inputs that were cut.",
    "x-embergem-cached": "Indices of the inputs whose vectors were known before.",
    "x-embergem-ignored": "Fields of the body that are not known.",
    "x-embergem-warning": "What looks wrong with token ids that were accepted.",
}


def openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """Describe `operations` as an OpenAPI 3.1 document."""
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
            "summary": "Embeddings through OpenAI's API, with tasks, smaller answers and nothing silent.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, if any are set."}
            },
        },
    }


def _describe(operation: Operation, path: str, ref: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "responses": {"200": _answer(operation, ref)},
    }
    if rest := _rest(operation.handler.__doc__ or ""):
        described["description"] = rest
    if parameters := re.findall(r"\{(\w+)\}", path):
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in parameters
        ]
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": ref[operation.body]}},
        }
    if operation.access != "open":
        described["security"] = [{"key": []}, {}] if operation.access == "key" else [{"key": []}]
    for status in sorted({*operation.statuses, *_usual(operation)}):
        described["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": ref[ErrorResponse]}},
        }
    return described


def _usual(operation: Operation) -> set[int]:
    """Statuses of the errors that follow from what an operation is."""
    usual = {400, 408} if operation.body else set()
    if operation.access != "open":
        usual |= {401, 429}
    return usual | ({403, 415} if operation.access == "admin" else set())


def _answer(operation: Operation, ref: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(operation.answer, str):
        media, schema = operation.answer, {} if operation.answer == "application/json" else {"type": "string"}
    else:
        media, schema = "application/json", ref[operation.answer]
    names = list(HEADERS) if operation.body else ["x-request-id"]
    return {
        "description": "OK",
        "headers": {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names},
        "content": {media: {"schema": schema}},
    }


def _rest(docstring: str) -> str:
    """What a docstring says after its first line, for readers of the API: up to its first section."""
    rest = docstring.strip().partition("\n")[2].split("Raises:")[0]
    return " ".join(rest.split())
