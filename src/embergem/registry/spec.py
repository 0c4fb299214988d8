"""How a model comes to be served, and how it is with it."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Unpack

from embergem.engine import Engine
from embergem.errors import EmbergemError, ModelFailed, UnsupportedOption
from embergem.loader import load
from embergem.options import LoadKeywords, LoadOptions

Status = Literal["unloaded", "loading", "loaded", "failed"]

FIRST_LOAD = 10.0
"""Seconds that a load is said to take when none was measured yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How a model comes to be served.

    Attributes:
        load: Makes its engine.
        aliases: Other names for it.
        lazy: It is loaded when it is first used, not at the start.
        keep_alive: It is unloaded after so many idle seconds; None keeps it.
    """

    load: Callable[[], Engine]
    aliases: tuple[str, ...] = ()
    lazy: bool = False
    keep_alive: float | None = None

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
        """Describe a model by its hub id, alias or directory; `options` are those of `Embedder`."""
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
    """A model: what it is made from, and what there is of it; `loader` is a load, or a reload, under way."""

    name: str
    spec: Spec
    held: LoadedModel | None = None
    loader: Future[None] | None = None
    error: BaseException | None = None
    used: float = 0.0
    began: float = 0.0
    seconds: float = FIRST_LOAD
    weight_bytes: int = 0

    @property
    def status(self) -> Status:
        """Say how it is with the model."""
        if self.held is not None:
            return "loaded"
        if self.loader is not None:
            return "loading"
        return "unloaded" if self.error is None else "failed"

    @property
    def busy(self) -> bool:
        """Whether somebody holds its engine."""
        return self.held is not None and self.held.users > 0

    @property
    def reason(self) -> str | None:
        """Say why it could not be loaded."""
        return None if self.error is None else reason(self.error)

    def failure(self, error: BaseException) -> ModelFailed:
        """Return the error for whoever asks for it."""
        return ModelFailed(f"the model {self.name!r} could not be loaded: {reason(error)}", param="model")


def reason(error: BaseException) -> str:
    """Return the message of an error, with its kind if it is not one of ours."""
    return error.message if isinstance(error, EmbergemError) else f"{type(error).__name__}: {error}"


def cannot_load(name: str) -> Callable[[], Engine]:
    """Return the loader of a model that was handed over loaded."""

    def load() -> Engine:
        raise UnsupportedOption(f"{name!r} was handed over loaded, so nobody knows how to load it again")

    return load
