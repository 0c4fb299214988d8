"""What every route needs to know."""

import time
from dataclasses import dataclass, field

from embergem.config import Settings
from embergem.registry import DEFAULT, Registry
from embergem.server.keys import KeyRing
from embergem.server.limits import Limiter
from embergem.server.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Service:
    """The models, settings and keys of one server; `started` is when, in seconds since 1970."""

    registry: Registry
    settings: Settings
    keys: KeyRing = field(default_factory=KeyRing)
    limiter: Limiter = field(default_factory=Limiter)
    metrics: Metrics = field(default_factory=Metrics)
    started: int = field(default_factory=lambda: int(time.time()))

    def known(self) -> list[str]:
        """Every name that a model answers to, without tasks."""
        return [DEFAULT, *self.registry.names()]
