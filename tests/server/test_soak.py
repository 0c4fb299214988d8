"""Run the load of `make soak` for two seconds, with a fixed seed."""

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from soak import TEXTS, Soak


def test_mixed_load_gives_every_client_its_own_vectors(url, embedder):
    host, port = url.removeprefix("http://").split(":")
    load = Soak(host, int(port), embedder.embed(TEXTS), 1, time.monotonic() + 2)

    async def run():
        await asyncio.gather(*(load.busy() for _ in range(8)), *(load.idle() for _ in range(24)))

    asyncio.run(run())
    assert load.faults == []
    assert set(load.statuses) <= {200, 400, 404, 429}
    assert load.statuses[200] > 24
