"""Prompts as sentence-transformers has them: by name, from the files of a model and from the caller."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embergem.embedder import Embedder
from embergem.engine import Engine
from embergem.errors import InvalidTask
from embergem.sdk.results import caller_stacklevel


class Prompts:
    """Finds the prompt of a call.

    That library always has the prompts "query" and "document"; they are empty unless the files or the caller set them.
    A client cannot see the files of the server, so the tasks of the server take the place of its prompts.

    Args:
        declared: Prompts of the files; None if the model is at a server.
        given: Prompts of the caller. They take precedence.
    """

    def __init__(self, declared: Mapping[str, str] | None, given: Mapping[str, str]) -> None:
        self._at_server = declared is None
        self._no_warning = set(given)  # names for which no further warning is due
        empty = {} if declared is None else {"query": "", "document": ""}
        self.by_name: dict[str, str] = empty | dict(declared or {}) | dict(given)

    def find(self, name: str, embedder: Embedder) -> tuple[str | None, str | None]:
        """Find the prompt `name`. Returns (prefix, None), or (None, task) if the name is a task of the model.

        Raises:
            InvalidTask: The model has no prompt and no task of this name.
        """
        if name in self.by_name:
            if not self.by_name[name]:
                self._warn_of_unused_prompt(name, embedder)
            return self.by_name[name], None
        if name in embedder.tasks:
            return None, name
        known = ", ".join(dict.fromkeys([*self.by_name, *embedder.tasks])) or "none"
        raise InvalidTask(f"the model has no prompt named {name!r}. It has: {known}.", param="prompt_name")

    def first_of(self, names: Sequence[str], embedder: Embedder) -> str | None:
        """Return the first of `names` that is a prompt, or a task of the server; None if none is."""
        there = [*self.by_name, *(embedder.tasks if self._at_server else ())]
        return next((name for name in names if name in there), None)

    def _warn_of_unused_prompt(self, name: str, embedder: Embedder) -> None:
        """Warn once if the model is used without a prompt that embergem knows."""
        engine = embedder._backend
        if name in self._no_warning or not isinstance(engine, Engine) or name not in engine.tasks:
            return
        self._no_warning.add(name)
        pattern = (engine.prompt(name) or "").replace("{title}", "none")
        if prefix := pattern.removesuffix("{content}"):
            warnings.warn(
                f"{embedder.model} is used without a prompt for {name!r}, as in sentence-transformers, because "
                f"its files declare none. To use the prompt that embergem knows, give SentenceTransformer(..., "
                f"prompts={{{name!r}: {prefix!r}}}). To use none without this warning, give prompts={{{name!r}: ''}}.",
                UserWarning,
                stacklevel=caller_stacklevel(),
            )


def declared_settings(path: Path) -> dict[str, Any]:
    """Return the content of config_sentence_transformers.json; empty if there is none."""
    file = path / "config_sentence_transformers.json"
    if not file.exists():
        return {}
    declared: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return declared
