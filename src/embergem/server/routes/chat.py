"""`POST /v1/chat/completions`, `/v1/completions` and `/v1/responses`, for models of upstream servers.

Separate because each API surface has a file of its own.
"""

from functools import partial

from starlette.responses import Response

from embergem.errors import UnknownModel
from embergem.server.state import RequestContext
from embergem.server.upstream import decode_model_name
from embergem.server.wait import decode, request_deadline


async def chat_completions(context: RequestContext) -> Response:
    """Forward a chat completion to the upstream server that has the model, streams included."""
    return await _forward(context)


async def completions(context: RequestContext) -> Response:
    """Forward a completion to the upstream server that has the model, streams included."""
    return await _forward(context)


async def responses(context: RequestContext) -> Response:
    """Forward a response request to the upstream server that has the model, streams included."""
    return await _forward(context)


async def _forward(context: RequestContext) -> Response:
    state = context.state
    deadline = request_deadline(context.http, state.settings.request_timeout)
    content = await state.bodies.read(context)
    work = partial(decode_model_name, content, state.settings.max_inputs)
    name, fields = await decode(context, content, work, deadline)
    upstream = state.upstreams.get(name)
    if upstream is None:
        known = ", ".join(state.upstreams) or "none"
        raise UnknownModel(
            f"No upstream server has the model {name!r}, and embergem itself computes embeddings only. The upstream "
            f"models are: {known}.",
            param="model",
        )
    context.record.model = upstream.name
    return await upstream.forward(context, fields, deadline)
