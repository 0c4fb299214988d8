"""The data of request handlers: the state of the server, and the context of one request."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest

from embergem.config import Key, Settings
from embergem.registry import DEFAULT, Registry
from embergem.server.access_log import AccessRecord
from embergem.server.api_keys import KeyStore
from embergem.server.body import BodyReader
from embergem.server.metrics import Metrics
from embergem.server.rate_limit import RateLimiter
from embergem.server.text_queue import TextQueue
from embergem.server.tls import Certificate
from embergem.server.upstream import Upstream
from embergem.server.wait import Pacer
from embergem.types import Lane

if TYPE_CHECKING:
    from embergem.server.batches.batch_service import BatchService
    from embergem.server.tracing import RequestTrace, Tracing

TRACE = "embergem.trace"
"""Key of the ASGI scope under which the `RequestTrace` of the request is; it is missing while tracing is off."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """The models, settings, keys and counters of one server.

    Attributes:
        registry: The models that this server computes.
        settings: The settings of the server.
        keys: The API keys.
        default_tasks: The task of texts that come without one, by the main name of the model.
        upstreams: The models of other servers, by each of their names.
        limiter: The rate limits of the API keys.
        metrics: The server's own counters.
        bodies: Reads request bodies within a memory limit.
        texts: Tokenizes long texts on its worker threads.
        pacer: Spreads the work on the lines of batches over the cycles of the event loop.
        tracing: Starts the spans of requests; None while tracing is off.
        certificate: The TLS certificate; None without TLS.
        batches: Files and batches; None without a directory for them.
        started: Start time, in seconds since 1970.
        started_at: Start time of `time.monotonic()`.
        stopping: Set when the server stops. A request that is cancelled from then on has exceeded `drain_timeout`.
    """

    registry: Registry
    settings: Settings
    keys: KeyStore = field(default_factory=KeyStore)
    default_tasks: Mapping[str, str] = field(default_factory=dict)
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    limiter: RateLimiter = field(default_factory=RateLimiter)
    metrics: Metrics = field(default_factory=Metrics)
    bodies: BodyReader = field(default_factory=BodyReader)
    texts: TextQueue = field(init=False)
    pacer: Pacer = field(init=False)
    tracing: "Tracing | None" = None
    certificate: Certificate | None = None
    batches: "BatchService | None" = None
    started: int = field(default_factory=lambda: int(time.time()))
    started_at: float = field(default_factory=time.monotonic)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", TextQueue(self.settings.max_body))
        object.__setattr__(self, "pacer", Pacer(lambda: self.metrics.in_flight))

    def main_names(self) -> list[str]:
        """Return one name of every model."""
        return [*self.registry.names(), *dict.fromkeys(upstream.name for upstream in self.upstreams.values())]

    def model_names(self) -> list[str]:
        """Return every listed name and alias of every model, without tasks."""
        default = [DEFAULT] if self.registry.default is not None else []
        return [*default, *self.registry.names(), *self.registry.aliases(), *self.upstreams]

    def known_names(self) -> list[str]:
        """Return the names that `model` may have, without tasks: `model_names` and those that are not listed."""
        return [*self.model_names(), *self.registry.unlisted()]


@dataclass(slots=True)
class RequestContext:
    """One request on its way through the server.

    Attributes:
        http: The HTTP request.
        state: The state of the server.
        record: What the access log and the metrics will say about the request.
        key: The API key of the client; None on a server without keys and for operations that are open to all.
        body_bytes: Bytes of the body that count towards the memory limit of all bodies; see `BodyReader`.
        trace: The spans of the request; None while tracing is off.
        lane: The lane in which the request is computed.
        tenant: Name under which the request shares the lane with others.
        of_batch: Whether the request is a line of a batch, which nobody waits for.
    """

    http: HttpRequest
    state: ServerState
    record: AccessRecord
    key: Key | None = None
    body_bytes: int = 0
    trace: "RequestTrace | None" = None
    lane: Lane = "interactive"
    tenant: str = ""
    of_batch: bool = False

    @property
    def sees_files(self) -> bool:
        """Whether answers to the client may name files of the server: it has an admin key, or the server has no keys.

        Why a model could not be loaded usually contains the path of a file.
        """
        return self.state.keys.open or (self.key is not None and self.key.admin)

    def charge(self, tokens: int) -> None:
        """Charge tokens to the client's key. Batches leave half of a minute's tokens to the key's other requests.

        Raises:
            RateLimited: The key has used up its tokens of this minute.
        """
        if self.key is not None:
            self.state.limiter.charge(self.key, tokens, spare=0.5 if self.of_batch else 0.0)
