"""A model from the Hugging Face hub, through `huggingface_hub`.

The library's own settings hold: HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, proxies. Its telemetry is off. Only the
files that the model's modules.json calls for are fetched; never pickled weights, never code. What another program has
already put into the hub's cache is used, with the network down as well.

`fetch` links the files into a directory of embergem's own cache. `snapshot` leaves them where the library has put them:
a revision that was named, and a cache that was, are not to take the place of the version that embergem keeps.
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from embergem.catalog import Entry
from embergem.checkpoint.files import sha256
from embergem.checkpoint.modules import MODULES_FILE, parse_modules
from embergem.errors import DownloadError, EmbergemError, GatedModel, UnknownModel, UnsupportedModel
from embergem.hub import hf_cache as snapshots
from embergem.hub.hf_cache import Snapshot
from embergem.hub.options import HubOptions, revised
from embergem.hub.select import lacking, needed
from embergem.progress import DownloadProgress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 5.0

T = TypeVar("T")


class _Remote:
    """A repository's files at one commit, as the hub declares them."""

    def __init__(self, api: "HfApi", info: Any, options: HubOptions) -> None:
        self.commit: str = info.sha
        self._api, self._id, self._options = api, info.id, options
        self._files = {sibling.rfilename: sibling for sibling in info.siblings or ()}

    @property
    def names(self) -> Iterable[str]:
        return self._files

    def size(self, name: str) -> int:
        return self._files[name].size or 0

    def digest(self, name: str) -> str | None:
        """The sha256 that the hub declares; it does for large files only."""
        lfs = self._files[name].lfs
        return lfs.sha256 if lfs else None

    def get(self, name: str, bar: DownloadProgress) -> Path:
        path = self._download(name, bar, force=False)
        if self._as_declared(name, path):
            return path
        log.warning("%s of %s is damaged in the hub library's cache; fetching it again", name, self._id)
        path = self._download(name, bar, force=True)
        if not self._as_declared(name, path):
            raise DownloadError(f"{name} arrived with other bytes than the hub itself declares")
        return path

    def _download(self, name: str, bar: DownloadProgress, *, force: bool) -> Path:
        path = self._api.hf_hub_download(
            self._id,
            name,
            # Asked by branch, the library remembers the commit.
            revision=self._options.revision if name == MODULES_FILE else self.commit,
            cache_dir=self._options.cache,
            etag_timeout=CONNECT_SECONDS,
            force_download=force,
            tqdm_class=_forwarding(bar),
        )
        return Path(path)

    def _as_declared(self, name: str, path: Path) -> bool:
        """Compare a file with the sha256, or else the git object id, that the hub declares."""
        if digest := self.digest(name):
            return digest == sha256(path)
        data = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()
        return self._files[name].blob_id in (git, None)


def fetch(model: str, entry: Entry | None, into: Path, bar: DownloadProgress, options: HubOptions) -> str:
    """Fetch the files of `model` into the directory `into`; return the commit. The caller checks the pins.

    Raises:
        UnknownModel: The hub has no such model or revision, or doesn't show it to us.
        GatedModel: Its licence must be accepted first.
        DownloadError: The hub cannot be reached, refuses, or sends other bytes than it declares or the catalog pins.
        CorruptCheckpoint: The repository has no usable modules.json.
        UnsupportedModel: It lacks a file, or its modules.json names something that embergem does not have; nothing
            large was fetched.
        UnsupportedOption: The token source has no token.
    """
    commit, paths = _collect(model, entry, bar, options)
    for name, path in paths.items():
        _link(path.resolve(), into / name)
    return commit


def snapshot(model: str, entry: Entry | None, bar: DownloadProgress, options: HubOptions) -> Path:
    """Fetch the files of `model` into the hub library's cache; return the directory of the revision there.

    Raises:
        UnknownModel, GatedModel, DownloadError, CorruptCheckpoint, UnsupportedModel, UnsupportedOption: As `fetch`.
    """
    _, paths = _collect(model, entry, bar, options)
    root = paths[MODULES_FILE].parent
    if any(path != root / name for name, path in paths.items()):
        raise DownloadError(f"{model} changed on the hub while it was fetched; try again")
    snapshots.believe(root, entry)
    return root


def _collect(
    model: str, entry: Entry | None, bar: DownloadProgress, options: HubOptions
) -> tuple[str, dict[str, Path]]:
    """Have the files that the model needs in the hub library's cache; return the commit, and where each is."""
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    api = huggingface_hub.HfApi(library_name="embergem", token=options.token())
    bar.start(f"asking the hub for {revised(model, options.revision)}", None)
    try:
        return _take(_look_up(api, model, options), model, entry, bar)
    except EmbergemError:
        raise
    except Exception as error:  # the library's own, httpx's and the system's: all mean that the hub didn't deliver
        failure = _explain(error, model, entry, options)
        root = None if isinstance(failure, UnknownModel) else snapshots.find(model, options)
        if root is None or not (root / MODULES_FILE).is_file():  # or only a part is there, as other programs leave it
            raise failure from error
        return _take(Snapshot(root), model, entry, bar)


