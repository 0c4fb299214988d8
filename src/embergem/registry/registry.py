"""Several models under their names, each loaded when it is wanted and exchanged without dropping a request.

A model is "unloaded", "loading", "loaded" or "failed". Whoever needs its engine holds it with `use`; an engine that was
unloaded or exchanged meanwhile is closed when the last holder has let go and its requests are done.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType

from embergem.engine import Engine
from embergem.errors import EngineClosed, ModelLoading
from embergem.registry.names import Names
from embergem.registry.spec import Entry, LoadedModel, Spec, Status, cannot_load


class Registry:
    """Models by name and alias; "default" is one of them. Thread-safe; closing it closes all engines.

    Args:
        engines: Models that are loaded already; they cannot be loaded again once they were unloaded.
        default: The name that "default" stands for; None is the first model.
        max_bytes: Most bytes that the weights of loaded models may take together; the least recently used that nobody
            holds are unloaded to make room. None is no bound.

    Example:
        >>> from embergem.registry import Registry, Spec
        >>> with Registry() as registry:
        ...     registry.add("gemma", Spec.of("tests/data/goldens/gemma3_text", aliases=["g"], lazy=True))
        ...     before = registry.status("gemma")
        ...     with registry.use("g") as engine:
        ...         before, registry.status("gemma"), engine.dimensions
        ('unloaded', 'loaded', 96)
    """

    def __init__(
        self,
        engines: Mapping[str, Engine] | None = None,
        default: str | None = None,
        *,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed = threading.Condition()
        self._names = Names()
        self._max_bytes = max_bytes
        self._clock = clock
        self._closed = False
        for name, engine in (engines or {}).items():
            entry = self._names.add(name, Spec(load=cannot_load(name), lazy=True))
            entry.held, entry.weight_bytes, entry.used = LoadedModel(name, engine), engine.weight_bytes, clock()
        if default is not None:
            self.default = default

    @property
    def default(self) -> str | None:
        """The name that "default" stands for; None when there is no model."""
        return self._names.default

    @default.setter
    def default(self, name: str) -> None:
        with self._changed:
            self._names.default = self._names.find(name).name

    def add(self, name: str, spec: Spec) -> None:
        """Serve another model; the first becomes the default.

        Raises:
            UnsupportedOption: A name or alias is taken.
        """
        with self._changed:
            self._names.add(name, spec)

    def start(self) -> None:
        """Begin to load, beside each other, all models that are not lazy; returns at once."""
        with self._changed:
            for entry in self._names.entries.values():
                if not entry.spec.lazy and entry.status == "unloaded":
                    self._begin(entry)

    def wait(self) -> bool:
        """Wait until nothing is being loaded; False when the registry was closed instead."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._loading())
            return not self._closed

    def ready(self) -> bool:
        """Whether every model that is not lazy can be asked."""
        with self._changed:
            return bool(self._names.entries) and not any(
                entry.status in ("loading", "failed") for entry in self._names.entries.values() if not entry.spec.lazy
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
            ModelFailed: The model could not be loaded; `load` tries again.
        """
        with self._changed:
            while True:
                entry = self._names.find(name)
                if self._closed:
                    raise _closed()
                if entry.held is not None:
                    entry.held.users += 1
                    entry.used = self._clock()
                    return entry.held
                if entry.error is not None:
                    raise entry.failure(entry.error)
                if entry.loader is None:
                    self._begin(entry)
                if not wait:
                    left = max(1.0, entry.began + entry.seconds - self._clock())
                    raise ModelLoading(
                        f"The model {entry.name!r} is loading. Try again in {left:.0f} s.", retry_after=left
                    )
                self._changed.wait()

    def release(self, model: LoadedModel) -> None:
        """Allow the engine of a model that was acquired to be closed."""
        with self._changed:
            model.users -= 1
            self._changed.notify_all()

    def get(self, name: str, *, wait: bool = True) -> Engine:
        """Return the engine called `name`, as `use` does, without holding it: it may be closed by an unload."""
        with self.use(name, wait=wait) as engine:
            return engine

    def peek(self, name: str) -> Engine | None:
        """Return the engine if it is loaded, without loading it and without counting as a use."""
        with self._changed:
            held = self._names.find(name).held
            return None if held is None else held.engine

    def names(self) -> list[str]:
        """Names of all models, loaded or not."""
        with self._changed:
            return list(self._names.entries)

    def aliases(self) -> dict[str, str]:
        """Names that other names stand for."""
        with self._changed:
            return dict(self._names.aliases)

    def main_name(self, name: str) -> str:
        """Return the model's own name for any of its names.

        Raises:
            UnknownModel: No model has this name.
        """
        with self._changed:
            return self._names.find(name).name

    def status(self, name: str) -> Status:
        """Say how it is with a model."""
        with self._changed:
            return self._names.find(name).status

    def reason(self, name: str) -> str | None:
        """Say why a model could not be loaded; None if it has not failed."""
        with self._changed:
            return self._names.find(name).reason

    def load(self, name: str) -> None:
        """Load a model that is not loaded, also one that has failed, and wait for it.

        Raises:
            ModelFailed: It could not be loaded.
        """
        with self._changed:
            entry = self._names.find(name)
            if entry.loader is None:
                entry.error = None
        with self.use(name):
            return

    def unload(self, name: str) -> None:
        """Unload a model and free its weights; its requests are finished first. The next use loads it again.

        Nothing happens if it is unloaded already. The default stays what it is.
        """
        with self._changed:
            entry = self._names.find(name)
            self._await_loader(entry)
            held, entry.held, entry.error = entry.held, None, None
        self._retire(held)

    def reload(self, name: str) -> None:
        """Load a model anew, as its files are now, and exchange it; requests in work finish on the old engine.

        If the load fails, the old engine stays.

        Raises:
            ModelFailed: It could not be loaded.
        """
        with self._changed:
            entry = self._names.find(name)
            self._await_loader(entry)
            if self._closed:
                raise _closed()
            if entry.held is None:
                entry.error = None
            loader = self._begin(entry)
            self._changed.wait_for(lambda: self._closed or loader.done())
            if self._closed:
                raise _closed()
        if (error := loader.exception()) is not None:
            raise entry.failure(error) from error

    def remove(self, name: str) -> None:
        """Unload a model and forget it and its aliases. If it was the default, the first of the others is."""
        with self._changed:
            entry = self._names.find(name)
            self._await_loader(entry)
            self._names.remove(entry)
            held, entry.held = entry.held, None
        self._retire(held)

    def sweep(self) -> float | None:
        """Unload what has been idle for its `keep_alive` or has no room; return the seconds until more may be due."""
        with self._changed:
            now = self._clock()
            due = {
                entry.name: entry.used + entry.spec.keep_alive - now
                for entry in self._names.entries.values()
                if entry.held is not None and entry.spec.keep_alive is not None and not entry.busy
            }
            idle = [self._names.entries[name] for name, left in due.items() if left <= 0]
            gone = [entry.held for entry in idle]
            for entry in idle:
                entry.held = None
        for held in gone:
            self._retire(held)
        self._make_room()
        return min((left for left in due.values() if left > 0), default=None)

    def close(self, *, drain: bool = False, wait: bool = True) -> bool:
        """Close every engine; with `drain` their requests are finished first.

        With `wait` what is being loaded is waited for; otherwise it is left to its thread, which gives it up when it
        has it. Who waits for a load gets `EngineClosed`. Returns whether nothing is being loaded any more.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(lambda: not self._loading())
            held = [entry.held for entry in self._names.entries.values() if entry.held is not None]
            loading = self._loading()
        for one in held:
            one.engine.close(drain=drain)
        return not loading

    def __enter__(self) -> "Registry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _loading(self) -> bool:
        return any(entry.loader is not None for entry in self._names.entries.values())

    def _await_loader(self, entry: Entry) -> None:
        """Wait until a model is not being loaded, or the registry is closed."""
        self._changed.wait_for(lambda: self._closed or entry.loader is None)

    def _begin(self, entry: Entry) -> Future[None]:
        """Load a model, or load it anew, on a thread that does not keep the process alive: it may be a download."""
        entry.began = self._clock()
        loader: Future[None] = Future()
        name = f"embergem load {entry.name}"
        threading.Thread(target=self._load, args=(entry, loader), name=name, daemon=True).start()
        entry.loader = loader  # if there is a thread; it waits for the lock before it says that it is done
        return loader

    def _load(self, entry: Entry, loader: Future[None]) -> None:
        error: BaseException | None = None
        try:
            self._make_room(entry, coming=entry.weight_bytes)
            self._put(entry, entry.spec.load())
            self._make_room(entry)
        except BaseException as failed:  # a panic of native code is no Exception, and nobody else would tell of it
            error = failed
        with self._changed:
            entry.loader = None
            if entry.held is None:  # else the engine before stays
                entry.error = error
            if error is None:
                loader.set_result(None)
            else:
                loader.set_exception(error)
            self._changed.notify_all()

    def _put(self, entry: Entry, engine: Engine) -> None:
        """Give a model its new engine; what it had is closed when nobody has it any more."""
        with self._changed:
            closed = self._closed
            if not closed:
                old, entry.held, entry.weight_bytes = entry.held, LoadedModel(entry.name, engine), engine.weight_bytes
                entry.used = self._clock()
                entry.seconds = entry.used - entry.began
                self._changed.notify_all()
        if closed:
            engine.close()
            raise _closed()
        self._retire(old)

    def _make_room(self, keep: Entry | None = None, *, coming: int = 0) -> None:
        """Unload the least recently used until all fit, and so many bytes more, as far as sizes are known.

        What is in use stays, so this is tried again by `sweep`. Neither `keep` nor else what was used last goes.
        """
        if self._max_bytes is None:
            return
        with self._changed:
            loaded = sorted(
                (one for one in self._names.entries.values() if one.held is not None), key=lambda one: one.used
            )
            needed = coming + sum(one.weight_bytes for one in loaded) - self._max_bytes
            gone = []
            for other in loaded if keep is not None else loaded[:-1]:
                if needed > 0 and other is not keep and not other.busy:
                    needed -= other.weight_bytes
                    gone.append(other.held)
                    other.held = None
        for held in gone:
            self._retire(held)

    def _retire(self, held: LoadedModel | None) -> None:
        """Close an engine that nobody can get any more, once those who hold it have let go."""
        if held is not None:
            with self._changed:
                self._changed.wait_for(lambda: held.users == 0)
            held.engine.close(drain=True)


def _closed() -> EngineClosed:
    return EngineClosed("the models were closed")
