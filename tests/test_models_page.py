"""docs/models.md is what the catalog makes it."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from models_page import PAGE, families, page  # noqa: E402 - the scripts are no package
from parity_table import GOLDENS, ROWS, TOLERANCE, difference  # noqa: E402


def test_the_page_is_not_stale():
    text = PAGE.read_text()
    assert page(families(text)) == text, "run `make models-page`"


def test_every_family_has_a_figure_within_the_tolerance():
    table = families(PAGE.read_text())
    for row in ROWS:
        [line] = [line for line in table.splitlines() if line.startswith(f"| {row.family} |")]
        figures = [float(figure) for figure in re.findall(r"\d\.\de-\d\d", line)]
        assert figures, line
        assert max(figures) < TOLERANCE


def test_the_command_measures():
    assert 0 < difference("bert_mean", GOLDENS / "bert_mean") < 1e-6
