"""The OpenAI-compatible routes: embeddings and models."""

import asyncio
import time
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from embergem.engine import Engine, Request, Result
from embergem.errors import Cancelled, InvalidTask
from embergem.registry import DEFAULT, Registry
from embergem.server.body import read_body, to_base64
from embergem.server.schema import (
    Embedding,
    EmbeddingsRequest,
    EmbeddingsResponse,
    Model,
    ModelList,
    Usage,
    parse_embeddings,
)


def routes(registry: Registry) -> list[Route]:
    """Routes over the models of `registry`."""
    started = int(time.time())

    async def embeddings(http: HttpRequest) -> Response:
        body = parse_embeddings(await read_body(http))
        engine = registry.get(body.model)
        request = to_request(body)
        # Tokenizing a long input takes a while, so it happens off the event loop.
        future = asyncio.wrap_future(await asyncio.to_thread(engine.submit, request))
        result = await unless_gone(http, future)
        response = json_response(to_response(body, result))
        if result.truncated:
            response.headers["x-embergem-truncated"] = ",".join(str(index) for index in result.truncated)
        return response

    async def models(http: HttpRequest) -> Response:
        names = [DEFAULT, *registry.names()]
        return json_response(ModelList([describe(name, registry.get(name), started) for name in names]))

    async def model(http: HttpRequest) -> Response:
        name = http.path_params["name"]
        return json_response(describe(name, registry.get(name), started))

    return [
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", model, methods=["GET"]),
    ]


def to_request(body: EmbeddingsRequest) -> Request:
    """Turn a body into what the engine takes."""
    texts, ids = body.texts_or_ids()
    if ids is not None and (body.task is not None or body.title is not None):
        raise InvalidTask("token ids are embedded as they are: a task or title needs texts", param="task")
    titles: list[str | None] | None = None
    if body.title is not None and texts is not None:
        titles = [body.title] * len(texts) if isinstance(body.title, str) else body.title
        if len(titles) != len(texts):
            raise InvalidTask(
                f"{len(titles)} titles for {len(texts)} inputs; give one for all or one each", param="title"
            )
    return Request(
        texts=texts,
        ids=ids,
        task=body.task,
        titles=titles,
        dimensions=body.dimensions,
        truncate=bool(body.truncate_sequence),
    )


def to_response(body: EmbeddingsRequest, result: Result) -> EmbeddingsResponse:
    """Vectors in input order, in the encoding that was asked for."""
    encode = to_base64 if body.encoding_format == "base64" else lambda vectors: vectors.tolist()
    data = [Embedding(index, vector) for index, vector in enumerate(encode(result.vectors))]
    return EmbeddingsResponse(data, body.model, Usage(result.tokens, result.tokens))


def describe(name: str, engine: Engine, created: int) -> Model:
    """One entry of the list of models."""
    return Model(
        id=name,
        created=created,
        dimensions=engine.dimensions,
        allowed_dimensions=list(engine.allowed_dimensions),
        max_tokens=engine.limit,
        tasks=list(engine.tasks),
        dtype=engine.dtype,
    )


async def unless_gone(http: HttpRequest, future: "asyncio.Future[Result]") -> Result:
    """Wait for the result; cancel the work when the client hangs up."""
    gone = asyncio.ensure_future(disconnected(http))
    try:
        either: set[asyncio.Future[Any]] = {future, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            raise Cancelled("the client closed the connection")
        return future.result()
    finally:
        gone.cancel()


async def disconnected(http: HttpRequest) -> None:
    """Return when the client has closed the connection."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


def json_response(content: msgspec.Struct) -> Response:
    """Encode a struct."""
    return Response(msgspec.json.encode(content), media_type="application/json")
