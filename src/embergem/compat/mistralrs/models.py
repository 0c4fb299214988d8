"""Models behind one object: loading, routing by `model_id=`, and what both older styles say about them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from embergem.engine import Engine
from embergem.errors import UnknownModel, UnsupportedOption
from embergem.registry import DEFAULT, Registry, Spec
from embergem.sdk.backend import Answer
from embergem.sdk.flight import Landed
from embergem.types import Vectors

_STATUS = {"loaded": "loaded", "loading": "reloading", "unloaded": "unloaded", "failed": "unloaded"}


class Managed:
    """Base of `Runner` and `EmbeddingModel`: models under their names, one of them the default."""

    def __init__(self) -> None:
        self._registry = Registry()

    def list_models(self) -> list[str]:
        """Names of all models, loaded or not."""
        return self._registry.names()

    def get_default_model_id(self) -> str | None:
        """Name of the model that is asked when none is named."""
        return self._registry.default

    def set_default_model_id(self, model_id: str) -> None:
        """Choose the model that is asked when none is named.

        Raises:
            ValueError: There is no such model.
        """
        self._registry.default = model_id

    def is_model_loaded(self, model_id: str) -> bool:
        """Whether the model is in memory.

        Raises:
            ValueError: There is no such model.
        """
        return self._registry.status(model_id) == "loaded"

    def list_models_with_status(self) -> list[tuple[str, str]]:
        """Names of all models, each with "loaded", "unloaded" or "reloading"."""
        return [(name, _STATUS[self._registry.status(name)]) for name in self._registry.names()]

    def list_unloaded_models(self) -> list[str]:
        """Names of the models that are not in memory; a request loads them again."""
        return [name for name, status in self.list_models_with_status() if status == "unloaded"]

    def get_model_status(self, model_id: str) -> str | None:
        """Return "loaded", "unloaded" or "reloading"; None for a name that nobody has."""
        try:
            return _STATUS[self._registry.status(model_id)]
        except UnknownModel:
            return None

    def max_sequence_length(self, model_id: str | None = None) -> int:
        """Most tokens of one input, special tokens included."""
        with self._use(model_id) as engine:
            return engine.limit

    def tokenize_text(
        self, text: str, add_special_tokens: bool, enable_thinking: bool | None = None, model_id: str | None = None
    ) -> list[int]:
        """Return the token ids of a text, all of them, whatever the limit.

        `enable_thinking` is of chat models; here it may only be left out.
        """
        if enable_thinking is not None:
            raise UnsupportedOption("enable_thinking is for chat models", param="enable_thinking")
        with self._use(model_id) as engine:
            return engine.tokenize(text, special=add_special_tokens)

    def detokenize_text(self, tokens: list[int], skip_special_tokens: bool, model_id: str | None = None) -> str:
        """Return the text that token ids spell.

        Raises:
            ValueError: An id that the model's tokenizer does not have.
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
            self._registry.status(model_id)  # an unknown name is said to be that
            raise UnsupportedOption(f"{model_id!r} is the last model and cannot be removed; unload it instead")
        self._registry.remove(model_id)

    def _add(self, load: Callable[[], Engine], name: str, model_id: str) -> None:
        """Load a model now, and know how to load it again. It answers to `name`, and to its ids where they are free.

        Raises:
            UnsupportedOption: `name` is taken; nothing was loaded.
        """
        taken = {DEFAULT, *self._registry.names(), *self._registry.aliases()}
        if name in taken:
            raise UnsupportedOption(
                f"the name {name!r} is taken; add this model under an alias that is free. Taken are: "
                + ", ".join(sorted(taken)),
                param="alias",
            )
        first = load()
        handed = [first]

        def again() -> Engine:
            try:
                return handed.pop()  # and keep nothing of it: an unload is to free its memory
            except IndexError:
                return load()

        others = dict.fromkeys(other for other in (model_id, first.id) if other != name and other not in taken)
        try:
            self._registry.add(name, Spec(load=again, aliases=tuple(others)))
        except UnsupportedOption:  # another thread was faster
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


def gather(parts: Sequence[tuple[Sequence[int], Answer]], limit: int) -> Vectors:
    """Put the vectors of the parts of a request in the order of its inputs; warns of those that were cut."""
    landed = Landed(limit)
    for places, answer in parts:
        landed.add(places, answer)
    return landed.vectors()
