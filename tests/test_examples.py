"""The examples run, against the tiny model."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(path, *arguments):
    command = [sys.executable, str(EXAMPLES / path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_python(tiny):
    output = run("python/embedding_gemma.py", str(tiny))
    assert output.count(",") == 4
    assert "Embedding 1: 96 dimensions" in output


def test_server(url):
    output = run("server/embedding.py", f"{url}/v1")
    assert "Embedding 1: 96 dimensions" in output
    assert "The prompt by task is the same: True" in output
