"""Models in the cache of the hub's library, as that library or another program has put them there.

It is a directory a model, `models--org--name`, with one in `snapshots` for each commit. `refs` says which commit a
branch or a tag was when it was fetched.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from embergem import paths
from embergem.catalog import Entry
from embergem.checkpoint import compiled, gguf, model2vec
from embergem.checkpoint.files import read_bytes, read_object, sha256
from embergem.checkpoint.modules import BODY_KINDS, MODULES_FILE, ModuleEntry, parse_modules
from embergem.checkpoint.read import INDEX_FILE
from embergem.errors import DownloadError
from embergem.hub import file_state
from embergem.hub.options import HubOptions
from embergem.hub.select import lacking
from embergem.progress import DownloadProgress

_DEFAULT_BRANCH = "main"


class Snapshot:
    """A repository's files at one commit, in the cache; what the hub declared of them is not at hand."""

    def __init__(self, root: Path) -> None:
        self.commit = root.name
        self._root = root

    @property
    def names(self) -> Iterable[str]:
        """Paths of the files, from the snapshot's directory on."""
        return [path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file()]

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self._root / name).stat().st_size

    def digest(self, name: str) -> str | None:
        """Nothing: the hub is not asked."""
        return None

    def get(self, name: str, bar: DownloadProgress) -> Path:
        """Where a file is."""
        return self._root / name


def place(model: str, options: HubOptions) -> Path | None:
    """Return the directory of a model's revision in the cache, whole or not; None where there is none."""
    home = _home(model, options)
    commit = options.revision or _DEFAULT_BRANCH
    if (ref := home / "refs" / commit).is_file():
        commit = ref.read_text(errors="replace").strip()
    root = home / "snapshots" / commit
    return root if commit and "/" not in commit and root.is_dir() else None


def find(model: str, options: HubOptions) -> Path | None:
    """Return the directory of a model's revision in the cache; None where one of its files isn't there.

    Raises:
        CorruptCheckpoint, UnsupportedModel: Its modules.json, or the index of its weights, cannot be used.
    """
    root = place(model, options)
    if root is None:
        return None
    if not (root / MODULES_FILE).is_file():
        other = gguf.find_gguf(root) or model2vec.is_model2vec(root) or compiled.is_compiled(root)
        return root if other else None
    chain = parse_modules(read_bytes(root / MODULES_FILE), root / MODULES_FILE)
    return None if lacking(chain, set(Snapshot(root).names)) or _lost_shards(chain, root) else root


def in_words(model: str, options: HubOptions) -> str:
    """Say which revisions of a model the cache has: branches and tags with their commits, then other commits."""
    home = _home(model, options)
    refs = {
        path.relative_to(home / "refs").as_posix(): path.read_text(errors="replace").strip()
        for path in sorted((home / "refs").rglob("*"))
        if path.is_file()
    }
    commits = sorted(path.name for path in home.glob("snapshots/*") if path.name not in refs.values())
    found = [*(f"{name} ({commit[:12]})" for name, commit in refs.items()), *commits]
    return f"the hub library's cache {home.parent} has {', '.join(found) or 'nothing'} of {model}"


def believe(root: Path, entry: Entry | None) -> None:
    """Hold the files of a snapshot against the hashes that the catalog pins, once for each state of a file.

    Raises:
        DownloadError: One has other bytes.
    """
    for pin in entry.files if entry else ():
        file = root / pin.path
        if not file.is_file():
            continue  # what the model cannot do without is there
        note = file_state.mark([("", file)], "pinned", pin.sha256)
        if note.exists():
            continue
        if not pin.matches(digest := sha256(file)):
            raise DownloadError(
                f"{file} has sha256 {digest} instead of {pin.sha256}: not the expected bytes. Remove {root} to fetch "
                "it again, or name that directory to use it as it is"
            )
        file_state.write(note, "")


def _home(model: str, options: HubOptions) -> Path:
    """Return the directory of all revisions of a model; it need not exist."""
    return (options.cache or paths.hub_cache()) / f"models--{model.replace('/', '--')}"


def _lost_shards(chain: Sequence[ModuleEntry], root: Path) -> list[str]:
    """Weight files that an index names and that are not there; the rest of an index is checked when it is read."""
    lost = []
    for body in (PurePosixPath(module.path) for module in chain if module.kind in BODY_KINDS):
        index = root / body / INDEX_FILE
        names = read_object(index).get("weight_map") if index.is_file() else None
        shards = set(names.values()) if isinstance(names, dict) else set()
        lost += [str(body / name) for name in shards if isinstance(name, str) and not (root / body / name).is_file()]
    return lost
