"""Building the state of a server from its settings and the entries of its models."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embergem.checkpoint.checkpoint import Location
from embergem.config import EmbeddingEntry, Entry, Key, Settings, UpstreamEntry
from embergem.engine import Engine
from embergem.engine.vector_cache import VectorCache
from embergem.errors import InvalidTask, UnknownModel
from embergem.hub.resolve import identify
from embergem.loader import load
from embergem.registry import Registry, Spec
from embergem.server.api_keys import KeyStore
from embergem.server.batches.batch_service import BatchService
from embergem.server.state import ServerState
from embergem.server.tls import Certificate
from embergem.server.upstream import Upstream

if TYPE_CHECKING:
    from embergem.server.tracing import Tracing

log = logging.getLogger("embergem.server")


def build_state(
    settings: Settings, entries: Sequence[Entry], keys: Iterable[Key], tracing: "Tracing | None" = None
) -> ServerState:
    """Register all models without loading them. The first embedding model is the default unless the settings name one.

    Raises:
        UnknownModel: The default model of the settings is none of the entries.
        InvalidConfig: The TLS certificate or its key cannot be used.
        UnsupportedOption: Two entries have the same name, a setting cannot be used, or another server uses the
            directory of the batches.
    """
    cache = None
    if settings.cache_bytes or settings.cache_path:
        path = None if settings.cache_path is None else Path(settings.cache_path).expanduser()
        cache = VectorCache(settings.cache_bytes, path)
    registry = Registry(max_bytes=settings.memory_budget)
    own = [entry for entry in entries if isinstance(entry, EmbeddingEntry)]
    ids = _more_names(own, {name for entry in entries for name in (entry.name, *entry.aliases)})
    for entry in own:
        registry.add(entry.name, model_spec(entry, settings, cache, more_names=ids[entry.name]))
    if settings.default_model is not None:
        registry.default = settings.default_model
    upstreams = [
        (entry, Upstream(entry, settings.request_timeout)) for entry in entries if isinstance(entry, UpstreamEntry)
    ]
    certificate = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        certificate = Certificate(Path(settings.tls_cert).expanduser(), Path(settings.tls_key).expanduser())
    return ServerState(
        registry,
        settings,
        KeyStore(keys),
        default_tasks={entry.name: entry.task for entry in own if entry.task},
        certificate=certificate,
        batches=BatchService.open(settings),
        upstreams={name: upstream for entry, upstream in upstreams for name in (entry.name, *entry.aliases)},
        tracing=tracing,
    )


def model_spec(
    entry: EmbeddingEntry, settings: Settings, cache: VectorCache | None, more_names: Sequence[str] = ()
) -> Spec:
    """Return how the model of an entry is loaded; `more_names` are further aliases."""
    options = settings.complete(entry.options)
    announced = not entry.lazy  # the start prints the properties of each model that it loads

    def load_entry() -> Engine:
        nonlocal announced
        logged, announced = not announced, False
        try:
            engine = load(options, cache=cache)
        except Exception as error:
            log.error("The model %s could not be loaded: %s", entry.name, error)
            raise
        try:
            if entry.task is not None:
                engine.prompt(entry.task)  # fail now: a model without the task would embed texts without a prompt
        except InvalidTask as error:
            engine.close()
            raise InvalidTask(
                f"The configuration of {entry.name!r} says task = {entry.task!r}. {error.message}"
            ) from None
        if logged:
            log.info("The model %s is loaded.", entry.name)
        return engine

    local = is_local(options.model)
    return Spec(
        load=load_entry,
        aliases=entry.aliases if local else (*entry.aliases, *more_names),
        lazy=entry.lazy,
        keep_alive=entry.keep_alive,
        unlisted=tuple(more_names) if local else (),  # paths are of no use to clients, and the server's own business
    )


def is_local(model: str | Path | None) -> bool:
    """Return whether a model is named by a path, existing or not, and not by a hub id or a name of the catalog."""
    try:
        return isinstance(identify(model), Location)
    except UnknownModel:
        return True


def _more_names(entries: Sequence[EmbeddingEntry], taken: set[str]) -> dict[str, list[str]]:
    """Return the ids that each model answers to besides its names, except those in `taken`.

    If two entries have the same id, the first one without a revision gets it, else the first one.
    """
    found: dict[str, list[str]] = {entry.name: [] for entry in entries}
    for entry in sorted(entries, key=lambda entry: entry.options.revision is not None):
        free = [name for name in entry.ids if name not in taken]
        found[entry.name] += free
        taken.update(free)
    return found


def warn_unknown_tasks(state: ServerState) -> None:
    """Log a warning for each default task, of the server or of a key, that no loaded model has.

    This is not an error: a default task applies to whatever model a request names, so models without the task embed
    texts without a prompt.
    """
    loaded = [engine for name in state.registry.names() if (engine := state.registry.peek(name)) is not None]
    if not loaded:
        return
    known = {task for engine in loaded for task in engine.tasks}
    for task in sorted(filter(None, {state.settings.task, *state.keys.default_tasks()} - known)):
        log.warning(
            "No loaded model has the default task %r, so texts are embedded without it. The known tasks are: %s.",
            task,
            ", ".join(sorted(known)) or "none",
        )
