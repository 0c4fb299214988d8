"""Measure the time of each operation of a batch, and its rate.

    python benchmarks/steps.py [MODEL] [--dtype int16] [--load documents] [--rows 16]

Every step of the program is timed alone. The fastest of several runs counts, because noise only slows.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from embergem.diagnostics.speed import loads
from embergem.loader import load
from embergem.options import LoadOptions

RUNS = 7


def main() -> None:
    """Measure every step and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--load", default="documents", choices=("queries", "documents", "mixed"))
    parser.add_argument("--rows", type=int, default=16, help="number of texts in the batch")
    parser.add_argument("--length", type=int, help="tokens of each text; default: the lengths of the load")
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    with load(LoadOptions(model=chosen.model, dtype=chosen.dtype, threads=chosen.threads)) as engine:
        rows = loads(engine.vocab_size, engine.limit)[chosen.load][: chosen.rows]
        lengths = [chosen.length or len(row) for row in rows]
        runs = [engine.profile(lengths) for _ in range(RUNS)]
        peak = engine.peak(0.3)
    groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for timed in zip(*runs, strict=True):
        step, _, operations = timed[0]
        name = step.op
        if step.op == "linear":
            name += f" {step.inputs[0].width} to {step.out.width}" + (" gated" if step.parameters.get("gate") else "")
        groups[name][0] += min(seconds for _, seconds, _ in timed)
        groups[name][1] += operations
    total = sum(time for time, _ in groups.values())
    print(f"{sum(lengths)} tokens in {len(lengths)} texts: {total * 1e3:.1f} ms, {sum(lengths) / total:,.0f} tokens/s")
    print(f"{'operation':32} {'ms':>8} {'share':>6} {'of the float32 peak':>20}")
    for name, (time, operations) in sorted(groups.items(), key=lambda item: -item[1][0]):
        rate = f"{operations / time / peak:.2f}" if operations else ""
        print(f"{name:32} {time * 1e3:8.2f} {time / total:6.1%} {rate:>20}")


if __name__ == "__main__":
    main()
