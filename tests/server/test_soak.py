"""Run the mixed load and each attack of `make soak` for two seconds, with a fixed seed."""

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from attacked import attacked, report
from attacks import ATTACKS
from soak import TEXTS, Soak

NOISY = 5.0
"""Seconds of p95 that are not too slow on a machine that runs other tests; `make soak` has a stricter limit."""


def test_mixed_load_gives_every_client_its_own_vectors(url, embedder):
    host, port = url.removeprefix("http://").split(":")
    load = Soak(host, int(port), embedder.embed(TEXTS), 1, time.monotonic() + 2)

    async def run():
        await asyncio.gather(*(load.busy() for _ in range(8)), *(load.idle() for _ in range(24)))

    asyncio.run(run())
    assert load.faults == []
    assert set(load.statuses) <= {200, 400, 404, 429}
    assert load.statuses[200] > 24


def test_attackers_neither_stop_the_server_nor_change_its_answers(tiny):
    findings = list(attacked(str(tiny), 2, seed=1, settle=0, noise=NOISY))
    assert [found.name for found in findings] == ["idle", *ATTACKS, "changed files, after a restart"]
    assert not [fault for found in findings for fault in found.faults], report(findings)
    assert all(found.requests for found in findings), report(findings)
