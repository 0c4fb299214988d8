"""Draw the speed that `bench.py` measured: python benchmarks/plot.py [RESULT.json [FOLDER]]  (`make pictures`).

Without arguments, the result that docs/performance.md names first is drawn into docs/plots. For each model there is a
plot of the speed and of the latency by text length, and bars with the speed of every engine. Nothing but the figures of
the file decides what is drawn, so the same file gives the same pictures.
"""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from svg import Picture  # noqa: E402 - the scripts are no package

LEFT, RIGHT, TOP, BOTTOM = 54, 456, 60, 300
"""The area of a plot inside its picture."""
KINDS = {
    "tokens_per_second": "tokens per second, in batches of 2,048 tokens",
    "latency_ms": "milliseconds for one text",
}
NAMES = {"gemma": "EmbeddingGemma 300m", "minilm": "all-MiniLM-L6-v2"}


def style(engine: str) -> str:
    """Return the classes of an engine's line: a colour for float32 and integers, dashes for other engines."""
    colour = "first" if engine.endswith("32") else "second"
    return colour if engine.startswith("embergem") else f"{colour} dashed"


def by_length(model: str, kind: str, lines: dict[str, dict[int, float]]) -> Picture:
    """Draw a figure by the length of the text, which has a logarithmic axis; so has the latency."""
    picture = Picture(f"{NAMES[model]}: {KINDS[kind]}, by the length of the text", 360 + 22 * math.ceil(len(lines) / 2))
    picture.text(16, 28, NAMES[model], "bold")
    picture.text(16, 47, KINDS[kind], "soft")
    lengths = sorted({length for points in lines.values() for length in points})
    values = [value for points in lines.values() for value in points.values()]
    ticks = _powers(min(values), max(values)) if kind == "latency_ms" else _steps(max(values))

    def x(length: float) -> float:
        return LEFT + (RIGHT - LEFT) * math.log(length / lengths[0]) / math.log(lengths[-1] / lengths[0])

    def y(value: float) -> float:
        if kind == "latency_ms":
            share = math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])
        else:
            share = value / ticks[-1]
        return BOTTOM - (BOTTOM - TOP) * share

    for tick in ticks:
        picture.path([(LEFT, y(tick)), (RIGHT, y(tick))], "grid")
        picture.text(LEFT - 6, y(tick) + 4, f"{tick:,.0f}", "soft end")
    for length in lengths:
        picture.text(x(length), BOTTOM + 18, f"{length:,}", "soft middle")
    picture.text((LEFT + RIGHT) / 2, BOTTOM + 38, "tokens of a text", "soft middle")
    for index, (engine, points) in enumerate(lines.items()):
        places = [(x(length), y(value)) for length, value in sorted(points.items())]
        picture.path(places, style(engine))
        for place in places:
            picture.dot(*place, f"{style(engine).split()[0]}-fill")
        column, row = index % 2, index // 2
        left, top = 16 + 232 * column, BOTTOM + 64 + 22 * row
        picture.path([(left, top - 5), (left + 34, top - 5)], style(engine))
        picture.text(left + 42, top, engine)
    return picture


def bars(model: str, engines: dict[str, dict[str, Any]]) -> Picture:
    """Draw the tokens per second of each engine on queries and on documents."""
    speeds = {
        name: [engine["loads"][load]["tokens_per_second"] for load in ("queries", "documents")]
        for name, engine in engines.items()
    }
    picture = Picture(f"{NAMES[model]}: tokens per second of each engine", 78 + 46 * len(speeds))
    picture.text(16, 28, NAMES[model], "bold")
    picture.text(16, 47, "tokens per second: queries above, documents below", "soft")
    scale = 230 / max(max(pair) for pair in speeds.values())
    for index, (name, pair) in enumerate(speeds.items()):
        top = 62 + 46 * index
        picture.text(180, top + 22, name, "end bold" if name.startswith("embergem") else "end")
        for row, speed in enumerate(pair):
            colour = ("first-fill", "second-fill")[row] if name.startswith("embergem") else "other-fill"
            picture.bar(188, top + 17 * row, scale * speed, 15, colour, radius=2)
            picture.text(188 + scale * speed + 5, top + 12 + 17 * row, f"{speed:,.0f}", "soft")
    return picture


def _steps(largest: float) -> list[float]:
    """Return the ticks of a linear axis from 0 to above `largest`."""
    step = next(factor * 10**power for power in range(9) for factor in (1, 2, 5) if 6 * factor * 10**power >= largest)
    return [float(step * index) for index in range(math.ceil(largest / step) + 1)]


def _powers(smallest: float, largest: float) -> list[float]:
    """Return the ticks 1, 2, 5, 10, … of a logarithmic axis around the values."""
    ticks = [factor * 10.0**power for power in range(7) for factor in (1, 2, 5)]
    first = max(index for index, tick in enumerate(ticks) if tick <= max(smallest, 1))
    last = min(index for index, tick in enumerate(ticks) if tick >= largest)
    return ticks[first : last + 1]


def shown() -> Path:
    """Return the result file that docs/performance.md names first."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    [name] = re.findall(r"`(benchmarks/results/[^`]+-gemma-minilm\.json)`", page)[:1]
    return ROOT / name


def main(result: Path, folder: Path) -> None:
    """Write the pictures of each model in the result."""
    folder.mkdir(parents=True, exist_ok=True)
    for model, engines in json.loads(result.read_text(encoding="utf-8"))["models"].items():
        for kind in KINDS:
            lines = {
                name: {int(length): value for length, value in engine["lengths"][kind].items()}
                for name, engine in engines.items()
                if engine.get("lengths")
            }
            (folder / f"{model}-{kind}.svg").write_text(str(by_length(model, kind, lines)), encoding="utf-8")
        (folder / f"{model}-engines.svg").write_text(str(bars(model, engines)), encoding="utf-8")


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    main(arguments[0] if arguments else shown(), arguments[1] if arguments[1:] else ROOT / "docs" / "plots")
