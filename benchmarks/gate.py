"""Compare the speed of this tree with that of a commit, and fail if it became more than 5 % slower.

    python benchmarks/gate.py COMMIT [--models minilm gemma] [--dtypes float32 int16] [--json FILE]  (`make bench-gate`)
    python benchmarks/gate.py --module FILE ...    # with this tree's own sources and another build of the native module

Both trees are loaded in processes of their own and measured in turns; which one goes first changes with each round. A
round gives one ratio for each figure: the speed of this tree divided by that of the commit. Because both were measured
within the same seconds, the ratio is free of the slow changes of a shared machine. The verdict rests on an interval for
the median of the ratios, which needs no assumption about how the noise is distributed:

- "slower": the whole interval is below 0.95. The exit code is 1.
- "as fast": the whole interval is above 0.95.
- "undecided": more rounds are measured, up to `--most`. If they don't decide it, the exit code is 2.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from bench import processor, rest
from rivals import ROOT, Rival, assets
from rounds import Peer
from trees import with_module, worktree

from embergem.diagnostics.speed import loads
from embergem.hub.resolve import resolve
from embergem.loader import load
from embergem.options import LoadOptions

ALLOWED = 0.95
"""Least ratio of speeds that passes."""
CONFIDENCE = 0.95
FEWEST = 9
"""Rounds before the first verdict. With fewer than 6, no interval of ratios has the confidence."""

Ratios = dict[str, list[float]]


def interval(values: list[float]) -> tuple[float, float]:
    """Return the confidence interval of the median of `values`, from order statistics.

    Each value is above the median with probability 1/2, so the number of values below it is binomial. The interval is
    the narrowest pair of the k-th least and k-th greatest value that holds the median with at least `CONFIDENCE`.

    Raises:
        ValueError: There are too few values for this confidence.
    """
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    while rank < count // 2:
        outside += 2 * math.comb(count, rank) / 2**count
        if 1 - outside < CONFIDENCE:
            break
        rank += 1
    if rank == 0:
        raise ValueError(f"{count} values have no interval of confidence {CONFIDENCE}: measure at least 6 rounds")
    return ordered[rank - 1], ordered[-rank]


def verdict(values: list[float]) -> str:
    """Return "slower", "as fast" or "undecided" for the ratios of one figure."""
    low, high = interval(values)
    if high < ALLOWED:
        return "slower"
    return "as fast" if low >= ALLOWED else "undecided"


def compare(name: str, dtype: str, checkpoint: Path, other: Path, most: int) -> Ratios:
    """Measure rounds of both trees until every figure is decided, or `most` rounds are done."""
    with load(LoadOptions(model=checkpoint)) as engine:
        work = loads(engine.vocab_size, engine.limit)
        order = work | rest(engine, work)
    ratios: Ratios = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        path = Path(scratch) / "order.json"
        path.write_text(json.dumps(order))
        peers = []
        for tree in (ROOT, other):
            way = Rival(Path(sys.executable), f"embergem-{dtype}", str(checkpoint), source=tree / "src")
            peers.append(stack.enter_context(Peer(way, path, path.with_name(f"{len(peers)}.npy"))))
            peers[-1].answer()
        bits = "equal" if np.array_equal(peers[0].vectors(), peers[1].vectors()) else "different"
        print(f"{name} {dtype}: the bits of the vectors are {bits}", file=sys.stderr, flush=True)
        for count in range(1, most + 1):
            found = {peer: speeds(peer.ask("round")) for peer in (peers if count % 2 else peers[::-1])}
            ours, theirs = (found[peer] for peer in peers)
            for figure, value in ours.items():
                ratios.setdefault(figure, []).append(value / theirs[figure])
            print(f"{name} {dtype}: round {count}", file=sys.stderr, flush=True)
            if count >= FEWEST and all(verdict(values) != "undecided" for values in ratios.values()):
                break
    return ratios


def speeds(answer: dict[str, Any]) -> dict[str, float]:
    """Return the speeds of one round: tokens a second of each load, and queries a second, one at a time."""
    found = {load: float(figures["tokens_per_second"]) for load, figures in answer["loads"].items()}
    return found | {"one query": 1000 / answer["query_ms_p50"]}


def main() -> int:
    """Compare the trees and print the table."""
    checkpoints = {"minilm": resolve(LoadOptions()).path, "gemma": assets() / "random-embeddinggemma-300m"}
    parser = argparse.ArgumentParser(description="Fail if this tree is more than 5 %% slower than a commit.")
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument("commit", nargs="?", help="the commit to compare with, such as HEAD~1 or main")
    against.add_argument("--module", type=Path, metavar="FILE", help="compare with another build of the native module")
    parser.add_argument("--models", nargs="+", choices=list(checkpoints), default=list(checkpoints))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "int16"])
    parser.add_argument("--most", type=int, default=25, help="rounds after which a figure stays undecided")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios of every round here")
    given = parser.parse_args()
    if given.most < FEWEST:
        parser.error(f"--most {given.most}: at least {FEWEST} rounds are needed")
    measured: dict[str, Ratios] = {}
    with worktree(given.commit) if given.commit else with_module(given.module) as other:
        for name in given.models:
            for dtype in given.dtypes:
                measured[f"{name} {dtype}"] = compare(name, dtype, checkpoints[name], other, given.most)
    compared = given.commit or given.module.name
    print(f"{processor()}, CPython {platform.python_version()}; this tree / {compared}, {CONFIDENCE:.0%} interval\n")
    print("| model | figure | rounds | median ratio | interval | verdict |\n| --- | --- | --- | --- | --- | --- |")
    verdicts = set()
    for model, ratios in measured.items():
        for figure, values in ratios.items():
            low, high = interval(values)
            verdicts.add(verdict(values))
            middle = statistics.median(values)
            print(f"| {model} | {figure} | {len(values)} | {middle:.3f} | {low:.3f}–{high:.3f} | {verdict(values)} |")
    if given.json is not None:
        given.json.write_text(json.dumps({"commit": compared, "ratios": measured}, indent=1) + "\n")
    return 1 if "slower" in verdicts else 2 if "undecided" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
