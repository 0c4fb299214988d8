"""`POST /v1/tokenize`: the ids that a model would read, and how many."""

import asyncio

from starlette.responses import Response

from embergem.engine import Request
from embergem.errors import EmbergemError
from embergem.server.answers import json_response
from embergem.server.body import read_body
from embergem.server.call import Call
from embergem.server.embeddings import located, note, opened, titles_for
from embergem.server.parse import parse, texts_or_ids
from embergem.server.schema import TokenizedInput, TokenizeRequest, TokenizeResponse


async def tokenize(call: Call) -> Response:
    """Count the tokens of texts, and show them.

    The prompt and special tokens are included. An input over the model's limit is no error here: `count` is its whole
    length, `ids` is what the model would read of it.
    """
    settings = call.service.settings
    body, ignored = parse(await read_body(call.http, settings.max_body), TokenizeRequest, strict=settings.strict)
    texts, ids = texts_or_ids(body.input)
    with opened(call, body, texts, ids) as (engine, applied):
        request = Request(
            texts=applied.to(texts), ids=ids, task=applied.task, titles=titles_for(body.title, texts), truncate=True
        )
        try:
            rows = await asyncio.to_thread(engine.prepare, request)
        except EmbergemError as error:
            raise located(error, ids) from None
        data = [TokenizedInput(index, row.ids.tolist(), row.length, row.truncated) for index, row in enumerate(rows)]
        response = json_response(TokenizeResponse(data, body.model, engine.limit))
        note(response, engine, applied, texts is not None, ignored)
    return response
