"""`POST /v1/embeddings`: from a body to a request of the engine, and from its result to an answer."""

import json
from collections.abc import Sequence

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from embergem.engine import Engine, Request, Result
from embergem.errors import EmbergemError, InvalidRequest, InvalidTask, TokenOutOfRange
from embergem.server.answers import json_response, quoted_list
from embergem.server.body import read_body
from embergem.server.parse import parse, texts_or_ids
from embergem.server.routing import SENDS_IDS, Prompted, prompted, split
from embergem.server.schema import Embedding, EmbeddingsRequest, EmbeddingsResponse, Usage
from embergem.server.service import Service
from embergem.server.waiting import submit, unless_gone
from embergem.server.wire import encode

TIKTOKEN_IDS = 200_064
"""Ids below this are those of OpenAI's vocabularies, the largest of which is o200k."""


async def embeddings(http: HttpRequest, service: Service) -> Response:
    """Answer `POST /v1/embeddings`."""
    settings = service.settings
    body, ignored = parse(await read_body(http, settings.max_body), EmbeddingsRequest, strict=settings.strict)
    texts, ids = texts_or_ids(body.input)
    count = len(texts or ids or ())
    if count > settings.max_inputs:
        raise InvalidRequest(
            f"input has {count} entries and this server takes {settings.max_inputs} at once; send them in parts",
            param="input",
        )
    model, task = split(body.model, service.known())
    engine = service.registry.get(model)
    applied = prompted(body, engine, task, [settings.task], texts is not None)
    try:
        future = await submit(engine, to_request(body, texts, ids, applied))
        result = await unless_gone(http, future)
    except EmbergemError as error:
        raise located(error, ids) from None
    response = json_response(to_response(body, result))
    describe(response, engine, applied, result, texts is not None)
    if ignored:
        response.headers["x-embergem-ignored"] = quoted_list(ignored)
    if ids is not None and (foreign := without_own_start(engine, ids)):
        response.headers["x-embergem-warning"] = foreign
    return response


def to_request(
    body: EmbeddingsRequest, texts: list[str] | None, ids: list[list[int]] | None, applied: Prompted
) -> Request:
    """Turn a body into what the engine takes."""
    titles: list[str | None] | None = None
    if body.title is not None and texts is not None:
        titles = [body.title] * len(texts) if isinstance(body.title, str) else body.title
        if len(titles) != len(texts):
            raise InvalidTask(
                f"{len(titles)} titles for {len(texts)} inputs; give one for all or one each", param="title"
            )
    if applied.prefix and texts is not None:
        texts = [applied.prefix + text for text in texts]
    return Request(
        texts=texts,
        ids=ids,
        task=applied.task,
        titles=titles,
        dimensions=body.dimensions,
        truncate=bool(body.truncate_sequence),
    )


def to_response(body: EmbeddingsRequest, result: Result) -> EmbeddingsResponse:
    """Vectors in input order, in the encoding that was asked for."""
    encoded = encode(result.vectors, body.encoding_dtype or "float32", body.encoding_format or "float")
    data = [
        Embedding(index, vector, len(row.ids), row.truncated)
        for index, (vector, row) in enumerate(zip(encoded, result.rows, strict=True))
    ]
    return EmbeddingsResponse(data, body.model, Usage(result.tokens, result.tokens))


def describe(response: Response, engine: Engine, applied: Prompted, result: Result, is_text: bool) -> None:
    """Say in headers how the vectors came about: arithmetic, task and prompt, and which inputs were cut."""
    headers = response.headers
    headers["x-embergem-dtype"] = engine.dtype
    headers["x-embergem-task"] = quoted_list([applied.task]) if applied.task is not None else "none"
    headers["x-embergem-prompt"] = json.dumps(pattern(engine, applied)) if is_text else "none"
    if result.truncated:
        headers["x-embergem-truncated"] = quoted_list([str(index) for index in result.truncated])


def pattern(engine: Engine, applied: Prompted) -> str:
    """What a text became, with `{content}` for the text and `{title}` for a title."""
    if applied.task is not None:
        return engine.prompt(applied.task) or "{content}"
    return applied.prefix + "{content}"


def located(error: EmbergemError, ids: list[list[int]] | None) -> EmbergemError:
    """Name the field at fault where the engine couldn't, and the client that is known to send foreign ids."""
    if isinstance(error, TokenOutOfRange) and ids is not None:
        if all(0 <= number < TIKTOKEN_IDS for row in ids for number in row):
            return TokenOutOfRange(f"{error.message} {SENDS_IDS}.", param="input")
        return TokenOutOfRange(error.message, param="input")
    if error.param is None and isinstance(error, InvalidRequest):
        error.param = "task" if isinstance(error, InvalidTask) else "input"
    return error


def without_own_start(engine: Engine, ids: Sequence[Sequence[int]]) -> str | None:
    """Warn where rows of ids lack the special token that this model's own tokenizer puts first.

    They may be meant so, but a vocabulary as large as Gemma's takes the ids of any other without an error.
    """
    start = engine.start
    if start is None or any(row[0] == start for row in ids):
        return None
    return f"no row of ids begins with {start}, as this model's own tokenizer begins each. {SENDS_IDS}."
