"""The memory of a server's process: bounded by the body while a text is tokenized, and as before some seconds later."""

import os
import sys
import time
from pathlib import Path

import httpx
import pytest
from goldens import DATA as GOLDENS

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from attacked import memory, reset_peak
from served import served

MIB = 2**20
SIZE = 3 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
@pytest.mark.parametrize("name", ["bert_mean", "gemma3_text"])
def test_long_texts_leave_nothing_in_the_memory_of_a_server(name):
    """Before, each of these texts left up to its own size in the heap of the thread that read it."""
    environment = os.environ | {"EMBERGEM_ACCESS_LOG": "off"}
    with served("-m", str(GOLDENS / name), environment=environment) as (url, pid), httpx.Client(timeout=300) as http:
        short = {"input": ["What is graphene?"] * 3}
        for path in ("tokenize", "embeddings") * 3:
            assert http.post(f"{url}/v1/{path}", json=short).status_code == 200
        idle = memory(pid, "VmRSS")
        for unit in ("a", "中", "e\u0301"):
            body = b'{"input": "%s"}' % (unit * (SIZE // len(unit.encode()))).encode()
            reset_peak(pid)
            assert http.post(f"{url}/v1/tokenize", content=body).status_code == 200
            assert memory(pid, "VmHWM") - idle <= 32 * MIB + 16 * len(body), ascii(unit)
        until = time.monotonic() + 5
        while (left := memory(pid, "VmRSS")) > 1.1 * idle and time.monotonic() < until:
            http.get(f"{url}/health")
        assert left <= 1.1 * idle
