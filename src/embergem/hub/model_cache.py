"""The cache of downloaded models.

`$EMBERGEM_CACHE` (else `$XDG_CACHE_HOME/embergem`, else `~/.cache/embergem`) holds
`models/<org>--<name>/<hash>/`, one directory a version, named by a hash over its files. A version is written beside its
place and renamed into it, so it is there whole or not at all; `current` names the version in use. The manifest in it
(`embergem.json`) has size and sha256 of every file: sizes are compared on every start, hashes by
`embergem models verify`.
"""

import hashlib
import os
import shutil
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

_CURRENT = "current"
_SCRATCH = ".new-"


class KeptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as it was when it was fetched; `path` is relative to the version's directory."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a version is and where it came from: `source` is "hub" or "wheel", `revision` the hub commit."""

    id: str
    source: str
    revision: str | None
    files: tuple[KeptFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Kept:
    """A version in the cache."""

    path: Path
    manifest: Manifest

    @property
    def location(self) -> Location:
        """Where it is, as the engine takes it."""
        return Location(self.manifest.id, self.path, self.manifest.revision)


def load(model: str) -> Kept | None:
    """Find the current version of a model.

    Raises:
        CorruptCheckpoint: There is one, but its manifest is missing or damaged.
    """
    try:
        version = (paths.model_directory(model) / _CURRENT).read_bytes().decode(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CorruptCheckpoint(
            f"the cached model in {paths.model_directory(model)} cannot be read: {error.strerror}"
        ) from error
    path = paths.model_directory(model) / Path(version).name
    try:
        manifest = msgspec.json.decode((path / paths.MODEL_MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptCheckpoint(f"the cached model in {path} is damaged: {paths.MODEL_MANIFEST}: {error}") from error
    return Kept(path, manifest)


def present(model: str) -> bool:
    """Return whether there is a version of the model, sound or not."""
    return (paths.model_directory(model) / _CURRENT).exists()


def models() -> list[str]:
    """Return the ids of all models that the cache has a version of."""
    return sorted(
        path.parent.name.replace("--", "/", 1) for path in (paths.cache_root() / "models").glob(f"*/{_CURRENT}")
    )


def faults(kept: Kept, entry: Entry | None, *, full: bool) -> list[str]:
    """Say what is wrong with a version: file sizes, pins of the catalog and, when `full`, the hash of every byte."""
    found = []
    for file in kept.manifest.files:
        path = kept.path / file.path
        pin = entry.pinned(file.path) if entry else None
        if not path.is_file():
            found.append(f"{file.path} is missing")
        elif (size := path.stat().st_size) != file.size:
            found.append(f"{file.path} has {size} bytes instead of {file.size}")
        elif full and (digest := sha256(path)) != file.sha256:
            found.append(f"{file.path} has sha256 {digest} instead of {file.sha256}")
        elif pin and not pin.matches(file.sha256):
            found.append(f"{file.path} is not the version that this embergem expects ({pin.sha256})")
    there = {file.path for file in kept.manifest.files}
    found += [f"{pin.path} is missing" for pin in (entry.files if entry else ()) if pin.path not in there]
    return found


@contextmanager
def locked(model: str) -> Iterator[Path]:
    """Hold the model's lock, against other processes as well; gives an empty directory to fetch into.

    What an interrupted process left behind is cleared away.
    """
    # Imported here because it takes a while and only downloads need it; the library has no `__all__` to please mypy.
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    home = paths.model_directory(model)
    locks = paths.cache_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(locks / f"{home.name}.lock"):
        home.mkdir(parents=True, exist_ok=True)
        for stale in home.glob(f"{_SCRATCH}*"):
            shutil.rmtree(stale)
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=home))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # it may have been moved; a remainder is cleared next time
            if not any(home.iterdir()):
                home.rmdir()


def keep(fetched: Path, *, model: str, source: str, revision: str | None) -> Kept:
    """Move a fetched directory, whose lock is held, to its place and make it current; drop other versions."""
    found = sorted(path for path in fetched.rglob("*") if path.is_file())
    files = tuple(KeptFile(path.relative_to(fetched).as_posix(), path.stat().st_size, sha256(path)) for path in found)
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
            shutil.rmtree(other)
    return Kept(place, manifest)
