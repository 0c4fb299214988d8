"""Too little memory, as `ulimit -v` sets it: one clear error and exit code, and a request that fails alone."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from goldens import DATA

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

if sys.platform != "linux":
    pytest.skip("other systems do not limit the address space of a process", allow_module_level=True)

from memory_limits import sweep, sweep_server


def test_every_limit_works_or_ends_with_one_clear_error():
    runs, expected = sweep(DATA / "gemma3_text", 4, seed=3)
    assert {run.limit >> 20: fault for run in runs if (fault := run.fault(expected))} == {}
    assert runs[-1].code == 0
    assert runs[0].code == 4


def test_a_server_without_memory_fails_requests_and_goes_on():
    found = list(sweep_server(DATA / "gemma3_text", 3, seed=1))
    assert [fault for limit in found for fault in limit["faults"]] == []
    assert found[0]["room"] == 0
    assert 507 in found[0]["statuses"]
    assert set(found[-1]["statuses"]) == {200}


def test_running_out_of_memory_fails_requests_and_not_the_process():
    program = f"""
        import resource
        from embergem import Embedder
        from embergem.loader import load
        from embergem.options import LoadOptions

        def limit_to(more):
            size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))

        options = LoadOptions(model={str(DATA / "gemma3_text")!r}, max_batch_tokens=40_000)
        embedder = Embedder(load(options))
        expected = embedder.embed("What is graphene?")
        many = ["graphene " * 15] * 400
        refused = 0
        for more in (*range(0, 4 << 20, 1 << 18), 4 << 20, 16 << 20, 40 << 20):
            limit_to(more)
            try:
                embedder.embed(many)
            except MemoryError:  # InsufficientMemory, or NumPy's error for the array of the result
                refused += 1
        limit_to(1 << 30)
        print(refused)
        assert (embedder.embed("What is graphene?") == expected).all()
        assert embedder.embed(many).shape == (400, 96)
    """
    # A library's panic prints a backtrace then, for which there is no memory either. With an arena for each thread,
    # glibc ends the process if a thread finds no memory for its first thread-local data.
    environment = {**os.environ, "RUST_BACKTRACE": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
