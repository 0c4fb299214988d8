"""`GET /v1/models` and `GET /v1/models/{name}`."""

from starlette.responses import Response

from embergem.errors import UnknownModel
from embergem.protocol import Model, ModelList
from embergem.server.call import Call
from embergem.server.encode import json_response
from embergem.server.prompt_choice import split
from embergem.server.state import Service


async def models(call: Call) -> Response:
    """List every id and alias that `model` may have, then each of a loaded model with each of its tasks."""
    service = call.service
    plain = [describe(name, service) for name in service.known()]
    tasked = [describe(f"{model.id}:{task}", service) for model in plain for task in model.tasks or ()]
    return json_response(ModelList(plain + tasked))


async def model(call: Call) -> Response:
    """Describe one model by any of its names."""
    return json_response(describe(call.http.path_params["name"], call.service))


def describe(name: str, service: Service) -> Model:
    """One entry of the list. Nothing is loaded for it.

    Raises:
        UnknownModel: Nothing is called that.
    """
    base, task = split(name, service.known())
    if service.upstream(base) is not None:
        return Model(name, service.started, service.canonical(base), "upstream", owned_by="upstream")
    engine, status = service.registry.peek(base), service.registry.status(base)
    root, reason = service.canonical(base), service.registry.reason(base)
    if engine is None:
        return Model(name, service.started, root, status, task=task, reason=reason)
    if task is not None and task not in engine.tasks:
        has = ", ".join(engine.tasks) or "none"
        raise UnknownModel(f"the model name {name!r} ends in {task!r}, which is no task of it; its tasks: {has}")
    return Model(
        id=name,
        created=service.started,
        root=root,
        status=status,
        dimensions=engine.dimensions,
        allowed_dimensions=list(engine.allowed_dimensions),
        max_tokens=engine.limit,
        tasks=list(engine.tasks),
        task=task,
        dtype=engine.dtype,
        fingerprint=engine.fingerprint,
        reason=reason,
    )
