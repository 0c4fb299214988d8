"""`ManagedModels`: loaded models behind one object, chosen by `model_id=`; base of `Runner` and `EmbeddingModel`."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from embergem.engine import Engine
from embergem.errors import UnknownModel, UnsupportedOption
from embergem.keywords import checked_class
from embergem.registry import DEFAULT, Registry, Spec

log = logging.getLogger(__name__)

_STATUS = {"loaded": "loaded", "loading": "reloading", "unloaded": "unloaded", "failed": "unloaded"}


@checked_class
class ManagedModels:
    """Base of `Runner` and `EmbeddingModel`: models by name, one of which is the default."""

    def __init__(self) -> None:
        self._registry = Registry()

    def list_models(self) -> list[str]:
        """Return the names of all models, loaded or not."""
        return self._registry.names()

    def get_default_model_id(self) -> str | None:
        """Return the name of the default model, which answers requests that name no model."""
        return self._registry.default

    def set_default_model_id(self, model_id: str) -> None:
        """Choose the default model, which answers requests that name no model.

        Raises:
            ValueError: There is no such model.
        """
        self._registry.default = model_id

    def is_model_loaded(self, model_id: str) -> bool:
        """Return whether the model is in memory.

        Raises:
            ValueError: There is no such model.
        """
        return self._registry.status(model_id) == "loaded"

    def list_models_with_status(self) -> list[tuple[str, str]]:
        """Return the names of all models, each with its status: "loaded", "unloaded" or "reloading"."""
        return [(name, _STATUS[self._registry.status(name)]) for name in self._registry.names()]

    def list_unloaded_models(self) -> list[str]:
        """Return the names of the models that are not in memory. A request for one of them loads it again."""
        return [name for name, status in self.list_models_with_status() if status == "unloaded"]

    def get_model_status(self, model_id: str) -> str | None:
        """Return the status of a model: "loaded", "unloaded" or "reloading"; None if no model has this name."""
        try:
            return _STATUS[self._registry.status(model_id)]
        except UnknownModel:
            return None

    def max_sequence_length(self, model_id: str | None = None) -> int:
        """Return the largest number of tokens of one input, special tokens included."""
        with self._use(model_id) as engine:
            return engine.limit

    def tokenize_text(
        self, text: str, add_special_tokens: bool, enable_thinking: bool | None = None, model_id: str | None = None
    ) -> list[int]:
        """Return all token ids of a text, without applying the limit.

        `enable_thinking` is for chat models and must be None.
        """
        if enable_thinking is not None:
            raise UnsupportedOption("enable_thinking is for chat models; leave it out.", param="enable_thinking")
        with self._use(model_id) as engine:
            return engine.tokenize(text, special=add_special_tokens)

    def detokenize_text(self, tokens: list[int], skip_special_tokens: bool, model_id: str | None = None) -> str:
        """Return the text of token ids.

        Raises:
            ValueError: The tokenizer of the model has no such id.
        """
        with self._use(model_id) as engine:
            return engine.detokenize(tokens, skip_special=skip_special_tokens)

    def _use(self, model_id: str | None) -> AbstractContextManager[Engine]:
        return self._registry.use(model_id or DEFAULT)

    def _name(self, model_id: str | None) -> str:
        if model_id in (None, DEFAULT):
            model_id = self._registry.default or DEFAULT
        return self._registry.aliases().get(str(model_id), str(model_id))

    def _remove(self, model_id: str) -> None:
        if len(self._registry.names()) == 1:
            self._registry.status(model_id)  # raises UnknownModel for an unknown name, which is the better error
            raise UnsupportedOption(f"{model_id!r} is the last model and cannot be removed. Unload it instead.")
        self._registry.remove(model_id)

    def _add(self, load: Callable[[], Engine], name: str, model_id: str) -> None:
        """Load a model and register its loader. It is reachable by `name`, and by its ids if no other model has them.

        Raises:
            UnsupportedOption: `name` is taken; nothing was loaded.
        """
        taken = {DEFAULT, *self._registry.names(), *self._registry.aliases()}
        if name in taken:
            raise UnsupportedOption(
                f"the name {name!r} is taken; add this model under another alias. Names in use: "
                + ", ".join(sorted(taken)),
                param="alias",
            )
        start = time.monotonic()
        first = load()
        log.info(
            "%s: loaded in %.1f s: %d dimensions, up to %d tokens, %s on %s with %d threads",
            name,
            time.monotonic() - start,
            first.dimensions,
            first.limit,
            first.dtype,
            first.instruction_set,
            first.threads,
        )
        loaded = [first]

        def load_or_take() -> Engine:
            try:
                return loaded.pop()  # drop the reference, so that unloading the model frees its memory
            except IndexError:
                return load()

        others = dict.fromkeys(other for other in (model_id, first.id) if other != name and other not in taken)
        try:
            self._registry.add(name, Spec(load=load_or_take, aliases=tuple(others)))
        except UnsupportedOption:  # another thread added this name meanwhile
            first.close()
            raise
        del first
        self._registry.load(name)

    def close(self) -> None:
        """Free all models."""
        self._registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
