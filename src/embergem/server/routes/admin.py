"""`POST /v1/models/load`, `unload`, `reload` and `status`: an admin's hand on the models, while requests go on."""

import asyncio
from collections.abc import Callable
from typing import Literal

from starlette.responses import Response

from embergem.errors import EmbergemError, UnknownModel
from embergem.protocol import ErrorBody, ModelAnswer, ModelRequest
from embergem.server.call import Call
from embergem.server.decode import parse
from embergem.server.encode import json_response
from embergem.server.errors import kind_of

Word = Literal["loaded", "unloaded", "reloading", "not_found", "internal_error"]
_WORDS: dict[str, Word] = {
    "loaded": "loaded",
    "unloaded": "unloaded",
    "loading": "reloading",
    "failed": "internal_error",
}


async def load(call: Call) -> Response:
    """Load a model that is not loaded, and wait for it."""
    return await _manage(call, call.service.registry.load)


async def unload(call: Call) -> Response:
    """Unload a model once its requests are done; the next request for it loads it again."""
    return await _manage(call, call.service.registry.unload)


async def reload(call: Call) -> Response:
    """Load a model anew, as its files are now; requests in work finish on the old one."""
    return await _manage(call, call.service.registry.reload)


async def status(call: Call) -> Response:
    """Say whether a model is loaded."""
    return await _manage(call, None)


async def _manage(call: Call, action: Callable[[str], None] | None) -> Response:
    settings = call.service.settings
    content = await call.service.bodies.read(call.http, settings.max_body)
    body, _ = parse(content, ModelRequest, strict=settings.strict)
    registry, name = call.service.registry, body.model_id
    try:
        if action is not None:
            await asyncio.to_thread(action, name)
        word, reason = _WORDS[registry.status(name)], registry.reason(name)
        error = None if reason is None else ErrorBody(reason, "server_error", "model_id", "model_failed")
        return json_response(ModelAnswer(name, word, error))
    except EmbergemError as failed:
        word = "not_found" if isinstance(failed, UnknownModel) else "internal_error"
        call.notes.code = failed.code
        error = ErrorBody(failed.message, kind_of(failed.status), "model_id", failed.code)
        return json_response(ModelAnswer(name, word, error), failed.status)
