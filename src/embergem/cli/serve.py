"""`embergem serve`: load the models, then hand them to the server."""

from collections.abc import Sequence

from embergem.checkpoint.resolve import resolve
from embergem.config import Settings
from embergem.engine import Engine
from embergem.errors import UnsupportedOption
from embergem.registry import Registry


def run(
    *,
    models: Sequence[str | None],
    host: str,
    port: int,
    dtype: str,
    threads: int | None,
    task: str | None,
    strict: bool,
    log_level: str,
) -> None:
    """Load every model, the first as the default, and serve until stopped."""
    from embergem.server.app import serve

    engines: dict[str, Engine] = {}
    try:
        for model in models:
            location = resolve(model)
            if location.id in engines:
                raise UnsupportedOption(f"two models are called {location.id!r}; rename one of the directories")
            engines[location.id] = Engine.load(location, dtype=dtype, threads=threads)
        registry = Registry(engines, default=next(iter(engines)))
        serve(registry, Settings(task=task, strict=strict), host=host, port=port, log_level=log_level)
    finally:
        for engine in engines.values():
            engine.close()
