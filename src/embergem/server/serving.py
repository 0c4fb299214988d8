"""From entries of a configuration to the models of a service."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from embergem.checkpoint.location import Location
from embergem.checkpoint.resolve import identify, resolve
from embergem.config import EmbeddingEntry, Entry, Key, Settings, UpstreamEntry
from embergem.engine import Engine
from embergem.engine.cache import Cache
from embergem.errors import InvalidTask
from embergem.registry import Registry, Spec
from embergem.server.keys import KeyRing
from embergem.server.proxy import Upstream
from embergem.server.service import Service

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
        cache = Cache(settings.cache_bytes, path)
    registry = Registry(max_bytes=settings.memory_budget)
    taken = {name for entry in entries for name in (entry.name, *entry.aliases)}
    for entry in entries:
        if isinstance(entry, EmbeddingEntry):
            registry.add(
                entry.name, spec(entry, settings, cache, also=[] if entry.model_id in taken else [entry.model_id])
            )
            taken.add(entry.model_id)
    if settings.default_model is not None:
        registry.default = settings.default_model
    upstreams = [
        (entry, Upstream(entry, settings.request_timeout)) for entry in entries if isinstance(entry, UpstreamEntry)
    ]
    return Service(
        registry,
        settings,
        KeyRing(keys),
        tasks={entry.name: entry.task for entry in entries if isinstance(entry, EmbeddingEntry) and entry.task},
        upstreams={name: upstream for entry, upstream in upstreams for name in (entry.name, *entry.aliases)},
    )


def spec(entry: EmbeddingEntry, settings: Settings, cache: Cache | None, also: Sequence[str] = ()) -> Spec:
    """How the model of an entry is loaded; `also` are names for it beside its own."""

    def load() -> Engine:
        engine = Engine.load(
            locate(entry),
            arch=entry.arch or "auto",
            window=entry.window,
            dtype=entry.dtype or settings.dtype,
            threads=entry.threads or settings.threads,
            max_batch_tokens=settings.max_batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            cache=cache,
            tokenizer=None if entry.tokenizer_json is None else Path(entry.tokenizer_json).expanduser(),
        )
        try:
            if entry.task is not None:
                engine.prompt(entry.task)  # without the task its texts would be embedded raw, and nobody would notice
        except InvalidTask as error:
            engine.close()
            raise InvalidTask(f"its configuration says task = {entry.task!r}, but {error.message}") from None
        log.info("%s is loaded", entry.name)
        return engine

    return Spec(load=load, aliases=(*entry.aliases, *also), lazy=entry.lazy, keep_alive=entry.keep_alive)


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


def locate(entry: EmbeddingEntry) -> Location:
    """Find a model's files: in the hub library's cache if one is named and has it, else as everywhere."""
    found = partial(resolve, dense_from=entry.dense_from, allow_missing_dense=entry.allow_missing_dense)
    if entry.hf_cache_path is not None and not isinstance(identify(entry.model_id), Location):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        cache = Path(entry.hf_cache_path).expanduser()
        try:
            path = Path(snapshot_download(entry.model_id, cache_dir=cache, local_files_only=True))
            return replace(found(path), id=entry.model_id)
        except LocalEntryNotFoundError:
            log.info("%s is not in %s; looking elsewhere", entry.model_id, cache)
    return found(entry.model_id)
