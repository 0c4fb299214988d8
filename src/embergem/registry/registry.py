"""Load, reload and unload several models by name without failing requests.

A model is "unloaded", "loading", "loaded" or "failed". A caller uses the engine of a model inside `Registry.use`. An
engine that is unloaded or replaced meanwhile is closed after its last user left and its requests are finished.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from time import monotonic
from types import TracebackType

from embergem.engine import Engine
from embergem.errors import EngineClosed, ModelLoading
from embergem.registry.entries import Entry, EntryTable, LoadedModel, Spec, Status

log = logging.getLogger(__name__)


class Registry:
    """Models by name and alias; "default" names one of them. Thread-safe. Closing the registry closes all engines.

    Args:
        max_bytes: Most bytes that the weights of loaded models take together. To stay below it, the registry unloads
            the least recently used models that no caller uses. None sets no bound.

    Example:
        >>> from embergem.registry import Registry, Spec
        >>> with Registry() as registry:
        ...     registry.add("gemma", Spec.of("tests/data/goldens/gemma3_text", aliases=["g"], lazy=True))
        ...     before = registry.status("gemma")
        ...     with registry.use("g") as engine:
        ...         before, registry.status("gemma"), engine.dimensions
        ('unloaded', 'loaded', 96)
    """

    def __init__(self, *, max_bytes: int | None = None) -> None:
        self._changed = threading.Condition()  # its lock protects all that follows
        self._table = EntryTable()
        self._max_bytes = max_bytes
        self._closed = False

    @property
    def default(self) -> str | None:
        """Name of the default model; None if there is no model. Assigning a name or an alias changes it."""
        return self._table.default

    @default.setter
    def default(self, name: str) -> None:
        with self._changed:
            self._table.default = self._table.find(name).name

    def add(self, name: str, spec: Spec) -> None:
        """Add a model without loading it; the first one becomes the default.

        Raises:
            UnsupportedOption: Another model has the name or one of the aliases.
        """
        with self._changed:
            self._table.add(name, spec)

    def start(self) -> None:
        """Begin to load all models that are not lazy, in parallel, and return at once."""
        with self._changed:
            for entry in self._table.entries.values():
                if not entry.spec.lazy and entry.status == "unloaded":
                    self._begin_load(entry)

    def wait(self) -> bool:
        """Wait until no model is loading; return False if the registry was closed instead."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._any_loading())
            return not self._closed

    def ready(self) -> bool:
        """Whether there is a model, and no model that is not lazy is loading or failed."""
        with self._changed:
            return bool(self._table.entries) and not any(
                self._find(entry.name).status in ("loading", "failed")
                for entry in self._table.entries.values()
                if not entry.spec.lazy
            )

    @contextmanager
    def use(self, name: str, *, wait: bool = True) -> Iterator[Engine]:
        """Keep the engine of a model open for a block; see `acquire` for arguments and errors."""
        model = self.acquire(name, wait=wait)
        try:
            yield model.engine
        finally:
            self.release(model)

    def acquire(self, name: str, *, wait: bool = True) -> LoadedModel:
        """Return a model, loaded if it was not. Its engine stays open until the caller passes the model to `release`.

        Args:
            name: Name, alias or "default".
            wait: Wait for a load; otherwise begin the load and raise `ModelLoading`.

        Raises:
            UnknownModel: No model has this name; the message lists the names.
            ModelLoading: The model is loading, and `wait` is False.
            ModelFailed: The model could not be loaded, or one of its files changed since; `load` tries again.
            EngineClosed: The registry is closed.
        """
        with self._changed:
            while True:
                entry = self._find(name)
                if self._closed:
                    raise _closed()
                if entry.loaded is not None:
                    entry.loaded.users += 1
                    entry.last_used = monotonic()
                    return entry.loaded
                if entry.error is not None:
                    raise entry.failure(entry.error)
                if entry.loading is None:
                    self._begin_load(entry)
                if not wait:
                    seconds = max(1.0, entry.load_started + entry.load_seconds - monotonic())
                    raise ModelLoading(
                        f"The model {entry.name!r} is loading. Try again in {seconds:.0f} s.", retry_after=seconds
                    )
                self._changed.wait()

    def release(self, model: LoadedModel) -> None:
        """Allow the engine of a model that was acquired to be closed."""
        with self._changed:
            model.users -= 1
            self._changed.notify_all()

    def get(self, name: str, *, wait: bool = True) -> Engine:
        """Return the engine of a model as `use` does. An unload or a reload may close it at any time afterwards."""
        with self.use(name, wait=wait) as engine:
            return engine

    def peek(self, name: str) -> Engine | None:
        """Return the engine of a model, or None if the model is not loaded. This is not counted as a use."""
        with self._changed:
            loaded = self._table.find(name).loaded
            return None if loaded is None else loaded.engine

    def names(self) -> list[str]:
        """Names of all models, loaded or not."""
        with self._changed:
            return list(self._table.entries)

    def aliases(self) -> dict[str, str]:
        """Names of models by alias, without those that are not listed."""
        with self._changed:
            return dict(self._table.aliases)

    def unlisted(self) -> list[str]:
        """Further names of models that lists do not show."""
        with self._changed:
            return list(self._table.unlisted)

    def main_name(self, name: str) -> str:
        """Return the model's own name for any of its names.

        Raises:
            UnknownModel: No model has this name.
        """
        with self._changed:
            return self._table.find(name).name

    def status(self, name: str) -> Status:
        """Return the state of a model; a model that is being reloaded is "loaded"."""
        with self._changed:
            return self._find(name).status

    def reason(self, name: str) -> str | None:
        """Return the message of the error with which a model failed; None if it did not fail."""
        with self._changed:
            return self._find(name).reason

    def load(self, name: str) -> None:
        """Load a model that is not loaded or has failed, and wait for the end of the load.

        Raises:
            ModelFailed: The model could not be loaded.
        """
        with self._changed:
            entry = self._find(name)
            if entry.loading is None:
                entry.error = None
        with self.use(name):
            return

    def unload(self, name: str) -> None:
        """Unload a model after its requests are finished, and free its weights. The next use loads it again.

        A model that is not loaded stays as it is. The default model does not change.
        """
        with self._changed:
            entry = self._table.find(name)
            self._wait_for_load(entry)
            loaded, entry.loaded, entry.error = entry.loaded, None, None
        self._close_when_unused(loaded)

    def reload(self, name: str) -> None:
        """Load a model again from its present files and replace its engine; the old one finishes its requests.

        If the load fails, the old engine stays.

        Raises:
            ModelFailed: The model could not be loaded.
        """
        with self._changed:
            entry = self._table.find(name)
            self._wait_for_load(entry)
            if self._closed:
                raise _closed()
            if entry.loaded is None:
                entry.error = None
            loading = self._begin_load(entry)
            self._changed.wait_for(lambda: self._closed or loading.done())
            if self._closed:
                raise _closed()
        if (error := loading.exception()) is not None:
            raise entry.failure(error) from error

    def remove(self, name: str) -> None:
        """Unload a model and remove it with its aliases. If it was the default, the first remaining model is."""
        with self._changed:
            entry = self._table.find(name)
            self._wait_for_load(entry)
            self._table.remove(entry)
            loaded, entry.loaded = entry.loaded, None
        self._close_when_unused(loaded)

    def sweep(self) -> float | None:
        """Unload the models that were idle for their `keep_alive`, and those above `max_bytes`.

        Returns:
            Seconds until the `keep_alive` of another model may end; None if no loaded model has one.
        """
        with self._changed:
            now = monotonic()
            seconds_left = {
                entry.name: entry.last_used + entry.spec.keep_alive - now
                for entry in self._table.entries.values()
                if entry.loaded is not None and entry.spec.keep_alive is not None and not entry.in_use
            }
            idle = [self._table.entries[name] for name, seconds in seconds_left.items() if seconds <= 0]
            unloaded = [entry.loaded for entry in idle]
            for entry in idle:
                entry.loaded = None
        for loaded in unloaded:
            self._close_when_unused(loaded)
        self._make_room()
        return min((seconds for seconds in seconds_left.values() if seconds > 0), default=None)

    def close(self, *, drain: bool = False, wait: bool = True) -> bool:
        """Close every engine. Callers that wait for a load get `EngineClosed`.

        Args:
            drain: Whether to finish the requests of the engines first.
            wait: Whether to wait for loads in progress. Otherwise their threads close the engines when these are
                loaded.

        Returns:
            Whether no load is in progress any more.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(lambda: not self._any_loading())
            engines = [entry.loaded.engine for entry in self._table.entries.values() if entry.loaded is not None]
            loading = self._any_loading()
        for engine in engines:
            engine.close(drain=drain)
        return not loading

    def __enter__(self) -> "Registry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, name: str) -> Entry:
        """Return a model. If its engine has failed, the model becomes a failed one, and the engine is closed."""
        entry = self._table.find(name)
        if (failed := entry.retire()) is not None:
            log.error("%s: %s", entry.name, entry.reason)
            self._changed.notify_all()
            closing = f"embergem close {entry.name}"
            threading.Thread(target=self._close_when_unused, args=(failed,), name=closing, daemon=True).start()
        return entry

    def _any_loading(self) -> bool:
        return any(entry.loading is not None for entry in self._table.entries.values())

    def _wait_for_load(self, entry: Entry) -> None:
        """Wait until no load of the model is in progress, or the registry is closed."""
        self._changed.wait_for(lambda: self._closed or entry.loading is None)

    def _begin_load(self, entry: Entry) -> Future[None]:
        """Begin to load or reload a model on a daemon thread, since a download must not keep the process alive."""
        entry.load_started = monotonic()
        loading: Future[None] = Future()
        name = f"embergem load {entry.name}"
        threading.Thread(target=self._load, args=(entry, loading), name=name, daemon=True).start()
        # Only now, because `start` may fail. The thread needs the lock, which is held here, before it sets the result.
        entry.loading = loading
        return loading

    def _load(self, entry: Entry, loading: Future[None]) -> None:
        error: BaseException | None = None
        try:
            self._make_room(entry, additional=entry.weight_bytes)
            self._replace_engine(entry, entry.spec.load())
            self._make_room(entry)
        except BaseException as failure:  # also a panic of native code, which is not an Exception
            error = failure
        with self._changed:
            entry.loading = None
            if entry.loaded is None:  # after a failed reload the old engine stays, and the model has not failed
                entry.error = error
            if error is None:
                loading.set_result(None)
            else:
                loading.set_exception(error)
            self._changed.notify_all()

    def _replace_engine(self, entry: Entry, engine: Engine) -> None:
        """Give a model its new engine, and close the old one once no caller uses it."""
        with self._changed:
            closed = self._closed
            if not closed:
                old, entry.loaded, entry.weight_bytes = (
                    entry.loaded,
                    LoadedModel(entry.name, engine),
                    engine.weight_bytes,
                )
                entry.last_used = monotonic()
                entry.load_seconds = entry.last_used - entry.load_started
                self._changed.notify_all()
        if closed:
            engine.close()
            raise _closed()
        self._close_when_unused(old)

    def _make_room(self, keep: Entry | None = None, *, additional: int = 0) -> None:
        """Unload the least recently used models until the weights fit into `max_bytes`.

        Models in use stay loaded, so `sweep` tries again.

        Args:
            keep: Model that stays loaded. None keeps the most recently used one.
            additional: Bytes that are needed besides the loaded models.
        """
        if self._max_bytes is None:
            return
        with self._changed:
            by_use = sorted(
                (entry for entry in self._table.entries.values() if entry.loaded is not None),
                key=lambda entry: entry.last_used,
            )
            excess = additional + sum(entry.weight_bytes for entry in by_use) - self._max_bytes
            unloaded = []
            for entry in by_use if keep is not None else by_use[:-1]:
                if excess > 0 and entry is not keep and not entry.in_use:
                    excess -= entry.weight_bytes
                    unloaded.append(entry.loaded)
                    entry.loaded = None
        for loaded in unloaded:
            self._close_when_unused(loaded)

    def _close_when_unused(self, loaded: LoadedModel | None) -> None:
        """Wait until no caller uses an engine that its model no longer has, and close it after its requests."""
        if loaded is not None:
            with self._changed:
                self._changed.wait_for(lambda: loaded.users == 0)
            loaded.engine.close(drain=True)


def _closed() -> EngineClosed:
    return EngineClosed("The registry of the models is closed.")
