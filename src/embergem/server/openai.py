"""The OpenAI-compatible routes."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from embergem.server.embeddings import embeddings
from embergem.server.models import model, models
from embergem.server.service import Service

Handler = Callable[[HttpRequest, Service], Awaitable[Response]]


def routes(service: Service) -> list[Route]:
    """Routes over the models of a service."""

    def with_service(handler: Handler) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def handle(http: HttpRequest) -> Response:
            return await handler(http, service)

        return handle

    return [
        Route("/v1/embeddings", with_service(embeddings), methods=["POST"]),
        Route("/v1/models", with_service(models), methods=["GET"]),
        Route("/v1/models/{name:path}", with_service(model), methods=["GET"]),
    ]
