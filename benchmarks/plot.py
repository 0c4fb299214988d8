"""Draw the speed by text length that `bench.py` measured: python benchmarks/plot.py RESULT.json FOLDER."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "embergem"  # a fixed salt makes the file the same for the same figures
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import ScalarFormatter  # noqa: E402

KINDS = {"tokens_per_second": "tokens a second, batches of 2,048 tokens", "latency_ms": "milliseconds for one text"}


def main(result: Path, folder: Path) -> None:
    """Write one SVG for each model and kind of figure."""
    folder.mkdir(parents=True, exist_ok=True)
    for model, engines in json.loads(result.read_text())["models"].items():
        for kind, title in KINDS.items():
            figure, axes = plt.subplots(figsize=(7, 4.2))
            for name, engine in engines.items():
                if points := engine.get("lengths", {}).get(kind):
                    style = "-" if name.startswith("embergem") else "--"
                    axes.plot([int(length) for length in points], list(points.values()), style, marker=".", label=name)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(ScalarFormatter())
            if kind == "latency_ms":
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(ScalarFormatter())
            else:
                axes.set_ylim(bottom=0)
            axes.set_xlabel("tokens of a text")
            axes.set_title(f"{model}: {title}", fontsize=10)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
            figure.tight_layout()
            figure.savefig(folder / f"{model}-{kind}.svg", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
