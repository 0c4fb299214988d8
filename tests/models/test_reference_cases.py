"""A changed checkpoint gives the vectors that the published library gives for it, or it is refused.

`scripts/reference_cases.py` derives the cases from the goldens and stores the answers of the library: every field of
the config class with another value, settings of the other JSON files, files that are added, renamed or removed.
"""

import sys
from collections import Counter

import pytest
from goldens import DATA

from embergem.models import families

sys.path.insert(0, str(DATA.parents[2] / "scripts"))
from families import goldens
from reference_table import CASES, PAGE, page, results

GOLDENS = sorted(CASES["answers"])


def test_every_family_has_cases():
    without = {name for name in families() if not any(path.name in GOLDENS for path in goldens(name))}
    assert without == set()
    few = {name for name in GOLDENS if len(CASES["answers"][name]["cases"]) <= 80}
    assert few == {"static_embedding"}  # it has no config.json


@pytest.mark.parametrize("name", GOLDENS)
def test_no_case_is_answered_with_another_models_vectors(name):
    found = results(name)
    assert found[0].kind == "equal"  # the checkpoint as it is
    assert {str(one.edit): one.detail for one in found if one.kind == "wrong"} == {}
    kinds = Counter(one.kind for one in found)
    most = len(found)
    assert kinds["equal"] > most / 4  # bookkeeping is no reason to refuse a checkpoint
    assert kinds["refused"] > most / 10


def test_the_table_in_the_documentation_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "stale: run `make reference-table` and commit docs/trust.md"
