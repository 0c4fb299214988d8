"""The application: routes, errors, request ids and CORS put together."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from embergem.config import Settings
from embergem.errors import EmbergemError
from embergem.registry import Registry
from embergem.server.access_log import Observe
from embergem.server.auth import route
from embergem.server.errors import on_embergem_error, on_failure, on_http_error
from embergem.server.openapi import HEADERS
from embergem.server.operations import OPERATIONS
from embergem.server.state import Service


def create_app(registry: Registry, settings: Settings | None = None) -> ASGIApp:
    """Build the ASGI application over the models of `registry`, open to all."""
    return application(Service(registry, settings or Settings()))


def application(service: Service) -> ASGIApp:
    """Build the ASGI application of a service."""
    app: ASGIApp = Starlette(
        routes=[route(operation, service) for operation in OPERATIONS],
        exception_handlers={
            EmbergemError: on_embergem_error,
            HTTPException: on_http_error,
            Exception: on_failure,
        },
    )
    if service.settings.cors:
        app = CORSMiddleware(
            app,
            allow_origins=service.settings.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id", "x-request-timeout"],
            expose_headers=["retry-after", *HEADERS],
        )
    return Observe(app, service.metrics, service.settings)
