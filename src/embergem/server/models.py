"""`GET /v1/models` and `GET /v1/models/{name}`."""

from starlette.responses import Response

from embergem.server.answers import json_response
from embergem.server.call import Call
from embergem.server.routing import split
from embergem.server.schema import Model, ModelList
from embergem.server.service import Service


async def models(call: Call) -> Response:
    """List every name that `model` may have: ids and aliases, then each of them with each task."""
    service = call.service
    plain = [describe(name, service) for name in service.known()]
    tasked = [describe(f"{model.id}:{task}", service) for model in plain for task in model.tasks]
    return json_response(ModelList(plain + tasked))


async def model(call: Call) -> Response:
    """Describe one model by any of its names."""
    return json_response(describe(call.http.path_params["name"], call.service))


def describe(name: str, service: Service) -> Model:
    """One entry of the list.

    Raises:
        UnknownModel: Nothing is called that.
    """
    base, task = split(name, service.known())
    engine = service.registry.get(name if task is None else base)
    if task is not None and task not in engine.tasks:
        engine = service.registry.get(name)  # raises, listing what there is
    return Model(
        id=name,
        created=service.started,
        dimensions=engine.dimensions,
        allowed_dimensions=list(engine.allowed_dimensions),
        max_tokens=engine.limit,
        tasks=list(engine.tasks),
        task=task,
        dtype=engine.dtype,
    )
