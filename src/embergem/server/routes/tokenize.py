"""`POST /v1/tokenize`: the ids that a model would read, and how many."""

import asyncio

import msgspec
from starlette.responses import Response

from embergem.engine import Engine, Request
from embergem.errors import EmbergemError
from embergem.protocol import TokenizedInput, TokenizeRequest, TokenizeResponse
from embergem.server.call import Call
from embergem.server.decode import parse, texts_or_ids, titles_for
from embergem.server.encode import json_response, one_by_one
from embergem.server.routes.embeddings import located, note, opened
from embergem.server.wait import deadline, unless_gone


async def tokenize(call: Call) -> Response:
    """Count the tokens of texts, and show them.

    The prompt and special tokens are included. An input over the model's limit is no error here: `count` is its whole
    length, `ids` is what the model would read of it.
    """
    service, settings = call.service, call.service.settings
    late = deadline(call.http, settings.request_timeout)
    content = await service.bodies.read(call.http, settings.max_body)
    body, ignored = parse(content, TokenizeRequest, strict=settings.strict)
    texts, ids = texts_or_ids(body.input, settings.max_inputs)
    with opened(call, body, texts, ids) as (engine, applied):
        request = Request(
            texts=applied.to(texts),
            ids=ids,
            task=applied.task,
            titles=titles_for(body.title, texts, settings.max_inputs),
            truncate=True,
        )
        try:
            answer, tokens = await unless_gone(
                call.http, asyncio.to_thread(tokenized, engine, request, body.model), late
            )
        except EmbergemError as error:
            raise located(error, ids) from None
        call.charge(tokens)
        response = json_response(answer)
        note(response, engine, applied, texts is not None, ignored)
    return response


def tokenized(engine: Engine, request: Request, model: str) -> tuple[bytes, int]:
    """The answer, row by row, so that other threads have their turn, and the tokens in it."""
    rows = engine.prepare(request)
    data = one_by_one(
        TokenizedInput(index, row.ids.tolist(), row.length, row.truncated) for index, row in enumerate(rows)
    )
    return msgspec.json.encode(TokenizeResponse(data, model, engine.limit)), sum(row.length for row in rows)
