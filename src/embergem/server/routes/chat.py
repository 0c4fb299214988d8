"""`/v1/chat/completions`, `/v1/completions` and `/v1/responses`: for models of upstream servers only."""

from starlette.responses import Response

from embergem.errors import UnknownModel
from embergem.server.call import Call
from embergem.server.upstream import named
from embergem.server.wait import deadline


async def chat_completions(call: Call) -> Response:
    """Forward a chat to the upstream server that has the model, streams included."""
    return await _forward(call)


async def completions(call: Call) -> Response:
    """Forward a completion to the upstream server that has the model, streams included."""
    return await _forward(call)


async def responses(call: Call) -> Response:
    """Forward a response request to the upstream server that has the model, streams included."""
    return await _forward(call)


async def _forward(call: Call) -> Response:
    service = call.service
    late = deadline(call.http, service.settings.request_timeout)
    name, fields = named(await service.bodies.read(call.http, service.settings.max_body))
    upstream = service.upstream(name)
    if upstream is None:
        there = ", ".join(service.upstreams) or "none"
        raise UnknownModel(
            f"no upstream server has a model {name!r}; embergem itself computes embeddings. Upstream models: {there}",
            param="model",
        )
    call.notes.model = upstream.name
    return await upstream.forward(call, fields, late)
