"""`POST /v1/tokenize`: the token ids that a model reads of each text, and their number.

Separate because each API surface has a file of its own.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from embergem._native import CancelToken
from embergem.engine import Engine, Request
from embergem.errors import EmbergemError
from embergem.protocol import Token, TokenizedInput, TokenizeRequest, TokenizeResponse
from embergem.server.decode import decode_request
from embergem.server.encode import encode_each
from embergem.server.routes.embeddings import add_headers, open_model, with_field
from embergem.server.state import RequestContext
from embergem.server.wait import decode, request_deadline, wait_while_connected
from embergem.types import AlignedToken

if TYPE_CHECKING:
    from embergem.server.tracing import RequestTrace


async def tokenize(context: RequestContext) -> Response:
    """Tokenize texts as the model reads them, and count the tokens.

    The prompt and special tokens are included. An input over the model's limit is not an error here: `count` is its
    full length, and `ids` are the ids that the model would read after truncation. With `return_tokens` the answer also
    has each text with its prompt, and the position of each token in it.
    """
    settings = context.state.settings
    deadline = request_deadline(context.http, settings.request_timeout)
    content = await context.state.bodies.read(context)
    decoded = await decode(context, content, partial(decode_request, content, TokenizeRequest, settings), deadline)
    with open_model(context, decoded) as (engine, prompt):
        request = Request(
            texts=prompt.apply(decoded.texts),
            ids=decoded.ids,
            task=prompt.task,
            titles=decoded.titles,
            truncate=True,
            tenant=context.key.name if context.key else "",
        )
        try:
            aligned = bool(decoded.body.return_tokens)
            encode = partial(encode_tokens, engine, request, decoded.model, context.trace, aligned=aligned)
            if context.trace is not None:
                context.trace.begin("tokenize queue")
            work = context.state.texts.submit(encode, len(content), request.tenant)
            encoded, tokens = await wait_while_connected(context.http, asyncio.wrap_future(work), deadline)
        except EmbergemError as error:
            raise with_field(error, decoded) from None
        if context.trace is not None:
            context.trace.end({"embergem.bytes": len(encoded)})
        context.charge(tokens)
        response = Response(encoded, media_type="application/json")
        add_headers(response, engine, prompt, decoded)
    return response


def encode_tokens(
    engine: Engine,
    request: Request,
    model: str,
    trace: "RequestTrace | None",
    cancel: CancelToken,
    *,
    aligned: bool,
) -> tuple[bytes, int]:
    """Tokenize a request; return the encoded response and the number of tokens.

    With `aligned`, the response has the tokens of each text with their positions.
    """
    if trace is not None:
        trace.begin("tokenize")
    rows = engine.prepare(request, cancel, count=True)
    if trace is not None:
        trace.end({"embergem.rows": len(rows), "embergem.tokens": sum(row.length for row in rows)})
        trace.begin("encode")
    inputs = [TokenizedInput(index, row.ids.tolist(), row.length, row.truncated) for index, row in enumerate(rows)]
    if aligned:
        for entry, (text, tokens) in zip(inputs, engine.align(request), strict=True):
            entry.text = text
            entry.tokens = [describe_token(token) for token in tokens]
    data = encode_each(inputs)
    return msgspec.json.encode(TokenizeResponse(data, model, engine.limit)), sum(row.length for row in rows)


def describe_token(token: AlignedToken) -> Token:
    """Return a token as the API describes it."""
    start, end = token.span or (None, None)
    return Token(token.id, token.token, start, end, token.kept)
