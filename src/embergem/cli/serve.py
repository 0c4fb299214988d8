"""`embergem serve`: put the settings together, name the models, then hand them to the server."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from embergem.checkpoint.checkpoint import Location
from embergem.config import Config, EmbeddingEntry, Key, read
from embergem.errors import UnsupportedOption
from embergem.hub.options import HubOptions, revised
from embergem.hub.resolve import identify


def run(
    *,
    models: Sequence[str],
    config: Path | None,
    arch: str = "auto",
    window: int | None = None,
    dense_from: str | None = None,
    allow_missing_dense: bool = False,
    revision: str | None = None,
    hf_cache_path: Path | None = None,
    **flags: Any,
) -> None:
    """Serve every model, the first as the default, until stopped; the options here are for those of `models`."""
    from embergem.server.run import serve

    def again() -> Config:
        return read(config, os.environ, flags)

    def keys() -> Iterable[Key]:
        return again().keys

    whole = again()
    options = HubOptions.of(revision, hf_cache_path, None)
    named = [named_entry(model, options) for model in models]
    if not named and not whole.models:
        named = [named_entry(None, options)]
    named = [
        msgspec.structs.replace(
            entry,
            arch=arch,
            window=window,
            dense_from=dense_from,
            allow_missing_dense=allow_missing_dense,
        )
        for entry in named
    ]
    names = [entry.name for entry in (*named, *whole.models)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UnsupportedOption(f"two models are called {twice!r}; rename one of the directories")
    if not serve(whole.settings, (*named, *whole.models), keys=keys):
        # A download or a load was given up. Python would wait for threads of the libraries that do it, and their native
        # code must not come back to an interpreter that is being taken apart.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def named_entry(model: str | None, options: HubOptions) -> EmbeddingEntry:
    """The entry of a model that is given by `--model`: its hub id or the name of its directory is its name.

    Raises:
        UnsupportedOption: A revision or a cache of the hub for a directory.
    """
    found = identify(model)
    if isinstance(found, Location):
        options.require_none(found)
        return EmbeddingEntry(name=found.id, model_id=str(found.path))
    name, entry = found
    return EmbeddingEntry(
        name=revised(name, options.revision),
        model_id=name,
        aliases=entry.aliases if entry else (),
        revision=options.revision,
        hf_cache_path=None if options.cache is None else str(options.cache),
    )
