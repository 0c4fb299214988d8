"""Everything that can be asked, in one table: routes, access rights and the OpenAPI document come from it."""

from embergem.protocol import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    Forwarded,
    Health,
    Model,
    ModelAnswer,
    ModelList,
    ModelRequest,
    Readiness,
    Root,
    TokenizeRequest,
    TokenizeResponse,
)
from embergem.server.call import Operation
from embergem.server.pages import document, page
from embergem.server.routes.admin import load, reload, status, unload
from embergem.server.routes.chat import chat_completions, completions, responses
from embergem.server.routes.embeddings import embeddings
from embergem.server.routes.health import health, metrics, ready, root
from embergem.server.routes.models import model, models
from embergem.server.routes.tokenize import tokenize

OPERATIONS = (
    Operation(
        "POST", "/v1/embeddings", embeddings,
        body=EmbeddingsRequest, answer=EmbeddingsResponse, statuses=(404, 413, 429, 503, 504),
    ),
    Operation(
        "POST", "/v1/tokenize", tokenize,
        body=TokenizeRequest, answer=TokenizeResponse, statuses=(404, 413, 429, 503, 504),
    ),
    Operation("POST", "/v1/chat/completions", chat_completions, body=Forwarded, statuses=(404, 413, 502, 503, 504)),
    Operation("POST", "/v1/completions", completions, body=Forwarded, statuses=(404, 413, 502, 503, 504)),
    Operation("POST", "/v1/responses", responses, body=Forwarded, statuses=(404, 413, 502, 503, 504)),
    *(
        Operation(
            "POST", f"/v1/models/{handler.__name__}", handler, "admin",
            body=ModelRequest, answer=ModelAnswer, statuses=(404, 413, 503),
        )
        for handler in (load, unload, reload, status)
    ),
    Operation("GET", "/v1/models", models, answer=ModelList),
    Operation("GET", "/v1/models/{name:path}", model, answer=Model, statuses=(404,)),
    Operation("GET", "/health", health, "open", answer=Health),
    Operation("GET", "/ready", ready, "open", answer=Readiness, statuses=(503,)),
    Operation("GET", "/metrics", metrics, answer="text/plain", statuses=(501,)),
    Operation("GET", "/openapi.json", document, "open"),
    Operation("GET", "/docs", page, "open", answer="text/html"),
    Operation("GET", "/", root, "open", answer=Root),
)  # fmt: skip
