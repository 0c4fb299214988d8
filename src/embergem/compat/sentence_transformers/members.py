"""Members of that library's class that embergem refuses or ignores: `UnsupportedMembers`, from the table `MEMBERS`.

Separate because these members say what the class is not, and `model.py` says what it is.
"""

import warnings
from collections.abc import Callable
from typing import Any

from embergem.compat.arguments import Ignored, Refused, not_supported, refusing
from embergem.compat.sentence_transformers.tables import MEMBERS
from embergem.errors import IgnoredOptionWarning
from embergem.suggestions import did_you_mean

PROPERTIES = {
    "active_adapter", "config", "default_huggingface_organization", "model_card_data_class", "model_type", "processor",
    "transformers_model",
}  # fmt: skip
"""Members that are no methods: reading a refused one is an AttributeError, so that `hasattr` is False."""

SILENT = {"cpu", "eval", "train", "requires_grad_", "share_memory", "zero_grad"}
"""Ignored methods without a warning: calling them is a habit there, and here it has no effect that could differ."""


class UnsupportedMembers:
    """Base of `SentenceTransformer` that answers for the members of `MEMBERS` that are not defined.

    A refused method raises `UnsupportedOption` when it is called. An ignored one returns the model, with an
    `IgnoredOptionWarning` if it was given arguments that ask for something else than the CPU.
    """

    def __getattr__(self, name: str) -> Any:
        """Return a method that `MEMBERS` refuses or ignores; it is called only for names that are not defined here."""
        treatment = MEMBERS.get(name)
        if isinstance(treatment, Refused):
            if name in PROPERTIES:
                raise AttributeError(not_supported(f"SentenceTransformer.{name}", treatment.reason))
            return refusing(name, treatment.reason)
        if isinstance(treatment, Ignored):
            return _ignored(self, name, treatment)
        advice = did_you_mean(name, [*MEMBERS, *dir(type(self))]) if not name.startswith("_") else ""
        raise AttributeError(f"SentenceTransformer has no attribute {name!r}.{advice}")


def _ignored(model: UnsupportedMembers, name: str, treatment: Ignored) -> Callable[..., UnsupportedMembers]:
    def ignore(*arguments: object, **options: object) -> UnsupportedMembers:
        if name not in SILENT and [*arguments, *options.values()] not in ([], ["cpu"]):
            warnings.warn(f"{name}{arguments} is ignored: {treatment.reason}.", IgnoredOptionWarning, stacklevel=2)
        return model

    return ignore
