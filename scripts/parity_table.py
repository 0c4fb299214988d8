"""Measure how near each family comes to the vectors of the published library, and write the table in docs/models.md.

    python scripts/parity_table.py [--print]

The figure is the largest difference in any component, over the stored vectors of every golden checkpoint, and over
larger weights where these are available. The exit status is 1 if one differs by more than the tolerance.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from families import GOLDENS, goldens, parity_row
from models_page import PAGE, page
from random_gemma import assets

from embergem.checkpoint.checkpoint import Location
from embergem.diagnostics.verify.local import LocalModel
from embergem.errors import EmbergemError
from embergem.hub.resolve import resolve
from embergem.models import families
from embergem.options import LoadOptions

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Larger:
    """A golden whose weights are not in the repository, with the module of its family and a label for the table."""

    golden: str
    module: str
    label: str

    def directory(self) -> Path | None:
        """Return where the weights are; None if they are not available."""
        if self.golden == "gemma300m_random":
            directory = assets() / "random-embeddinggemma-300m"
            return directory if directory.exists() else None
        try:
            return resolve(LoadOptions()).path
        except EmbergemError as error:
            print(f"{self.golden}: {error}", file=sys.stderr)
            return None


LARGER = (
    Larger("minilm", "bert", "all-MiniLM-L6-v2"),
    Larger("gemma300m_random", "gemma3_text", "full size, random"),
)


def difference(stored: Path, model: Path) -> float:
    """Return the largest difference in any component between `model` and the vectors in the golden `stored`."""
    inputs = json.loads((stored / "inputs.json").read_text())
    expected = np.load(stored / "expected.npz")["vectors"].astype(np.float64)
    rows = [np.array(ids, dtype=np.uint32) for ids in inputs["ids"]]
    found = LocalModel(Location(model.name, model)).vectors(rows).astype(np.float64)
    return float(np.abs(found - expected).max())


def measure(module: str, roots: Sequence[Path] = (GOLDENS,)) -> tuple[str, float]:
    """Measure the family in `module`: return its row of the table and its largest difference."""
    tiny = [difference(directory, directory) for directory in goldens(module, roots)]
    larger = [
        (difference(GOLDENS / one.golden, directory), one.label)
        for one in LARGER
        if one.module == module and (directory := one.directory())
    ]
    row = parity_row(
        module,
        ", ".join(f"{off:.1e}" for off in tiny) or "not measured",
        ", ".join(f"{off:.1e} ({label})" for off, label in larger),
    )
    return row, max([*tiny, *(off for off, _ in larger)], default=0.0)


def main() -> int:
    """Measure every family, then write the table or print it."""
    measured = [measure(module) for module in families()]
    worst = max(off for _, off in measured)
    table = "\n".join(row for row, _ in measured) + "\n"
    print(table + f"{'within' if worst <= TOLERANCE else 'NOT within'} {TOLERANCE:g}")
    if "--print" not in sys.argv:
        PAGE.write_text(page(table))
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
