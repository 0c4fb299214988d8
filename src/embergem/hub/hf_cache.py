"""Finds models in the cache of `huggingface_hub`, where that library or another program has put them.

A model is a directory `models--org--name`, with a directory in `snapshots` for each commit. A file in `refs` has the
commit that a branch or a tag had when it was downloaded.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from embergem import paths
from embergem.catalog import Entry
from embergem.checkpoint.checkpoint import INDEX_FILE
from embergem.checkpoint.compiled import is_compiled
from embergem.checkpoint.files import read_bytes, read_object, sha256
from embergem.checkpoint.gguf import find_gguf
from embergem.checkpoint.modules import BODY_KINDS, MODULES_FILE, ModuleEntry, is_model2vec, parse_modules
from embergem.errors import DownloadError
from embergem.hub.options import HubOptions
from embergem.hub.select import missing_files
from embergem.progress import DownloadProgress

_DEFAULT_BRANCH = "main"


class Snapshot:
    """The files of a repository at one commit, in the cache. What the hub declares of them is not known here."""

    def __init__(self, root: Path) -> None:
        self.commit = root.name
        self._root = root

    @property
    def names(self) -> Iterable[str]:
        """Paths of the files, relative to the snapshot's directory."""
        return [path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file()]

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        return (self._root / name).stat().st_size

    def digest(self, name: str) -> str | None:
        """Return None: the sha256 that the hub declares is not known."""
        return None

    def get(self, name: str, bar: DownloadProgress) -> Path:
        """Return the path of a file."""
        return self._root / name


def snapshot_directory(model: str, options: HubOptions) -> Path | None:
    """Return the directory of a model's revision, complete or not; None if there is none."""
    home = _home(model, options)
    commit = options.revision or _DEFAULT_BRANCH
    if (ref := home / "refs" / commit).is_file():
        commit = ref.read_text(errors="replace").strip()
    root = home / "snapshots" / commit
    return root if commit and "/" not in commit and root.is_dir() else None


def find_snapshot(model: str, options: HubOptions) -> Path | None:
    """Return the directory of a model's revision; None if there is none or a required file is missing.

    Raises:
        CorruptCheckpoint, UnsupportedModel: Its modules.json, or the index of its weights, cannot be used.
    """
    root = snapshot_directory(model, options)
    if root is None:
        return None
    if not (root / MODULES_FILE).is_file():
        other_format = find_gguf(root) or is_model2vec(root) or is_compiled(root)
        return root if other_format else None
    modules = parse_modules(read_bytes(root / MODULES_FILE), root / MODULES_FILE)
    incomplete = missing_files(modules, set(Snapshot(root).names)) or _missing_shards(modules, root)
    return None if incomplete else root


def describe_revisions(model: str, options: HubOptions) -> str:
    """Describe, for an error message, which revisions of a model the cache has.

    Branches and tags come first, with their commits, then other commits.
    """
    home = _home(model, options)
    refs = {
        path.relative_to(home / "refs").as_posix(): path.read_text(errors="replace").strip()
        for path in sorted((home / "refs").rglob("*"))
        if path.is_file()
    }
    commits = sorted(path.name for path in home.glob("snapshots/*") if path.name not in refs.values())
    found = [*(f"{name} ({commit[:12]})" for name, commit in refs.items()), *commits]
    return f"the hub library's cache {home.parent} has {', '.join(found) or 'nothing'} of {model}"


def check_pins(root: Path, entry: Entry | None) -> None:
    """Compare the files of a snapshot with the hashes that the catalog pins, once for each state of a file.

    Raises:
        DownloadError: A file has other bytes.
    """
    for pin in entry.files if entry else ():
        file = root / pin.path
        if not file.is_file():
            continue  # the files that the model requires were checked before
        from embergem._native import Note  # imported here because `embergem --help` does without native code

        note = Note(paths.cache_root(), "pinned", [file], [pin.sha256])
        if note.read() is not None:
            continue
        if not pin.matches(digest := sha256(file)):
            raise DownloadError(
                f"{file} has sha256 {digest} instead of {pin.sha256}, so these are not the expected bytes. Remove "
                f"{root} to download the model again, or name that directory as the model to use it as it is."
            )
        note.write("")


def _home(model: str, options: HubOptions) -> Path:
    """Return the directory of all revisions of a model. It need not exist."""
    return (options.cache or paths.hub_cache()) / f"models--{model.replace('/', '--')}"


def _missing_shards(modules: Sequence[ModuleEntry], root: Path) -> list[str]:
    """Return the weight files that an index names and that do not exist. Reading the index checks the rest of it."""
    missing = []
    for body in (PurePosixPath(module.path) for module in modules if module.kind in BODY_KINDS):
        index = root / body / INDEX_FILE
        names = read_object(index).get("weight_map") if index.is_file() else None
        shards = set(names.values()) if isinstance(names, dict) else set()
        missing += [str(body / name) for name in shards if isinstance(name, str) and not (root / body / name).is_file()]
    return missing
