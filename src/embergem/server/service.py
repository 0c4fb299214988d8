"""What every route needs to know."""

import time
from dataclasses import dataclass, field

from embergem.config import Settings
from embergem.registry import DEFAULT, Registry


@dataclass(frozen=True, slots=True)
class Service:
    """The models and the settings of one server; `started` is when, in seconds since 1970."""

    registry: Registry
    settings: Settings
    started: int = field(default_factory=lambda: int(time.time()))

    def known(self) -> list[str]:
        """Every name that a model answers to, without tasks."""
        return [DEFAULT, *self.registry.names()]
