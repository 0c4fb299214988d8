"""The memory of a process by kind, and a load that returns what it needs no more."""

import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from embergem import Embedder
from embergem.memory_use import MemoryUse, memory_use

SMAPS = """\
00400000-00500000 r-xp 00000000 08:02 173521 /usr/bin/python3 (stable)
Size:               1024 kB
Rss:                 800 kB
Anonymous:             4 kB
VmFlags: rd ex mr mw me
7f00000000-7f00100000 r--s 00000000 08:02 17 /home/a user/packed/0123.packed
Size:               2048 kB
Rss:                2000 kB
Anonymous:             0 kB
7f00200000-7f00300000 r--s 00000000 08:02 18 /models/model.safetensors (deleted)
Size:               4096 kB
Rss:                  12 kB
Anonymous:             0 kB
7f00400000-7f00500000 rw-p 00000000 00:00 0
Size:                512 kB
Rss:                 300 kB
Anonymous:           300 kB
"""


def test_mappings_are_counted_by_kind(tmp_path):
    (tmp_path / "smaps").write_text(SMAPS)
    use = memory_use(tmp_path)
    kib = {name: getattr(use, name) // 1024 for name in MemoryUse.__slots__}
    assert kib == {"packed": 2000, "weights": 12, "weights_mapped": 4096, "anonymous": 304, "programs": 796}
    assert str(use).startswith("3 MiB resident: 2 packed weights (mapped from the cache), 0 of 4 weight files")


def test_a_system_without_the_file(tmp_path):
    assert memory_use(tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_loaded_model_is_counted(tiny):
    before = memory_use()
    with Embedder(tiny):
        after = memory_use()
    assert after.weights_mapped - before.weights_mapped >= (tiny / "model.safetensors").stat().st_size
    assert after.packed > before.packed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_prints_the_memory_once_its_models_are_loaded(serve_tiny):
    lines = []

    def announce(line):
        lines.append(line)
        if "  curl" in line:
            signal.raise_signal(signal.SIGTERM)

    assert serve_tiny(announce=announce)
    [line] = [line for line in lines if line.startswith("memory: ")]
    assert "packed weights (mapped from the cache)" in line


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_first_load_leaves_no_pages_of_the_checkpoint(minilm, tmp_path):
    code = dedent("""
        import sys
        from embergem import Embedder
        from embergem.memory_use import memory_use
        with Embedder(sys.argv[1]):
            use = memory_use()
        print(use.weights / use.weights_mapped)
    """)
    environment = os.environ | {"EMBERGEM_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, str(minilm)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 0.25