def _look_up(api: "HfApi", model: str, options: HubOptions) -> _Remote:
    # The library's timeout is per address and leaves name look-up out; a host with many addresses behind a wall that
    # drops packets would take minutes. So there is a limit on the whole.
    info = _within(
        CONNECT_SECONDS + _ANSWER_SECONDS,
        lambda: api.model_info(model, revision=options.revision, files_metadata=True, timeout=CONNECT_SECONDS),
    )
    return _Remote(api, info, options)


def _take(
    files: _Remote | Snapshot, model: str, entry: Entry | None, bar: DownloadProgress
) -> tuple[str, dict[str, Path]]:
    names = set(files.names)
    if MODULES_FILE not in names:
        raise DownloadError(
            f"{model} on the hub has no {MODULES_FILE}; embergem reads models that sentence-transformers has saved"
        )
    chain = parse_modules(files.get(MODULES_FILE, bar).read_bytes(), f"{model}/{MODULES_FILE}")
    wanted = needed(chain, names)
    for name in wanted:
        pin, digest = entry.pinned(name) if entry else None, files.digest(name)
        if pin and (files.size(name) != pin.size or (digest and not pin.matches(digest))):
            raise DownloadError(f"{name} on the hub is not the file that embergem expects (sha256 {pin.sha256})")
    if missing := lacking(chain, names):
        pickled = [name for name in names if name.endswith((".bin", ".pt"))]
        raise UnsupportedModel(
            f"{model} on the hub lacks {', '.join(missing)}, which embergem needs"
            + (f"; {', '.join(pickled)} is not read, because pickle files can run code" if pickled else "")
        )
    bar.start(model, sum(files.size(name) for name in wanted))
    paths: dict[str, Path] = {}
    done = 0
    for name in wanted:
        paths[name] = files.get(name, bar)
        done += files.size(name)
        bar.reach(done)
    return files.commit, paths


def _explain(error: Exception, model: str, entry: Entry | None, options: HubOptions) -> EmbergemError:
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    match error:
        case errors.GatedRepoError():
            mirror = (
                f" Or name the ungated mirror with the same bytes: {entry.mirror}." if entry and entry.mirror else ""
            )
            return GatedModel(
                f"{model} is gated: its licence must be accepted before the hub hands out the files. Accept it at "
                f"{endpoint}/{model}, then set HF_TOKEN to a token of that account.{mirror}"
            )
        case errors.RevisionNotFoundError():
            return UnknownModel(
                f"the hub has no revision {options.revision!r} of {model}: name a branch, a tag or a commit; "
                f"{endpoint}/{model}/tree/main lists them. On this machine, {snapshots.in_words(model, options)}"
            )
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            return UnknownModel(
                f"the hub has no model {model!r}, or doesn't show it to you: check the spelling; for a private model "
                "set HF_TOKEN. There is no directory of that name either"
            )
        case errors.OfflineModeIsEnabled():
            return DownloadError(f"HF_HUB_OFFLINE is set, and {_lacking(model, options)}")
        case TimeoutError():
            first = f"{endpoint} didn't answer within {CONNECT_SECONDS + _ANSWER_SECONDS:.0f} seconds"
        case _:
            first = f"{endpoint}: {next(iter(str(error).strip().splitlines()), '') or type(error).__name__}"
    return DownloadError(first if options.plain else f"{first}; {_lacking(model, options)}")


def _lacking(model: str, options: HubOptions) -> str:
    """Say what the hub's cache lacks and, where a revision or a cache was named, what it has."""
    if options.plain:
        return "the hub's own cache doesn't have the model"
    wanted = "the model" if options.revision is None else f"revision {options.revision!r}"
    return f"{wanted} is not whole on this machine: {snapshots.in_words(model, options)}"


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Run `call` on a thread of its own and wait so long for it; a thread that is too late is left to itself."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=run, name="embergem-hub", daemon=True).start()
    return answer.result(seconds)


def _forwarding(bar: DownloadProgress) -> Any:
    """Return a class that the hub library takes for its progress bar; it draws nothing and passes the counts on."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # exported, though not by `__all__`

    class Forwarding(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            bar.advance(n or 0)

        def update_transfer(self, n: float) -> None:
            """Bytes on the wire, told apart from bytes on disk by the library; only the latter are shown."""

    return Forwarding


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, so that it takes no space twice; copy where the file system cannot."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # never write into a file that has another name elsewhere
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
