"""Calls in a forked process raise `ForkedProcess` instead of waiting for threads that it does not have."""

import subprocess
import sys

CHILD = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of Python, for a fork of a process with threads
from embergem import Embedder
from embergem.errors import ForkedProcess

embedder = Embedder(sys.argv[1])
embedder.embed("a")
child = os.fork()
if child == 0:
    refused = 0
    calls = (lambda: embedder.embed("a"), lambda: next(embedder.embed_stream(["a"])), lambda: Embedder(sys.argv[1]))
    for call in calls:
        try:
            call()
        except ForkedProcess as error:
            assert "spawn" in str(error) and isinstance(error, RuntimeError), error
            refused += 1
    embedder.close()
    os._exit(refused)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), embedder.embed("a").shape)
"""

BEFORE = """
import os, sys
from embergem import Embedder
child = os.fork()
shape = Embedder(sys.argv[1]).embed("a").shape
if child == 0:
    os._exit(shape[1])
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), shape)
"""


def run(code, tiny):
    command = [sys.executable, "-c", code, str(tiny)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_model_cannot_be_used_after_a_fork(tiny):
    assert run(CHILD, tiny) == "3 (1, 96)"


def test_models_loaded_after_the_fork_work_in_both_processes(tiny):
    assert run(BEFORE, tiny) == "96 (1, 96)"
