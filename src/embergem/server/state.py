"""What every route needs to know."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from embergem.config import Settings
from embergem.registry import DEFAULT, Registry
from embergem.server.api_keys import KeyRing
from embergem.server.body import Bodies
from embergem.server.metrics import Metrics
from embergem.server.rate_limit import Limiter
from embergem.server.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Service:
    """The models, settings and keys of one server.

    Attributes:
        registry: Models that are computed here.
        settings: How it behaves.
        keys, limiter: Who may ask, and how much.
        tasks: Tasks of texts that come without one, by model.
        upstreams: Models that other servers have, by each of their names.
        metrics: What was counted.
        bodies: What of requests is in memory.
        started: When it was started, in seconds since 1970.
    """

    registry: Registry
    settings: Settings
    keys: KeyRing = field(default_factory=KeyRing)
    tasks: Mapping[str, str] = field(default_factory=dict)
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    limiter: Limiter = field(default_factory=Limiter)
    metrics: Metrics = field(default_factory=Metrics)
    bodies: Bodies = field(default_factory=Bodies)
    started: int = field(default_factory=lambda: int(time.time()))

    def known(self) -> list[str]:
        """Every name that a model answers to, without tasks."""
        default = [DEFAULT] if self.registry.default is not None else []
        return [*default, *self.registry.names(), *self.registry.aliases(), *self.upstreams]

    def canonical(self, name: str) -> str:
        """The first name of the model that `name` stands for."""
        if name in self.upstreams:
            return self.upstreams[name].name
        if name == DEFAULT:
            return self.registry.default or DEFAULT
        return self.registry.aliases().get(name, name)

    def upstream(self, name: str) -> Upstream | None:
        """Who has the model called `name`, if it is another server."""
        return self.upstreams.get(name)
