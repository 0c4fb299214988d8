"""Measure engines in turns: load each in its own process, then measure one round of each, several times.

The speed of a shared machine changes from minute to minute. If each engine ran from beginning to end, one could get a
fast minute and another a slow one. With rounds, all engines run in both, and the best round of each counts.
"""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from rivals import ROOT, Rival


class Failed(Exception):
    """A process ended without an answer. Its standard error says why."""


class Peer:
    """A process of `peer.py`, which describes the commands."""

    def __init__(self, way: Rival, order: Path, vectors: Path) -> None:
        self._vectors = vectors
        self._process = subprocess.Popen(
            [way.python, ROOT / "benchmarks" / "peer.py", way.kind, way.model, order, vectors],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"PYTHONPATH": str(way.source)} if way.source else {}),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise Failed
        return dict(json.loads(line))

    def ask(self, order: str) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self._process.stdin
        try:
            print(order, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed from None
        return self.answer()

    def vectors(self) -> np.ndarray:
        """Return the vectors of the probe."""
        return np.load(self._vectors)


@dataclass(slots=True)
class Measured:
    """The figures of an engine and its vectors of the probe."""

    result: dict[str, Any]
    vectors: np.ndarray


def side_by_side(ways: dict[str, Rival], order: Path, rounds: int) -> dict[str, Measured]:
    """Measure `rounds` rounds of every engine. A failed engine is left out, and a line on standard error says so."""
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        found: dict[str, Measured] = {}

        def attempt(name: str, what: str, order: str | None = None) -> dict[str, Any] | None:
            try:
                answer = peers[name].ask(order) if order else peers[name].answer()
            except Failed:
                print(f"{name} failed, see above; it is left out", file=sys.stderr, flush=True)
                del peers[name]
                found.pop(name, None)
                return None
            print(f"{name}: {what}", file=sys.stderr, flush=True)
            return answer

        for number, (name, way) in enumerate(ways.items()):
            peers[name] = stack.enter_context(Peer(way, order, order.with_name(f"{number}.npy")))
            if (about := attempt(name, "is loaded")) is not None:
                found[name] = Measured(about, peers[name].vectors())
        for number in range(rounds):
            for name in list(peers):
                if (figures := attempt(name, f"round {number + 1} of {rounds}", "round")) is not None:
                    better(found[name].result, figures)
        for name in [name for name in peers if ways[name].longest]:
            if (lengths := attempt(name, "against length", f"lengths {ways[name].longest}")) is not None:
                found[name].result["lengths"] = lengths
        return found


def better(result: dict[str, Any], figures: dict[str, Any]) -> None:
    """Keep the better figures of this round and of earlier ones, because noise only slows.

    All percentiles of latency are from one round, the one with the lowest median.
    """
    loads = result.setdefault("loads", {})
    for load, of_load in figures["loads"].items():
        loads[load] = max(loads.get(load, of_load), of_load, key=lambda each: float(each["tokens_per_second"]))
    if figures["query_ms_p50"] < result.get("query_ms_p50", float("inf")):
        result |= {key: figures[key] for key in ("query_ms_p50", "query_ms_p99")}
    if "peak_gflops" in figures:
        result["peak_gflops"] = max(result.get("peak_gflops", 0.0), figures["peak_gflops"])
