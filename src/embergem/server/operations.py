"""Everything that can be asked, in one table: routes, access rights and the OpenAPI document come from it."""

from embergem.server.call import Operation
from embergem.server.embeddings import embeddings
from embergem.server.health import health, metrics, ready, root
from embergem.server.models import model, models
from embergem.server.pages import document, page
from embergem.server.schema import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    Health,
    Model,
    ModelList,
    Readiness,
    Root,
    TokenizeRequest,
    TokenizeResponse,
)
from embergem.server.tokenize import tokenize

OPERATIONS = (
    Operation(
        "POST", "/v1/embeddings", embeddings,
        body=EmbeddingsRequest, answer=EmbeddingsResponse, statuses=(404, 413, 429, 503, 504),
    ),
    Operation(
        "POST", "/v1/tokenize", tokenize,
        body=TokenizeRequest, answer=TokenizeResponse, statuses=(404, 413, 429, 503),
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
