"""A model from the Hugging Face hub, through `huggingface_hub`.

The library's own settings hold: HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, proxies. Its telemetry is off. Only the
files that the model's modules.json calls for are fetched; never pickled weights, never code. What another program has
already put into the hub's cache is used, with the network down as well.
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
from embergem.checkpoint.modules import NAME as MODULES
from embergem.checkpoint.modules import declared
from embergem.checkpoint.progress import Bar
from embergem.checkpoint.select import lacking, needed
from embergem.errors import DownloadError, EmbergemError, GatedModel, UnknownModel, UnsupportedModel

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 5.0

T = TypeVar("T")


class _Remote:
    """A repository's files at one commit, as the hub declares them."""

    def __init__(self, api: "HfApi", info: Any) -> None:
        self.commit: str = info.sha
        self._api, self._id = api, info.id
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

    def get(self, name: str, bar: Bar) -> Path:
        path = self._download(name, bar, force=False)
        if self._as_declared(name, path):
            return path
        log.warning("%s of %s is damaged in the hub library's cache; fetching it again", name, self._id)
        path = self._download(name, bar, force=True)
        if not self._as_declared(name, path):
            raise DownloadError(f"{name} arrived with other bytes than the hub itself declares")
        return path

    def _download(self, name: str, bar: Bar, *, force: bool) -> Path:
        path = self._api.hf_hub_download(
            self._id,
            name,
            revision=None if name == MODULES else self.commit,  # asked by branch, the library remembers the commit
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


class _Cached:
    """The snapshot of a repository in the hub library's own cache; what the hub declared of it is not at hand."""

    def __init__(self, snapshot: Path) -> None:
        self.commit = snapshot.name
        self._snapshot = snapshot

    @property
    def names(self) -> Iterable[str]:
        return [path.relative_to(self._snapshot).as_posix() for path in self._snapshot.rglob("*") if path.is_file()]

    def size(self, name: str) -> int:
        return (self._snapshot / name).stat().st_size

    def digest(self, name: str) -> str | None:
        return None

    def get(self, name: str, bar: Bar) -> Path:
        return self._snapshot / name


def fetch(model: str, entry: Entry | None, into: Path, bar: Bar) -> str:
    """Fetch the files of `model` into the directory `into`; return the commit. The caller checks the pins.

    Raises:
        UnknownModel: The hub has no such model, or doesn't show it to us.
        GatedModel: Its licence must be accepted first.
        DownloadError: The hub cannot be reached, refuses, or sends other bytes than it declares or the catalog pins.
        CorruptCheckpoint: The repository has no usable modules.json.
        UnsupportedModel: It lacks a file, or its modules.json names something that embergem does not have; nothing
            large was fetched.
    """
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    api = huggingface_hub.HfApi(library_name="embergem")
    bar.start(f"asking the hub for {model}", None)
    try:
        return _take(_look_up(api, model), model, entry, into, bar)
    except EmbergemError:
        raise
    except Exception as error:  # the library's own, httpx's and the system's: all mean that the hub didn't deliver
        failure = _explain(error, model, entry)
        snapshot = None if isinstance(failure, UnknownModel) else huggingface_hub.try_to_load_from_cache(model, MODULES)
        if not isinstance(snapshot, str):
            raise failure from error
        try:
            return _take(_Cached(Path(snapshot).parent), model, entry, into, bar)
        except UnsupportedModel:  # only part of the model is there, as other programs leave it
            raise failure from error


def _look_up(api: "HfApi", model: str) -> _Remote:
    # The library's timeout is per address and leaves name look-up out; a host with many addresses behind a wall that
    # drops packets would take minutes. So there is a limit on the whole.
    return _Remote(
        api,
        _within(
            CONNECT_SECONDS + _ANSWER_SECONDS,
            lambda: api.model_info(model, files_metadata=True, timeout=CONNECT_SECONDS),
        ),
    )


def _take(files: _Remote | _Cached, model: str, entry: Entry | None, into: Path, bar: Bar) -> str:
    names = set(files.names)
    if MODULES not in names:
        raise DownloadError(
            f"{model} on the hub has no {MODULES}; embergem reads models that sentence-transformers has saved"
        )
    chain = declared(files.get(MODULES, bar).read_bytes(), f"{model}/{MODULES}")
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
    done = 0
    for name in wanted:
        path = files.get(name, bar).resolve()
        _link(path, into / name)
        done += files.size(name)
        bar.reach(done)
    return files.commit


def _explain(error: Exception, model: str, entry: Entry | None) -> EmbergemError:
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
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            return UnknownModel(
                f"the hub has no model {model!r}, or doesn't show it to you: check the spelling; for a private model "
                "set HF_TOKEN. There is no directory of that name either"
            )
        case errors.OfflineModeIsEnabled():
            return DownloadError("HF_HUB_OFFLINE is set, and the hub's own cache doesn't have the model")
        case TimeoutError():
            return DownloadError(f"{endpoint} didn't answer within {CONNECT_SECONDS + _ANSWER_SECONDS:.0f} seconds")
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return DownloadError(f"{endpoint}: {first}")


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


def _forwarding(bar: Bar) -> Any:
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
