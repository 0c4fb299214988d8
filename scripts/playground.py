"""Try the playground in Chromium, with a real model and with a tiny one that has prompts and smaller sizes.

    python scripts/playground.py [--only NAME] [--screenshots]

Every view must work with mouse and keyboard, in light and dark, on a desktop and a phone, without a violation that axe
finds; a thousand lines must not freeze it; nothing that a user types may become HTML. `--screenshots` writes
docs/images instead. The copied programs run, the Rust one too. Needs node, npm, Chromium and cargo.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from browser import drive, install
from random_gemma import assets
from served import ROOT, TINY, served

from embergem.catalog import DEFAULT
from embergem.server.api_keys import new_key

IMAGES = ROOT / "docs" / "images"
SIZES = [96, 64]
"""Sizes that the copy of the tiny model declares."""
CRATE = f"""\
[package]
name = "copied"
version = "0.0.0"
edition = "2024"

[dependencies]
embergem = {{ path = {json.dumps(str(ROOT / "crates" / "embergem"))} }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}

[profile.dev]
debug = false
incremental = false

[workspace]
"""
"""A project of a user, with the dependencies that the copied Rust program names."""


@contextmanager
def servers(scratch: Path) -> Iterator[dict[str, object]]:
    """Serve a tiny model with prompts, the default model and a spare one, without keys and with keys."""
    model = shutil.copytree(TINY, scratch / "gemma_tiny")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": SIZES}))
    keys = {name: new_key() for name in ("key", "admin")}
    (scratch / "keys.toml").write_text(
        "".join(
            f'[[keys]]\nname = "{name}"\nsha256 = "{digest}"\nadmin = {str(name == "admin").lower()}\n'
            for name, (_, digest) in keys.items()
        )
    )
    spare = TINY.parent / "bert_mean"
    quiet = ("--access-log", "off")
    with ExitStack() as stack:
        models = [argument for name in (str(model), DEFAULT, str(spare)) for argument in ("-m", name)]
        url, _ = stack.enter_context(served(*models, *quiet, "--batch-path", str(scratch / "batches")))
        closed, _ = stack.enter_context(served("-m", str(model), *quiet, "--keys", str(scratch / "keys.toml")))
        yield {
            "open": url,
            "closed": closed,
            "model": "gemma_tiny",
            "real": DEFAULT,
            "spare": "bert_mean",
            "forms": ["96 × float32", "64 × float32", "96 × int8", "96 × 1 bit"],
            "python": sys.executable,
            **{name: key for name, (key, _) in keys.items()},
        }


def build_crate(scratch: Path) -> Path:
    """Return a Rust project whose dependencies are built, in the versions of the repository's lock."""
    crate = scratch / "copied"
    (crate / "src").mkdir(parents=True)
    (crate / "Cargo.toml").write_text(CRATE)
    (crate / "src" / "main.rs").write_text("fn main() {}\n")
    shutil.copy(ROOT / "Cargo.lock", crate)
    subprocess.run(["cargo", "build", "--quiet"], cwd=crate, check=True)
    return crate


def test(only: str) -> bool:
    """Run the checks whose names contain `only`; print what was found, and return whether all was as expected."""
    os.environ.setdefault("CARGO_TARGET_DIR", str(ROOT / "target"))
    with tempfile.TemporaryDirectory() as scratch:
        crate = build_crate(Path(scratch)) if only in "the programs of Copy as run" else Path()
        with servers(Path(scratch)) as order:
            order = {**order, "crate": str(crate), "only": only}
            results = drive("playground.mjs", json.dumps(order), timeout=1500)
    for name, found in results.items():
        print(f"{name:60} {'as expected' if not found else 'DIFFERENT'}")
        for line in found:
            print(f"    {line}", file=sys.stderr)
    return not any(results.values())


def screenshots() -> None:
    """Write a picture of each view in light and dark."""
    gemma = assets() / "random-embeddinggemma-300m"
    with served("-m", DEFAULT, "-m", str(gemma), "--access-log", "off") as (url, _):
        for path in drive("screenshots.mjs", url, str(IMAGES), timeout=600):
            print(path)


def main() -> None:
    """Test, or write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshots", action="store_true")
    parser.add_argument("--only", default="", help="a part of the names of the checks to run")
    given = parser.parse_args()
    install()
    if given.screenshots:
        screenshots()
    elif not test(given.only):
        sys.exit(1)


if __name__ == "__main__":
    main()
