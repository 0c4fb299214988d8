"""`POST /v1/embeddings`: decode the body, choose model and prompt, compute, and encode the vectors."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

import msgspec
from starlette.responses import Response

from embergem.engine import Engine, Request, Result
from embergem.errors import EmbergemError, InvalidRequest, InvalidTask, TokenOutOfRange
from embergem.protocol import Embedding, EmbeddingsRequest, EmbeddingsResponse, TextRequest, Usage
from embergem.server.decode import DecodedRequest, decode_request
from embergem.server.encode import encode_each, encode_vectors, quoted_list, quoted_text
from embergem.server.prompt_choice import TIKTOKEN_HINT, PromptChoice, choose_prompt, split_task
from embergem.server.state import RequestContext
from embergem.server.upstream import decode_model_name
from embergem.server.wait import compute, decode, request_deadline

TIKTOKEN_IDS = 200_064
"""Token ids of OpenAI's vocabularies are below this; the largest is o200k."""

BATCH_TIMEOUT = 24 * 3600.0
"""Seconds until the result of a line of a batch, which is in the queue of the bulk lane for as long as it takes."""

LARGE_RESPONSE = 32_768
"""Numbers of a response that take longer to encode than a switch to another thread takes."""


async def embeddings(context: RequestContext) -> Response:
    """Embed texts or token ids."""
    state, settings = context.state, context.state.settings
    deadline = request_deadline(context.http, BATCH_TIMEOUT if context.of_batch else settings.request_timeout)
    content = await state.bodies.read(context)
    if state.upstreams:
        name, fields = await decode(
            context, content, partial(decode_model_name, content, settings.max_inputs), deadline
        )
        if (upstream := state.upstreams.get(name)) is not None:
            context.record.model = upstream.name
            return await upstream.forward(context, fields, deadline)
    decoded = await decode(context, content, partial(decode_request, content, EmbeddingsRequest, settings), deadline)
    with open_model(context, decoded) as (engine, prompt):
        request = Request(
            texts=prompt.apply(decoded.texts),
            ids=decoded.ids,
            task=prompt.task,
            titles=decoded.titles,
            dimensions=decoded.dimensions,
            truncate=bool(decoded.body.truncate_sequence),
            lane=context.lane,
            tenant=context.tenant,
            deadline=deadline,
            admit=context.charge if context.key else None,
        )
        try:
            result = await compute(context, engine, request, len(content))
        except EmbergemError as error:
            raise with_field(error, decoded) from None
        if context.trace is not None:
            context.trace.begin("encode")
        if result.vectors.size > LARGE_RESPONSE:
            encoded = await asyncio.to_thread(encode_response, decoded, result)
        else:
            encoded = encode_response(decoded, result)
        if context.trace is not None:
            context.trace.end({"embergem.dimensions": result.vectors.shape[1], "embergem.bytes": len(encoded)})
        response = Response(encoded, media_type="application/json")
        add_headers(response, engine, prompt, decoded)
        if decoded.ids is not None and (warning := missing_start(engine, decoded.ids)):
            response.headers["x-embergem-warning"] = warning
    record, truncated = context.record, result.truncated
    record.tokens, record.truncated, record.cached = result.tokens, len(truncated), len(result.cached)
    if truncated:
        response.headers["x-embergem-truncated"] = quoted_list([str(index) for index in truncated])
    if result.cached:
        response.headers["x-embergem-cached"] = quoted_list([str(index) for index in result.cached])
    return response


@contextmanager
def open_model(context: RequestContext, decoded: DecodedRequest[TextRequest]) -> Iterator[tuple[Engine, PromptChoice]]:
    """Hold the engine of the model that a request names, and choose the prompt.

    Raises:
        UnknownModel, InvalidTask: See `choose_prompt`.
        ModelLoading: The model is not loaded yet; the load has begun.
    """
    state, record = context.state, context.record
    record.texts = decoded.texts if state.settings.log_inputs else None  # the record outlives the request
    record.inputs = len(decoded.texts or decoded.ids or ())
    name, task = decoded.model, None
    if ":" in name:
        name, task = split_task(name, state.known_names())
    model = state.registry.acquire(name, wait=False)
    try:
        record.model = model.name
        default_tasks = (
            context.key.task if context.key else None,
            state.default_tasks.get(model.name),
            state.settings.task,
        )
        prompt = choose_prompt(decoded, model.engine, task, default_tasks)
        record.task = prompt.task or ""
        yield model.engine, prompt
    finally:
        state.registry.release(model)


def encode_response(decoded: DecodedRequest[EmbeddingsRequest], result: Result) -> bytes:
    """Encode the vectors in input order, in the encoding of the request, as JSON row by row."""
    body = decoded.body
    dtype, form = body.encoding_dtype or "float32", body.encoding_format or "float"
    tokens = result.tokens
    rows = encode_each(
        Embedding(index, encode_vectors(result.vectors[index : index + 1], dtype, form)[0], len(row.ids), row.truncated)
        for index, row in enumerate(result.rows)
    )
    return msgspec.json.encode(EmbeddingsResponse(rows, decoded.model, Usage(tokens, tokens)))


def add_headers(response: Response, engine: Engine, prompt: PromptChoice, decoded: DecodedRequest[TextRequest]) -> None:
    """Add the headers that describe a result: space, arithmetic, task, prompt and ignored fields."""
    template = None
    if decoded.texts is not None:
        template = prompt.prefix + "{content}" if prompt.task is None else engine.prompt(prompt.task) or "{content}"
    response.raw_headers += _model_headers(engine.fingerprint, engine.dtype, prompt.task, template)
    if decoded.ignored:
        response.headers["x-embergem-ignored"] = quoted_list(decoded.ignored)


@lru_cache(maxsize=256)
def _model_headers(fingerprint: str, dtype: str, task: str | None, template: str | None) -> list[tuple[bytes, bytes]]:
    headers = {
        "x-embergem-space": fingerprint,
        "x-embergem-dtype": dtype,
        "x-embergem-task": "none" if task is None else quoted_list([task]),
        "x-embergem-prompt": "none" if template is None else quoted_text(template),
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def with_field(error: EmbergemError, decoded: DecodedRequest[TextRequest]) -> EmbergemError:
    """Return an error of the engine with the name of the field at fault.

    If all token ids could be OpenAI's, the error also names the client that is known to send them.
    """
    if isinstance(error, TokenOutOfRange) and decoded.ids is not None:
        if all(0 <= number < TIKTOKEN_IDS for row in decoded.ids for number in row):
            error.add_advice(TIKTOKEN_HINT)
        error.param = "input"
    if error.param is None and isinstance(error, InvalidRequest):
        error.param = "task" if isinstance(error, InvalidTask) else "input"
    return error


def missing_start(engine: Engine, ids: Sequence[Sequence[int]]) -> str | None:
    """Return a warning if no row of token ids begins with the special token that the model's tokenizer puts first.

    Such ids may be intended. But a vocabulary as large as Gemma's accepts the ids of any other without an error.
    """
    start = engine.start_token
    if start is None or any(row[0] == start for row in ids):
        return None
    return f"No row of token ids begins with {start}, the first token of this model's own tokenizer. {TIKTOKEN_HINT}"
