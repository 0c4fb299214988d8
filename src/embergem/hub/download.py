"""Downloads models from the Hugging Face hub, through `huggingface_hub`.

The settings of that library apply: HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, proxies. Its telemetry is switched
off. Only the files that the model's modules.json calls for are downloaded, never pickled weights and never code. Files
that another program has put into the library's cache are used, also without a network.

`download_model` links the files into a directory of embergem's own cache. `download_snapshot` leaves them in the cache
of `huggingface_hub`. The second is for an explicit revision or cache directory, because embergem's cache holds one
version of each model.
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
from embergem.hub.hf_cache import Snapshot, check_pins, describe_revisions, find_snapshot
from embergem.hub.options import HubOptions, revised
from embergem.hub.select import missing_files, needed_files
from embergem.progress import DownloadProgress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
RESPONSE_SECONDS = 5.0

T = TypeVar("T")


class _Repository:
    """The files of a repository at one commit, as the hub declares them."""

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
        """Return the sha256 that the hub declares; None for small files, for which it declares none."""
        lfs = self._files[name].lfs
        return lfs.sha256 if lfs else None

    def get(self, name: str, bar: DownloadProgress) -> Path:
        path = self._download(name, bar, force=False)
        if self._matches_declared_hash(name, path):
            return path
        log.warning("%s of %s is damaged in the hub library's cache. It is downloaded again.", name, self._id)
        path = self._download(name, bar, force=True)
        if not self._matches_declared_hash(name, path):
            raise DownloadError(
                f"{name} of {self._id} arrived with other bytes than the hub declares. Try again, or check the proxy."
            )
        return path

    def _download(self, name: str, bar: DownloadProgress, *, force: bool) -> Path:
        path = self._api.hf_hub_download(
            self._id,
            name,
            # The library records the commit of a branch only if a file is requested by the branch.
            revision=self._options.revision if name == MODULES_FILE else self.commit,
            cache_dir=self._options.cache,
            etag_timeout=CONNECT_SECONDS,
            force_download=force,
            tqdm_class=_progress_class(bar),
        )
        return Path(path)

    def _matches_declared_hash(self, name: str, path: Path) -> bool:
        """Compare a file with the sha256, or else the git object id, that the hub declares."""
        if digest := self.digest(name):
            return digest == sha256(path)
        data = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()
        return self._files[name].blob_id in (git, None)


def download_model(model: str, entry: Entry | None, into: Path, bar: DownloadProgress, options: HubOptions) -> str:
    """Download the files of `model` into the directory `into` and return the commit. The caller checks pinned hashes.

    Raises:
        UnknownModel: The hub has no such model or revision, or does not show it to this account.
        GatedModel: The licence of the model must be accepted first.
        DownloadError: The hub cannot be reached or refuses, or sends other bytes than it declares or the catalog pins.
        CorruptCheckpoint: The repository has no usable modules.json.
        UnsupportedModel: The repository lacks a file, or its modules.json names a module that embergem does not have.
            Weights are not downloaded in this case.
        UnsupportedOption: The token source has no token.
    """
    commit, files = _download_files(model, entry, bar, options)
    for name, path in files.items():
        _link(path.resolve(), into / name)
    return commit


def download_snapshot(model: str, entry: Entry | None, bar: DownloadProgress, options: HubOptions) -> Path:
    """Download the files of `model` into the cache of `huggingface_hub` and return the snapshot's directory there.

    Raises:
        UnknownModel, GatedModel, DownloadError, CorruptCheckpoint, UnsupportedModel, UnsupportedOption: As for
            `download_model`.
    """
    _, files = _download_files(model, entry, bar, options)
    root = files[MODULES_FILE].parent
    if any(path != root / name for name, path in files.items()):
        raise DownloadError(f"{model} changed on the hub during the download. Try again.")
    check_pins(root, entry)
    return root


def _download_files(
    model: str, entry: Entry | None, bar: DownloadProgress, options: HubOptions
) -> tuple[str, dict[str, Path]]:
    """Download the files that the model needs into the cache of `huggingface_hub`; return the commit and their paths.

    If the hub cannot be reached, the files of the cache are used, provided that they are complete.
    """
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    api = huggingface_hub.HfApi(library_name="embergem", token=options.token())
    bar.start(f"asking the hub for {revised(model, options.revision)}", None)
    try:
        return _collect(_look_up(api, model, options), model, entry, bar)
    except EmbergemError:
        raise
    except Exception as error:  # errors of the library, of httpx and of the system: the hub did not deliver
        failure = _translate(error, model, entry, options)
        root = None if isinstance(failure, UnknownModel) else find_snapshot(model, options)
        if root is None or not (root / MODULES_FILE).is_file():
            raise failure from error
        return _collect(Snapshot(root), model, entry, bar)


def _look_up(api: "HfApi", model: str, options: HubOptions) -> _Repository:
    # The library applies its timeout to each address and not to name look-up. A host with many addresses behind a
    # firewall that drops packets would take minutes, so the whole call has a limit.
    info = _call_with_timeout(
        CONNECT_SECONDS + RESPONSE_SECONDS,
        lambda: api.model_info(model, revision=options.revision, files_metadata=True, timeout=CONNECT_SECONDS),
    )
    return _Repository(api, info, options)


def _collect(
    files: _Repository | Snapshot, model: str, entry: Entry | None, bar: DownloadProgress
) -> tuple[str, dict[str, Path]]:
    """Get every file that the model needs; return the commit and the paths of the files."""
    names = set(files.names)
    if MODULES_FILE not in names:
        raise DownloadError(
            f"{model} on the hub has no {MODULES_FILE}. embergem reads models that sentence-transformers saved. Save "
            "the model with sentence-transformers and name that directory."
        )
    modules = parse_modules(files.get(MODULES_FILE, bar).read_bytes(), f"{model}/{MODULES_FILE}")
    wanted = needed_files(modules, names)
    for name in wanted:
        pin, digest = entry.pinned(name) if entry else None, files.digest(name)
        if pin and (files.size(name) != pin.size or (digest and not pin.matches(digest))):
            raise DownloadError(f"{name} on the hub is not the file that embergem expects (sha256 {pin.sha256}).")
    if missing := missing_files(modules, names):
        pickled = [name for name in names if name.endswith((".bin", ".pt"))]
        raise UnsupportedModel(
            f"{model} on the hub has no {', '.join(missing)}, which embergem needs."
            + (f" {', '.join(pickled)} is not read, because pickle files can run code." if pickled else "")
            + " Save the model with sentence-transformers and name that directory."
        )
    bar.start(model, sum(files.size(name) for name in wanted))
    paths: dict[str, Path] = {}
    done = 0
    for name in wanted:
        paths[name] = files.get(name, bar)
        done += files.size(name)
        bar.reach(done)
    return files.commit, paths


UNAUTHORIZED, FORBIDDEN = 401, 403
"""HTTP statuses of a token that is wrong, and of an account without access."""


def _translate(error: Exception, model: str, entry: Entry | None, options: HubOptions) -> EmbergemError:
    """Return the error of embergem for an error of the hub library, of the network or of the system."""
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    match error:
        case errors.GatedRepoError():
            mirror = (
                f" Or name the ungated mirror with the same bytes: {entry.mirror}." if entry and entry.mirror else ""
            )
            if error.response.status_code == FORBIDDEN:
                return GatedModel(
                    f"{model} is gated, and the account of the access token ({options.describe_token()}) is not "
                    f"accepted yet. Ask for access at {endpoint}/{model}, or wait until its authors have answered, and "
                    f"try again.{mirror}"
                )
            return GatedModel(
                f"{model} is gated: its licence must be accepted before the hub gives the files. Accept it at "
                f"{endpoint}/{model}, then set HF_TOKEN to a token of that account.{mirror}"
            )
        case errors.RevisionNotFoundError():
            return UnknownModel(
                f"The hub has no revision {options.revision!r} of {model}. Name a branch, a tag or a commit; "
                f"{endpoint}/{model}/tree/main lists them. On this machine, {describe_revisions(model, options)}."
            )
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            return UnknownModel(
                f"The hub has no model {model!r}, or does not show it to this account, and there is no directory of "
                "that name. Check the spelling; for a private model set HF_TOKEN."
            )
        case errors.HfHubHTTPError() if error.response.status_code == UNAUTHORIZED:
            return DownloadError(
                f"{endpoint} refused the access token ({options.describe_token()}, status 401). Make a new token at "
                f"{endpoint}/settings/tokens and store it with `hf auth login` or in HF_TOKEN. Public models need no "
                "token: unset HF_TOKEN, or run `hf auth logout`."
            )
        case errors.OfflineModeIsEnabled():
            return DownloadError(
                f"HF_HUB_OFFLINE is set, and {_describe_cache(model, options)}. Unset HF_HUB_OFFLINE to download it."
            )
        case TimeoutError():
            reason = f"{endpoint} did not respond within {CONNECT_SECONDS + RESPONSE_SECONDS:.0f} seconds"
        case _:
            reason = f"{endpoint}: {next(iter(str(error).strip().splitlines()), '') or type(error).__name__}"
    return DownloadError(reason if options.plain else f"{reason}; {_describe_cache(model, options)}")


def _describe_cache(model: str, options: HubOptions) -> str:
    """Describe what the hub library's cache lacks and, for an explicit revision or cache directory, what it has."""
    if options.plain:
        return "the hub library's cache does not have the model"
    wanted = "the model" if options.revision is None else f"revision {options.revision!r}"
    return f"{wanted} is not complete on this machine: {describe_revisions(model, options)}"


def _call_with_timeout(seconds: float, call: Callable[[], T]) -> T:
    """Run `call` on a thread and wait for its result. After a timeout the thread runs on, and its result is dropped."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, name="embergem-hub", daemon=True).start()
    return result.result(seconds)


def _progress_class(bar: DownloadProgress) -> Any:
    """Return a class that the hub library uses as its progress bar; it draws nothing and updates `bar`."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # exported, though not in `__all__`

    class Forwarding(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            bar.advance(n or 0)

        def update_transfer(self, n: float) -> None:
            """Ignore bytes on the network. The library counts them apart from bytes on disk, which are shown."""

    return Forwarding


def _link(source: Path, target: Path) -> None:
    """Make a hard link, so that the file takes no space twice; copy if the file system cannot link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # writing into it would change every other link to the same file
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
