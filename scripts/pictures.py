"""Draw the pictures of docs/architecture.md: python scripts/pictures.py [FOLDER]  (`make pictures`).

The pictures are written to docs/pictures unless a folder is given. `benchmarks/plot.py` draws the plots.
"""

import sys
from pathlib import Path

from svg import WIDTH, Picture

ROOT = Path(__file__).parents[1]


def request() -> Picture:
    """Draw the way of a request from the entry point to the result."""
    picture = Picture("The way of a request through embergem", 560)
    left, width = 90, 300
    middle = left + width / 2
    picture.box(left, 18, width, 56, "box", "Entry point", "server · Python · command line")
    picture.arrow((middle, 74), (middle, 102))
    picture.text(middle + 10, 92, "texts, task, size", "soft")
    picture.box(left, 102, width, 56, "box", "Tokenizer", "prompt + text → row of token ids")
    picture.arrow((middle, 158), (middle, 186))
    picture.box(left, 186, width, 56, "box", "Table of rows", "cached? in flight? new?")
    picture.path([(middle, 242), (middle, 256)])
    picture.arrow((145, 256), (145, 282))
    picture.arrow((335, 256), (335, 282))
    picture.path([(145, 256), (335, 256)])
    picture.text(middle + 8, 274, "new rows", "soft")
    picture.box(50, 282, 180, 56, "query", "Interactive lane", "queries first")
    picture.box(250, 282, 180, 56, "bulk", "Bulk lane", "over 1,024 tokens")
    picture.path([(140, 338), (140, 356), (340, 356), (340, 338)])
    picture.arrow((middle, 356), (middle, 382))
    picture.box(left, 382, width, 56, "box", "Batch", "packed rows, one native call, no GIL")
    picture.arrow((middle, 438), (middle, 474))
    picture.text(middle + 10, 460, "vectors", "soft")
    picture.box(left, 474, width, 68, "box", "Result", "finite? stored in the cache,", "cut to the requested size")
    picture.arrow((left + width, 214), (462, 214), (462, 508), (left + width, 508))
    picture.text(456, 204, "cached", "soft end")
    picture.path([(left, 214), (20, 214), (20, 456), (middle, 456)], "line dashed")
    picture.text(24, 204, "in flight", "soft")
    return picture


def lanes() -> Picture:
    """Draw how a bulk batch pauses for queries."""
    picture = Picture("A bulk batch pauses between two steps for a query", 250)
    left, right = 104, 466
    for top, name, kind in ((44, "interactive", "query"), (124, "bulk", "bulk")):
        picture.text(left - 10, top + 30, name, "bold end")
        picture.path([(left, top + 52), (right, top + 52)], "grid")
        spans = {"query": ((196, 58), (334, 68)), "bulk": ((104, 90), (256, 76), (404, 62))}[kind]
        for start, length in spans:
            picture.bar(start, top + 8, length, 36, kind, radius=4)
    picture.text(149, 155, "batch 1 …", "middle")
    picture.text(294, 155, "… 1 …", "middle")
    picture.text(435, 155, "batch 2", "middle")
    picture.text(225, 75, "query", "middle")
    picture.text(368, 75, "queries", "middle")
    for x in (195, 333):
        picture.path([(x, 30), (x, 178)], "line dashed")
        picture.text(x, 22, "arrives", "soft middle")
    picture.arrow((left, 206), (right, 206))
    picture.text(right, 226, "time", "soft end")
    picture.text(left, 226, "a bulk batch pauses within one step", "soft")
    return picture


def layers() -> Picture:
    """Draw the layers, highest first."""
    picture = Picture("The layers of embergem, highest first", 432)
    left, width = 16, WIDTH - 32
    picture.text(left, 30, "Python", "soft")
    quarter = (width - 3 * 8) / 4
    for index, name in enumerate(("command", "server", "Embedder", "compat")):
        picture.box(left + index * (quarter + 8), 40, quarter, 40, "box", name)
    picture.arrow((WIDTH / 2, 80), (WIDTH / 2, 102))
    picture.box(left, 102, width, 46, "box", "registry, loader", "names, loading, memory budget")
    picture.arrow((left + 110, 148), (left + 110, 170))
    picture.arrow((left + 338, 148), (left + 338, 170))
    picture.box(left, 170, 220, 62, "query", "engine", "lanes, batches, cache")
    picture.box(left + 228, 170, width - 228, 62, "box", "models → program", "one file a family")
    picture.path([(left, 256), (left + width, 256)], "line dashed")
    picture.text(left, 278, "Rust crates", "soft")
    picture.arrow((left + 110, 232), (left + 110, 288))
    picture.arrow((left + 338, 232), (left + 338, 288))
    third = (width - 2 * 8) / 3
    for index, (name, what) in enumerate(
        (("text", "prompts, tokens"), ("core", "programs, kernels"), ("checkpoint", "files of models"))
    ):
        picture.box(left + index * (third + 8), 288, third, 56, "bulk", name, what)
    picture.arrow((WIDTH / 2, 376), (WIDTH / 2, 344))
    picture.box(left, 376, width, 40, "box", "embergem: the Rust SDK, without Python")
    return picture


def main(folder: Path) -> None:
    """Write one file for each picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (request, lanes, layers):
        (folder / f"{draw.__name__}.svg").write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "pictures")
