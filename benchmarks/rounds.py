"""Engines side by side, each in a process of its own: all are loaded first, then take turns, a round at a time.

A shared machine is fast in one minute and slow in the next. An engine measured from beginning to end meets one of the
two; in rounds each meets both, and its best counts.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from rivals import ROOT, Rival


class Failed(Exception):
    """A process ended instead of answering; what it had to say is on standard error."""


class Peer:
    """A process of `peer.py`; see there for what it is asked."""

    def __init__(self, way: Rival, order: Path, vectors: Path) -> None:
        self._vectors = vectors
        self._process = subprocess.Popen(
            [way.python, ROOT / "benchmarks" / "peer.py", way.kind, way.model, order, vectors],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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
        """Give an order and wait for its answer."""
        assert self._process.stdin
        try:
            print(order, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Failed from None
        return self.answer()

    def vectors(self) -> np.ndarray:
        """Vectors of the probe."""
        return np.load(self._vectors)


@dataclass(slots=True)
class Measured:
    """What is known of an engine."""

    result: dict[str, Any]
    vectors: np.ndarray


def side_by_side(ways: dict[str, Rival], order: Path, rounds: int) -> dict[str, Measured]:
    """Measure every engine in as many rounds; one that fails is left out, and standard error says so."""
    with ExitStack() as stack:
        peers: dict[str, Peer] = {}
        found: dict[str, Measured] = {}

        def attempt(name: str, what: str, order: str | None = None) -> dict[str, Any] | None:
            try:
                answer = peers[name].ask(order) if order else peers[name].answer()
            except Failed:
                print(f"{name} FAILED, see above; it is left out", file=sys.stderr, flush=True)
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
    """Take over what was better in this round: noise only ever slows.

    Latencies are those of one round, the one with the least median.
    """
    loads = result.setdefault("loads", {})
    for load, of_load in figures["loads"].items():
        loads[load] = max(loads.get(load, of_load), of_load, key=lambda each: float(each["tokens_per_second"]))
    if figures["query_ms_p50"] < result.get("query_ms_p50", float("inf")):
        result |= {key: figures[key] for key in ("query_ms_p50", "query_ms_p99")}
    if "peak_gflops" in figures:
        result["peak_gflops"] = max(result.get("peak_gflops", 0.0), figures["peak_gflops"])
