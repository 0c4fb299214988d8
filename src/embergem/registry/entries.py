"""The models of a registry: how each is loaded (`Spec`), its present state (`Entry`), and the table of their names."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Unpack

from embergem.engine import Engine
from embergem.errors import EmbergemError, ModelFailed, UnknownModel, UnsupportedOption
from embergem.loader import load
from embergem.options import LoadKeywords, LoadOptions
from embergem.suggestions import did_you_mean

Status = Literal["unloaded", "loading", "loaded", "failed"]

DEFAULT = "default"
"""Name that selects the default model."""

FIRST_LOAD_SECONDS = 10.0
"""Estimate of the duration of a load that was not measured yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How a model is loaded and kept.

    Attributes:
        load: Makes the engine of the model. It is called at each load.
        aliases: Other names of the model.
        lazy: Load the model at its first use instead of at the start.
        keep_alive: Unload the model after this many seconds without use. None keeps it loaded.
        unlisted: Further names of the model that no list and no error shows, such as its path.
    """

    load: Callable[[], Engine]
    aliases: tuple[str, ...] = ()
    lazy: bool = False
    keep_alive: float | None = None
    unlisted: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: str | Path | None = None,
        *,
        aliases: Iterable[str] = (),
        lazy: bool = False,
        keep_alive: float | None = None,
        **options: Unpack[LoadKeywords],
    ) -> "Spec":
        """Describe a model by its hub id, alias or path; `options` are those of `Embedder`."""
        return cls(
            load=partial(load, LoadOptions(model=model, **options)),
            aliases=tuple(aliases),
            lazy=lazy,
            keep_alive=keep_alive,
        )


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A loaded model: its main name, its engine, and the number of users that keep the engine open."""

    name: str
    engine: Engine
    users: int = 0


@dataclass(slots=True, eq=False)
class Entry:
    """A model in a registry and its state. The registry's lock protects it.

    Attributes:
        name: Name of the model.
        spec: How the model is loaded and kept.
        loaded: The present engine; None if the model is not loaded.
        loading: Future of a load or reload in progress; None if there is none.
        error: Why the last load failed, or why the engine failed after the load; None if nothing failed.
        last_used: Time of the last use.
        load_started: Time at which the last load began.
        load_seconds: Duration of the last successful load, or an estimate.
        weight_bytes: Memory of the weights when the model was last loaded; 0 before the first load.
    """

    name: str
    spec: Spec
    loaded: LoadedModel | None = None
    loading: Future[None] | None = None
    error: BaseException | None = None
    last_used: float = 0.0
    load_started: float = 0.0
    load_seconds: float = FIRST_LOAD_SECONDS
    weight_bytes: int = 0

    @property
    def status(self) -> Status:
        """State of the model; a model that is being reloaded is "loaded"."""
        if self.loaded is not None:
            return "loaded"
        if self.loading is not None:
            return "loading"
        return "unloaded" if self.error is None else "failed"

    def retire(self) -> LoadedModel | None:
        """Mark the model as failed if its engine found a changed file; return the model that is to be closed then."""
        loaded = self.loaded
        if loaded is None or (reason := loaded.engine.failure) is None:
            return None
        self.loaded, self.error = None, ModelFailed(reason, param="model")
        return loaded

    @property
    def in_use(self) -> bool:
        """Whether a caller uses the present engine."""
        return self.loaded is not None and self.loaded.users > 0

    @property
    def reason(self) -> str | None:
        """Message of the error with which the model failed."""
        return None if self.error is None else _message(self.error)

    def failure(self, error: BaseException) -> ModelFailed:
        """Return the error that a caller gets for a model that failed with `error`."""
        if isinstance(error, ModelFailed):
            return ModelFailed(error.message, param="model")
        return ModelFailed(f"The model {self.name!r} could not be loaded: {_message(error)}", param="model")


def _message(error: BaseException) -> str:
    """Return the message of an error of embergem; name the class of any other error."""
    return error.message if isinstance(error, EmbergemError) else f"{type(error).__name__}: {error}"


class EntryTable:
    """The models of a registry by name and alias. It has no lock; the registry locks.

    Attributes:
        entries: The models by name, in the order in which they were added.
        aliases: Names of models by alias.
        unlisted: Names of models by those of their names that are not listed.
        default: Name of the default model; None if there is no model.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.aliases: dict[str, str] = {}
        self.unlisted: dict[str, str] = {}
        self.default: str | None = None

    def add(self, name: str, spec: Spec) -> Entry:
        """Add a model; the first one becomes the default.

        Raises:
            UnsupportedOption: Another model has the name or one of the aliases.
        """
        for wanted in (name, *spec.aliases, *spec.unlisted):
            if wanted == DEFAULT or wanted in self.entries or wanted in self.aliases or wanted in self.unlisted:
                raise UnsupportedOption(
                    f"The name {wanted!r} is taken. Give each model a name and aliases that no other model has."
                )
        entry = self.entries[name] = Entry(name, spec)
        self.aliases |= dict.fromkeys(spec.aliases, name)
        self.unlisted |= dict.fromkeys(spec.unlisted, name)
        if self.default is None:
            self.default = name
        return entry

    def find(self, name: str) -> Entry:
        """Return the model with this name or alias; "default" is the default model.

        Raises:
            UnknownModel: No model has this name; the message lists the names that are listed.
        """
        own_name = self.default if name == DEFAULT else self.aliases.get(name) or self.unlisted.get(name, name)
        entry = None if own_name is None else self.entries.get(own_name)
        if entry is None:
            known = [DEFAULT, *self.entries, *self.aliases] if self.entries else []
            raise UnknownModel(
                f"The model {name!r} is not served here.{did_you_mean(name, known)} Known names: "
                f"{', '.join(known) or 'none'}.",
                param="model",
            )
        return entry

    def remove(self, entry: Entry) -> None:
        """Remove a model and its aliases. If it was the default, the first remaining model becomes the default."""
        self.entries.pop(entry.name, None)
        for names in (self.aliases, self.unlisted):
            for alias in [alias for alias, name in names.items() if name == entry.name]:
                del names[alias]
        if self.default == entry.name:
            self.default = next(iter(self.entries), None)
