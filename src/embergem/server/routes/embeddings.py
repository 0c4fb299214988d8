"""`POST /v1/embeddings`: from a body to a request of the engine, and from its result to an answer."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from starlette.responses import Response

from embergem.engine import Engine, Request, Result
from embergem.errors import EmbergemError, InvalidRequest, InvalidTask, TokenOutOfRange
from embergem.protocol import Embedding, EmbeddingsRequest, EmbeddingsResponse, TextRequest, Usage
from embergem.server.call import Call
from embergem.server.decode import parse, texts_or_ids, titles_for
from embergem.server.encode import json_response, one_by_one, quoted_list, quoted_text
from embergem.server.prompt_choice import SENDS_IDS, Prompted, prompted, split
from embergem.server.upstream import named
from embergem.server.wait import deadline, result_of, submit
from embergem.server.wire import encode

TIKTOKEN_IDS = 200_064
"""Ids below this are those of OpenAI's vocabularies, the largest of which is o200k."""

MANY = 32_768
"""Numbers that take longer to write than another thread takes to be asked to."""


async def embeddings(call: Call) -> Response:
    """Embed texts or token ids."""
    service, settings = call.service, call.service.settings
    late = deadline(call.http, settings.request_timeout)
    content = await service.bodies.read(call.http, settings.max_body)
    if service.upstreams:
        name, fields = named(content)
        if (upstream := service.upstream(name)) is not None:
            call.notes.model = upstream.name
            return await upstream.forward(call, fields, late)
    body, ignored = parse(content, EmbeddingsRequest, strict=settings.strict)
    texts, ids = texts_or_ids(body.input, settings.max_inputs)
    with opened(call, body, texts, ids) as (engine, applied):
        request = Request(
            texts=applied.to(texts),
            ids=ids,
            task=applied.task,
            titles=titles_for(body.title, texts, settings.max_inputs),
            dimensions=body.dimensions,
            truncate=bool(body.truncate_sequence),
            lane=call.key.lane if call.key else "interactive",
            tenant=call.key.name if call.key else "",
            deadline=late,
            admit=call.charge,
        )
        try:
            result = await result_of(call.http, await submit(engine, request), late)
        except EmbergemError as error:
            raise located(error, ids) from None
        large = result.vectors.size > MANY
        response = json_response(await asyncio.to_thread(written, body, result) if large else written(body, result))
        note(response, engine, applied, texts is not None, ignored)
        if ids is not None and (foreign := without_own_start(engine, ids)):
            response.headers["x-embergem-warning"] = foreign
    call.notes.tokens, call.notes.truncated = result.tokens, len(result.truncated)
    call.notes.cached = len(result.cached)
    for header, indices in (("x-embergem-truncated", result.truncated), ("x-embergem-cached", result.cached)):
        if indices:
            response.headers[header] = quoted_list([str(index) for index in indices])
    return response


@contextmanager
def opened(
    call: Call, body: TextRequest, texts: list[str] | None, ids: list[list[int]] | None
) -> Iterator[tuple[Engine, Prompted]]:
    """Hold the model that a body names, with what is put around its texts.

    Raises:
        UnknownModel, InvalidTask: See `routing`.
        ModelLoading: It is not there yet; its load has begun.
    """
    service = call.service
    call.notes.texts, call.notes.inputs = texts, len(texts or ids or ())
    name, task = split(body.model, service.known())
    with service.registry.use(name, wait=False) as engine:
        call.notes.model = service.canonical(name)
        defaults = [call.key.task if call.key else None, service.tasks.get(call.notes.model), service.settings.task]
        applied = prompted(body, engine, task, defaults, texts is not None)
        call.notes.task = applied.task or ""
        yield engine, applied


def written(body: EmbeddingsRequest, result: Result) -> bytes:
    """The answer: vectors in input order, in the encoding that was asked for, each made by itself like its JSON."""
    dtype, form = body.encoding_dtype or "float32", body.encoding_format or "float"
    rows = one_by_one(
        Embedding(index, encode(result.vectors[index : index + 1], dtype, form)[0], len(row.ids), row.truncated)
        for index, row in enumerate(result.rows)
    )
    return msgspec.json.encode(EmbeddingsResponse(rows, body.model, Usage(result.tokens, result.tokens)))


def note(response: Response, engine: Engine, applied: Prompted, is_text: bool, ignored: list[str]) -> None:
    """Say in headers how the answer came about: space, arithmetic, task, prompt, and what was not read of the body."""
    headers = response.headers
    headers["x-embergem-space"] = engine.fingerprint
    headers["x-embergem-dtype"] = engine.dtype
    headers["x-embergem-task"] = quoted_list([applied.task]) if applied.task is not None else "none"
    headers["x-embergem-prompt"] = quoted_text(pattern(engine, applied)) if is_text else "none"
    if ignored:
        headers["x-embergem-ignored"] = quoted_list(ignored)


def pattern(engine: Engine, applied: Prompted) -> str:
    """What a text became, with `{content}` for the text and `{title}` for a title."""
    if applied.task is not None:
        return engine.prompt(applied.task) or "{content}"
    return applied.prefix + "{content}"


def located(error: EmbergemError, ids: list[list[int]] | None) -> EmbergemError:
    """Name the field at fault where the engine couldn't, and the client that is known to send foreign ids."""
    if isinstance(error, TokenOutOfRange) and ids is not None:
        if all(0 <= number < TIKTOKEN_IDS for row in ids for number in row):
            error.add_advice(f"{SENDS_IDS}.")
        error.param = "input"
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
