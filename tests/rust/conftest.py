"""The examples of the Rust crate, built once, and requests to the example `pipe`."""

import json
import os
import shutil
import subprocess

import pytest
from goldens import DATA

ROOT = DATA.parents[2]


@pytest.fixture(scope="session")
def examples():
    """Directory of the crate's built examples."""
    if not shutil.which("cargo"):
        pytest.skip("cargo is not there")
    command = ["cargo", "build", "--profile", "checks", "--quiet", "--locked", "--package", "embergem", "--examples"]
    subprocess.run(command, cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    return os.path.join(target, "checks", "examples")


@pytest.fixture
def pipe(examples, tmp_path):
    """Return a function that sends requests to the example `pipe`: (model, requests) -> responses."""

    def ask(model, *requests, dtype="float32", **environment):
        home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", **environment}
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        command = [os.path.join(examples, "pipe"), str(model), dtype]
        done = subprocess.run(
            command, input=lines, env={**os.environ, **home}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask
