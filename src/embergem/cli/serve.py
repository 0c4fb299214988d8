"""`embergem serve`: put the settings together, name the models, then hand them to the server."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embergem.checkpoint.checkpoint import Location
from embergem.config import Config, EmbeddingEntry, Key, read
from embergem.errors import UnsupportedOption
from embergem.hub.options import HubOptions, revised
from embergem.hub.resolve import identify
from embergem.options import LoadOptions


def run(*, models: Sequence[str], options: LoadOptions, config: Path | None, **flags: Any) -> None:
    """Serve every model, the first as the default, until stopped.

    `options` apply to the models named in `models`; the models of the file `config` have their own.
    """
    from embergem.server.run import serve

    def again() -> Config:
        return read(config, os.environ, flags)

    def keys() -> Iterable[Key]:
        return again().keys

    whole = again()
    named = [named_entry(replace(options, model=model)) for model in models]
    if not named and not whole.models:
        named = [named_entry(options)]
    names = [entry.name for entry in (*named, *whole.models)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UnsupportedOption(f"two models are called {twice!r}; rename one of the directories")
    if not serve(whole.settings, (*named, *whole.models), keys=keys):
        # A download or a load was given up. Python would wait for threads of the libraries that do it, and their native
        # code must not come back to an interpreter that is being taken apart.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def named_entry(options: LoadOptions) -> EmbeddingEntry:
    """Return the entry of a model that `--model` names: it is served under its hub id or the name of its directory.

    Raises:
        UnsupportedOption: A revision or a cache directory of the hub is set for a local path.
    """
    found = identify(options.model)
    if isinstance(found, Location):
        HubOptions.of(options).require_none(found)
        return EmbeddingEntry(name=found.id, options=replace(options, model=found.path))
    model, entry = found
    return EmbeddingEntry(
        name=revised(model, options.revision),
        options=replace(options, model=model),
        aliases=entry.aliases if entry else (),
    )
