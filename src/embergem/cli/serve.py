"""`embergem serve`: put the settings together, load the models, then hand them to the server."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from embergem.checkpoint.resolve import resolve
from embergem.config import Config, Key, read
from embergem.engine import Engine
from embergem.errors import UnsupportedOption
from embergem.registry import Registry


def run(*, models: Sequence[str], config: Path | None, **flags: Any) -> None:
    """Load every model, the first as the default, and serve until stopped."""
    from embergem.server.run import serve

    def again() -> Config:
        return read(config, os.environ, flags)

    def keys() -> Iterable[Key]:
        return again().keys

    settings = again().settings
    engines: dict[str, Engine] = {}
    try:
        for model in (*models,) or (None,):
            location = resolve(model)
            if location.id in engines:
                raise UnsupportedOption(f"two models are called {location.id!r}; rename one of the directories")
            engines[location.id] = Engine.load(location, dtype=settings.dtype, threads=settings.threads)
        registry = Registry(engines, default=next(iter(engines)))
        serve(registry, settings, keys=keys)
    finally:
        for engine in engines.values():
            engine.close()
