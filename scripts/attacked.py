"""Run the attacks of `attacks` against a server, one after the other, and measure an innocent client meanwhile."""

import asyncio
import base64
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from attacks import ATTACKS
from rawhttp import ask, hang_up
from served import served

from embergem import Embedder
from embergem.config import Settings
from embergem.server.text_queue import FIXED_MEMORY, MEMORY_FACTOR

CONNECTIONS = 50
"""Connections of the attacked server: fewer than the attack with refused bodies opens."""

PAUSE = 0.02
"""Seconds between two requests of the innocent client."""

SLOWER = 3.0
"""Most p95 of the innocent client in an attack, as a multiple of its p95 without one."""

NOISE = 0.1
"""Seconds of p95 that are never too slow: the attacker and the scripts take part of the processor, too."""


@dataclass
class Findings:
    """What one attack did.

    Attributes:
        name: Name of the attack; "idle" for none.
        statuses: Responses to the attackers by status and error code.
        requests: Requests of the innocent client.
        p95: 95 % of these took less, in seconds.
        peak, settled: Largest resident memory of the server, and the resident memory after a pause, in bytes.
        wrong: Vectors that are not those of this process, of the attackers and of the innocent client.
        faults: What must not happen, each described.
    """

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    p95: float = 0.0
    peak: int = 0
    settled: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)


class Innocent:
    """A client that embeds one new text after the other, each on a connection of its own."""

    def __init__(self, host: str, port: int, name: str) -> None:
        self.host, self.port, self.name = host, port, name
        self.seconds: list[float] = []
        self.answers: list[tuple[str, str]] = []
        self.faults: list[str] = []

    async def run(self, attack: "asyncio.subprocess.Process | None", until: float) -> None:
        """Send requests until `until`, or until the attack has ended."""
        while time.monotonic() < until if attack is None else attack.returncode is None:
            text = f"innocent {self.name} {len(self.seconds)}"
            body = json.dumps({"input": text, "encoding_format": "base64"}).encode()
            start = time.monotonic()
            try:
                stream = await asyncio.open_connection(self.host, self.port)
                try:
                    status, answer = await ask(stream, "POST", "/v1/embeddings", body)
                finally:
                    await hang_up(stream[1])
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.faults.append(f"the innocent client has {error!r}")
            else:
                self.seconds.append(time.monotonic() - start)
                if status == 200:
                    self.answers.append((text, json.loads(answer)["data"][0]["embedding"]))
                else:
                    self.faults.append(f"the innocent client got {status}: {answer[:200]!r}")
            await asyncio.sleep(PAUSE)


def wrong_vectors(embedder: Embedder, answers: Sequence[tuple[str, str]]) -> int:
    """Return how many base64 vectors are not, to the bit, those that this process computes."""
    if not answers:
        return 0
    expected = embedder.embed([text for text, _ in answers])
    found = [np.frombuffer(base64.b64decode(vector), "<f4") for _, vector in answers]
    return sum(not np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


async def measure(name: str, address: str, pid: int, seconds: float, seed: int, directory: Path) -> tuple[Any, Any]:
    """Run one attack, or none if the name is "idle"; return the innocent client and the result of the attackers."""
    host, port = address.split(":")
    innocent = Innocent(host, int(port), name)
    if name == "idle":
        await innocent.run(None, time.monotonic() + seconds)
        return innocent, {"statuses": {}, "answers": []}
    attack = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("attacks.py")), name, address,
        "--seconds", str(seconds), "--seed", str(seed), "--directory", str(directory),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    (printed, _), _ = await asyncio.gather(attack.communicate(), innocent.run(attack, 0))
    if attack.returncode != 0:
        memory(pid, "VmRSS")
        raise SystemExit(f"the attack {name!r} failed")
    return innocent, json.loads(printed)


