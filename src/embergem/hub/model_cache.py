"""embergem's cache of downloaded models.

`models/<org>--<name>/<hash>/` under the cache directory (`embergem.paths`) holds one version of a model, named by a
hash over its files. A version is written to a temporary directory beside its final place and renamed, so a version is
either complete or absent. The file `current` names the version in use. The manifest in it (`embergem.json`) has the
size and the sha256 of every file. Sizes are compared at every start, hashes by `embergem models verify`.
"""

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from embergem import paths
from embergem.catalog import Entry
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.files import sha256
from embergem.errors import CorruptCheckpoint

log = logging.getLogger(__name__)

_CURRENT = "current"
_SCRATCH = ".new-"


class CachedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as it was when it was downloaded. `path` is relative to the version's directory."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The content and the origin of a version: `source` is "hub" or "wheel", `revision` is the hub commit."""

    id: str
    source: str
    revision: str | None
    files: tuple[CachedFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A version of a model in the cache."""

    path: Path
    manifest: Manifest

    @property
    def location(self) -> Location:
        """The version as the engine takes it."""
        return Location(self.manifest.id, self.path, self.manifest.revision)


def find(model: str) -> CachedModel | None:
    """Return the current version of a model; None if the cache has none.

    Raises:
        CorruptCheckpoint: There is a version, but its manifest is missing or damaged.
    """
    home = paths.model_directory(model)
    try:
        version = (home / _CURRENT).read_bytes().decode(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CorruptCheckpoint(f"The cached model in {home} cannot be read: {error.strerror}.") from error
    path = home / Path(version).name
    try:
        manifest = msgspec.json.decode((path / paths.MODEL_MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptCheckpoint(f"The cached model in {path} is damaged: {paths.MODEL_MANIFEST}: {error}.") from error
    return CachedModel(path, manifest)


def exists(model: str) -> bool:
    """Return whether the cache has a version of the model, intact or damaged."""
    return (paths.model_directory(model) / _CURRENT).exists()


def list_models() -> list[str]:
    """Return the ids of all models that the cache has a version of."""
    found = (paths.cache_root() / "models").glob(f"*/{_CURRENT}")
    return sorted(path.parent.name.replace("--", "/", 1) for path in found)


def find_faults(cached: CachedModel, entry: Entry | None, *, full: bool) -> list[str]:
    """Describe what is wrong with a version: missing files, sizes and pinned hashes; with `full` the hash of each file.

    `entry` is the model's entry in the catalog, which pins the hashes of some files.
    """
    found = []
    for file in cached.manifest.files:
        path = cached.path / file.path
        pin = entry.pinned(file.path) if entry else None
        if not path.is_file():
            found.append(f"{file.path} is missing")
        elif (size := path.stat().st_size) != file.size:
            found.append(f"{file.path} has {size} bytes instead of {file.size}")
        elif full and (digest := sha256(path)) != file.sha256:
            found.append(f"{file.path} has sha256 {digest} instead of {file.sha256}")
        elif pin and not pin.matches(file.sha256):
            found.append(f"{file.path} is not the version that this embergem expects ({pin.sha256})")
    there = {file.path for file in cached.manifest.files}
    found += [f"{pin.path} is missing" for pin in (entry.files if entry else ()) if pin.path not in there]
    return found


@contextmanager
def locked(model: str) -> Iterator[Path]:
    """Hold the lock of a model, also against other processes, and yield an empty directory to download into.

    Files that an interrupted process left behind are removed.
    """
    # Imported here because it takes a while and only downloads need it. The module has no `__all__`, which mypy wants.
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    home = paths.model_directory(model)
    locks = paths.cache_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(locks / f"{home.name}.lock"):
        home.mkdir(parents=True, exist_ok=True)
        for stale in home.glob(f"{_SCRATCH}*"):
            _remove(stale)
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=home))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # files that cannot be removed now are removed at the next lock
            if not any(home.iterdir()):
                home.rmdir()


def store(fetched: Path, *, model: str, source: str, revision: str | None) -> CachedModel:
    """Move a downloaded directory to its place, make it the current version, and delete other versions.

    The caller holds the lock of the model.
    """
    found = sorted(path for path in fetched.rglob("*") if path.is_file())
    files = tuple(CachedFile(path.relative_to(fetched).as_posix(), path.stat().st_size, sha256(path)) for path in found)
    manifest = Manifest(model, source, revision, files)
    (fetched / paths.MODEL_MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    fetched.chmod(0o755)

    listing = "".join(f"{file.sha256}  {file.path}\n" for file in files)
    version = hashlib.sha256(listing.encode()).hexdigest()[:16]
    home = paths.model_directory(model)
    place = home / version
    if place.exists():
        os.rename(place, home / f"{_SCRATCH}old-{version}")
    os.rename(fetched, place)
    (home / f"{_CURRENT}.new").write_text(version)
    os.replace(home / f"{_CURRENT}.new", home / _CURRENT)
    for other in home.iterdir():
        if other.is_dir() and other != place:
            _remove(other)
    return CachedModel(place, manifest)


def _remove(directory: Path) -> None:
    """Remove a directory. On Windows it stays while a process has a model of it loaded, until the next store."""
    try:
        shutil.rmtree(directory)
    except PermissionError:
        if sys.platform != "win32":
            raise
        log.info("%s is in use and stays for now.", directory)
