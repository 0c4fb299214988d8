"""docs/models.md is current, and every family has a parity figure within the tolerance."""

import re
import sys
from pathlib import Path

import pytest
from goldens import ROOTS

from embergem.models import families

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from families import goldens, operations  # noqa: E402 - the scripts are no package
from models_page import PAGE, page, parity_rows  # noqa: E402
from parity_table import TOLERANCE, measure  # noqa: E402

TRACKED = [module for module in families() if goldens(module)]
"""Families with a golden in the repository; a family of another directory has none there."""


def figures(row):
    return [float(figure) for figure in re.findall(r"\d\.\de[-+]\d\d", row)]


def test_the_page_is_not_stale():
    text = PAGE.read_text()
    assert page(parity_rows(text)) == text, "run `make models-page`"


@pytest.mark.parametrize("module", TRACKED)
def test_the_page_has_a_figure_of_every_family(module):
    title = families()[module].title
    [row] = [line for line in parity_rows(PAGE.read_text()).splitlines() if line.startswith(f"| {title} |")]
    assert figures(row), "run `make parity-table`"
    assert max(figures(row)) < TOLERANCE


@pytest.mark.parametrize("module", families())
def test_a_family_has_a_row_in_the_parity_table(module, monkeypatch):
    monkeypatch.setattr("parity_table.LARGER", ())  # measuring the larger weights takes minutes
    row, worst = measure(module, ROOTS)
    assert families()[module].differs in row
    assert len(figures(row)) == len(goldens(module, ROOTS)) > 0
    assert worst < TOLERANCE
    assert operations(module, ROOTS)