def reset_peak(pid: int) -> None:
    """Let the kernel forget the largest resident memory of a process."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def memory(pid: int, field: str) -> int:
    """Return a field of /proc/PID/status, in bytes: `VmRSS` is the resident memory, `VmHWM` its largest value.

    Raises:
        SystemExit: The process has ended.
    """
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("The server has ended.")
    return 1024 * int(found.group(1))


def attacked(
    model: str,
    seconds: float,
    seed: int,
    names: Sequence[str] = tuple(ATTACKS),
    *,
    settle: float = 5.0,
    noise: float = NOISE,
) -> Iterator[Findings]:
    """Attack a server of `model`, and yield the findings: without an attack, then of each of `names`.

    A second model of the server is a copy, whose files an attack changes. At the end, a new server with the same cache
    file must give the right vectors for the texts that were embedded meanwhile.

    Args:
        model: Directory of the model.
        seconds: Duration of each attack.
        seed: Of the attackers' choices.
        names: The attacks.
        settle: Seconds after each attack before the memory is measured again.
        noise: A p95 in seconds that is not too slow.
    """
    with tempfile.TemporaryDirectory() as scratch, Embedder(model) as embedder:
        copy = Path(shutil.copytree(model, Path(scratch) / "copy"))
        environment = os.environ | {
            "EMBERGEM_MAX_CONNECTIONS": str(CONNECTIONS),
            "EMBERGEM_CACHE_PATH": str(Path(scratch) / "vectors"),
            "EMBERGEM_ACCESS_LOG": "off",
        }
        arguments = ("-m", model, "-m", str(copy))
        changed: list[str] = []
        with served(*arguments, environment=environment) as (url, pid):
            address = url.removeprefix("http://")
            idle = Findings("idle")
            for name in ("idle", *names):
                before = memory(pid, "VmRSS")
                reset_peak(pid)
                innocent, result = asyncio.run(measure(name, address, pid, seconds, seed, copy))
                found = Findings(name, Counter(result["statuses"]), len(innocent.seconds), peak=memory(pid, "VmHWM"))
                found.p95 = float(np.quantile(innocent.seconds, 0.95)) if innocent.seconds else float("inf")
                found.faults += innocent.faults
                found.wrong = wrong_vectors(embedder, [*innocent.answers, *result["answers"]])
                idle = found if name == "idle" else idle
                time.sleep(settle)
                found.settled = memory(pid, "VmRSS")
                if name != "idle":
                    judge(found, idle, before, noise)
                if name == "changed files":
                    changed = [text for text, _ in result["answers"]]
                yield found
        if changed:
            with served(*arguments, environment=environment) as (url, _):
                yield asyncio.run(after_restart(url.removeprefix("http://"), embedder, changed))


def judge(found: Findings, idle: Findings, before: int, noise: float) -> None:
    """Add to the findings of an attack what must not have happened; `before` is the memory before the attack."""
    attack = ATTACKS[found.name]
    allowed = before + FIXED_MEMORY + MEMORY_FACTOR * attack.clients * attack.body_bytes
    if found.peak > allowed:
        found.faults.append(f"peak memory of {found.peak / 2**20:.0f} MiB, above {allowed / 2**20:.0f} MiB")
    if found.p95 > max(noise, SLOWER * idle.p95):
        found.faults.append(f"p95 of {1000 * found.p95:.0f} ms is {found.p95 / idle.p95:.1f} times that of idle")
    if found.wrong:
        found.faults.append(f"{found.wrong} wrong vectors")
    for status, times in found.statuses.items():
        if status not in attack.allowed:
            found.faults.append(f"{times} times {status}")


async def after_restart(address: str, embedder: Embedder, texts: Sequence[str]) -> Findings:
    """Embed texts with the copy, whose files are as before: the cache file must have no vector of the changed files."""
    host, port = address.split(":")
    found = Findings("changed files, after a restart", requests=len(texts))
    stream = await asyncio.open_connection(host, int(port), limit=2**26)
    vectors: list[str] = []
    most = Settings().max_inputs
    for start in range(0, len(texts), most):
        part = list(texts[start : start + most])
        body = {"model": "copy", "input": part, "encoding_format": "base64"}
        status, answer = await ask(stream, "POST", "/v1/embeddings", json.dumps(body).encode())
        if status != 200:
            found.faults.append(f"{status}: {answer[:200]!r}")
            break
        vectors += [item["embedding"] for item in json.loads(answer)["data"]]
    await hang_up(stream[1])
    if found.faults:
        return found
    found.wrong = wrong_vectors(embedder, list(zip(texts, vectors, strict=True)))
    if found.wrong:
        found.faults.append(f"{found.wrong} wrong vectors came from the cache file")
    return found


def report(findings: Sequence[Findings]) -> str:
    """Return the findings as a table."""
    columns = f"{'attack':32} {'p95 ms':>8} {'requests':>8} {'peak MiB':>8} {'after':>5} {'wrong':>5}"
    lines = [f"{columns}  responses to the attackers"]
    for found in findings:
        statuses = ", ".join(f"{times} × {status}" for status, times in sorted(found.statuses.items()))
        peak, settled = found.peak / 2**20, found.settled / 2**20
        figures = f"{1000 * found.p95:8.1f} {found.requests:8} {peak:8.0f} {settled:5.0f} {found.wrong:5}"
        lines.append(f"{found.name:32} {figures}  {statuses}")
        lines += [f"  FAULT: {fault}" for fault in dict.fromkeys(found.faults)]
    return "\n".join(lines)
