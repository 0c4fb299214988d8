"""`GET /v1/models` and `/v1/models/{name}`, and `POST /v1/models/load`, `unload`, `reload` and `status` for admins."""

import asyncio
from collections.abc import Callable
from typing import Literal

from starlette.responses import Response

from embergem.errors import EmbergemError, InvalidRequest, UnknownModel
from embergem.protocol import ErrorBody, Model, ModelAnswer, ModelList, ModelRequest
from embergem.registry import DEFAULT
from embergem.server.decode import decode_body
from embergem.server.encode import json_response
from embergem.server.errors import REASON_IN_LOG, error_type
from embergem.server.prompt_choice import split_task
from embergem.server.state import RequestContext

EXPAND = ("names",)
"""Values of the query parameter `expand` of `GET /v1/models`."""

AnswerStatus = Literal["loaded", "unloaded", "reloading", "not_found", "internal_error"]
_ANSWER_STATUS: dict[str, AnswerStatus] = {
    "loaded": "loaded",
    "unloaded": "unloaded",
    "loading": "reloading",
    "failed": "internal_error",
}


async def models(context: RequestContext) -> Response:
    """List each model once, with its aliases and tasks.

    With `?expand=names`, list every id and alias that `model` may have, then each name of a loaded model with each of
    its tasks.

    Raises:
        InvalidRequest: `expand` has another value.
    """
    state = context.state
    expand = context.http.query_params.get("expand")
    if expand is None:
        return json_response(ModelList([describe(name, context) for name in state.main_names()]))
    if expand not in EXPAND:
        raise InvalidRequest(f"expand={expand!r} is not possible. The only value is 'names'.", param="expand")
    plain = [describe(name, context) for name in state.model_names()]
    with_task = [describe(f"{model.id}:{task}", context) for model in plain for task in model.tasks or ()]
    return json_response(ModelList(plain + with_task))


async def model(context: RequestContext) -> Response:
    """Describe one model by any of its names."""
    return json_response(describe(context.http.path_params["name"], context))


def describe(name: str, context: RequestContext) -> Model:
    """Return the entry of one name in the list of models, without loading the model.

    Raises:
        UnknownModel: No model has this name.
    """
    state = context.state
    base, task = split_task(name, state.known_names())
    if (upstream := state.upstreams.get(base)) is not None:
        names = [other for other, model in state.upstreams.items() if model is upstream and other != upstream.name]
        return Model(name, state.started, upstream.name, "upstream", aliases=names, owned_by="upstream")
    registry = state.registry
    engine, status, reason = registry.peek(base), registry.status(base), registry.reason(base)
    main_name = registry.main_name(base)
    aliases = [alias for alias, model in registry.aliases().items() if model == main_name]
    if registry.default == main_name:
        aliases.insert(0, DEFAULT)
    if reason is not None and not context.sees_files:
        reason = REASON_IN_LOG
    if engine is None:
        return Model(name, state.started, main_name, status, aliases=aliases, task=task, reason=reason)
    if task is not None and task not in engine.tasks:
        tasks = ", ".join(engine.tasks) or "none"
        raise UnknownModel(f"The model name {name!r} ends in the unknown task {task!r}. Its tasks are: {tasks}.")
    return Model(
        id=name,
        created=state.started,
        root=main_name,
        status=status,
        aliases=aliases,
        dimensions=engine.dimensions,
        allowed_dimensions=list(engine.allowed_dimensions),
        max_tokens=engine.limit,
        tasks=list(engine.tasks),
        task=task,
        dtype=engine.dtype,
        fingerprint=engine.fingerprint,
        reason=reason,
        prompts={task: engine.prompt(task) or "{content}" for task in engine.tasks},
    )


async def load(context: RequestContext) -> Response:
    """Load a model that is not loaded, and wait until it is."""
    return await _manage(context, context.state.registry.load)


async def unload(context: RequestContext) -> Response:
    """Unload a model once its requests are done; the next request for it loads it again."""
    return await _manage(context, context.state.registry.unload)


async def reload(context: RequestContext) -> Response:
    """Load a model again from its present files; requests in progress finish on the old one."""
    return await _manage(context, context.state.registry.reload)


async def status(context: RequestContext) -> Response:
    """Return whether a model is loaded."""
    return await _manage(context, None)


async def _manage(context: RequestContext, action: Callable[[str], None] | None) -> Response:
    registry = context.state.registry
    content = await context.state.bodies.read(context)
    body, _ = decode_body(content, ModelRequest, strict=context.state.settings.strict)
    name = body.model_id
    try:
        if action is not None:
            await asyncio.to_thread(action, name)
        answer_status, reason = _ANSWER_STATUS[registry.status(name)], registry.reason(name)
        error = None if reason is None else ErrorBody(reason, "server_error", "model_id", "model_failed")
        return json_response(ModelAnswer(name, answer_status, error))
    except EmbergemError as failed:
        answer_status = "not_found" if isinstance(failed, UnknownModel) else "internal_error"
        context.record.code = failed.code
        error = ErrorBody(failed.message, error_type(failed.status), "model_id", failed.code)
        return json_response(ModelAnswer(name, answer_status, error), failed.status)
