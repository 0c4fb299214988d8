"""From entries of a configuration to the models of a service."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from embergem.config import EmbeddingEntry, Entry, Key, Settings, UpstreamEntry
from embergem.engine import Engine
from embergem.engine.vector_cache import VectorCache
from embergem.errors import InvalidTask
from embergem.loader import load
from embergem.registry import Registry, Spec
from embergem.server.api_keys import KeyRing
from embergem.server.state import Service
from embergem.server.upstream import Upstream

log = logging.getLogger(__name__)


def make_service(settings: Settings, entries: Sequence[Entry], keys: Iterable[Key]) -> Service:
    """Name all models; none is loaded yet. The first that is computed here is the default, unless settings say.

    Raises:
        UnknownModel: The default is none of them.
        UnsupportedOption: A name is taken twice, or a setting cannot be used.
    """
    cache = None
    if settings.cache_bytes or settings.cache_path:
        path = None if settings.cache_path is None else Path(settings.cache_path).expanduser()
        cache = VectorCache(settings.cache_bytes, path)
    registry = Registry(max_bytes=settings.memory_budget)
    own = [entry for entry in entries if isinstance(entry, EmbeddingEntry)]
    also = _also(own, {name for entry in entries for name in (entry.name, *entry.aliases)})
    for entry in own:
        registry.add(entry.name, spec(entry, settings, cache, also=also[entry.name]))
    if settings.default_model is not None:
        registry.default = settings.default_model
    upstreams = [
        (entry, Upstream(entry, settings.request_timeout)) for entry in entries if isinstance(entry, UpstreamEntry)
    ]
    return Service(
        registry,
        settings,
        KeyRing(keys),
        tasks={entry.name: entry.task for entry in own if entry.task},
        upstreams={name: upstream for entry, upstream in upstreams for name in (entry.name, *entry.aliases)},
    )


def spec(entry: EmbeddingEntry, settings: Settings, cache: VectorCache | None, also: Sequence[str] = ()) -> Spec:
    """How the model of an entry is loaded; `also` are names for it beside its own."""
    options = settings.complete(entry.options)

    def load_entry() -> Engine:
        engine = load(options, cache=cache)
        try:
            if entry.task is not None:
                engine.prompt(entry.task)  # without the task its texts would be embedded raw, and nobody would notice
        except InvalidTask as error:
            engine.close()
            raise InvalidTask(f"its configuration says task = {entry.task!r}, but {error.message}") from None
        log.info("%s is loaded", entry.name)
        return engine

    return Spec(load=load_entry, aliases=(*entry.aliases, *also), lazy=entry.lazy, keep_alive=entry.keep_alive)


def _also(entries: Sequence[EmbeddingEntry], taken: set[str]) -> dict[str, list[str]]:
    """Ids that reach each model beside its names; what two have in common is the first's, of its default revision."""
    found: dict[str, list[str]] = {entry.name: [] for entry in entries}
    for entry in sorted(entries, key=lambda entry: entry.options.revision is not None):
        free = [name for name in entry.ids if name not in taken]
        found[entry.name] += free
        taken.update(free)
    return found


def warn_of_tasks(service: Service) -> None:
    """Log each default task, of the server or of a key, that no loaded model has: texts are embedded without it.

    That is no error, since a default is meant for whatever model comes and leaves alone what it cannot be applied to.
    """
    loaded = [engine for name in service.registry.names() if (engine := service.registry.peek(name)) is not None]
    known = {task for engine in loaded for task in engine.tasks}
    wanted = {service.settings.task, *service.keys.tasks()} - {None, *known}
    for task in sorted(filter(None, wanted)) if loaded else ():
        log.warning(
            "no loaded model has the default task %r, so texts are embedded without it; there is: %s",
            task,
            ", ".join(sorted(known)) or "none",
        )
