"""`make mutants` has tests for every module, and its list of equivalent mutants is not stale."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from mutants import log_key, modules, read_log, reason, sample, source  # noqa: E402 - the scripts are no package
from mutation import changed_lines, mutants  # noqa: E402
from native_mutants import without_line  # noqa: E402

SETTINGS = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())


def test_every_module_has_tests_that_exist():
    assert sorted(SETTINGS["tests"]) == modules()
    files = {name for names in SETTINGS["tests"].values() for name in names}
    assert [name for name in sorted(files) if not (ROOT / "tests" / name).is_file()] == []


def test_every_place_of_native_mutants_has_sources_and_tests():
    for place, names in SETTINGS["native"].items():
        assert list(ROOT.glob(f"{place}**/*.rs" if place.endswith("/") else f"{place}*")), place
        assert [name for name in names if not (ROOT / "tests" / name).exists()] == []
    for entry in SETTINGS.get("native_equivalent", []):
        assert (ROOT / entry["mutant"].split(":")[0]).is_file(), entry["mutant"]
        assert entry["mutant"] == without_line(entry["mutant"])


def test_equivalent_mutants_are_in_the_source():
    changes = {entry["module"]: [] for entry in SETTINGS.get("equivalent", [])}
    for module, found in changes.items():
        found += ["\n".join(changed_lines(source(module), mutant)) for mutant in mutants(source(module))]
    for entry in SETTINGS.get("equivalent", []):
        assert entry["change"].strip() in changes[entry["module"]], "the list has a mutant that is no longer made"
        assert reason(SETTINGS, entry["module"], entry["change"].strip().splitlines())


def test_a_sample_depends_on_its_seed_only():
    drawn = sample(5, seed=1)
    assert drawn == sample(5, seed=1) != sample(5, seed=2)
    assert len({(module, mutant) for module, mutant in drawn}) == 5
    assert all(module.startswith("client/") for module, _ in sample(3, seed=1, only="client/"))


def test_a_log_has_the_last_result_of_each_mutant(tmp_path):
    log = tmp_path / "log"
    assert read_log(log) == {}
    ((module, mutant),) = sample(1, seed=1)
    change = list(changed_lines(source(module), mutant))
    entries = [{"result": result, "module": module, "line": mutant.line, "change": change} for result in ("a", "b")]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert read_log(log) == {log_key(module, mutant.line, change): "b"}


def test_the_missing_heapify_is_a_mutant():
    scheduler = source("engine/scheduler.py")
    made = [mutant.before for mutant in mutants(scheduler) if mutant.after == "pass"]
    assert "heapq.heapify(self._deadlines)" in made


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("a = b < c", ["a = b <= c"]),
        ("a and not b", ["pass", "a or not b", "a and b"]),
        ("if a: b()", ["if not (a): b()", "if a: pass"]),
        ("a = b[:8]", ["a = b", "a = b[:9]"]),
        ("a: int | None = -1", ["a: int | None = 1", "a: int | None = -2"]),
        ("def f(a: int | None = True) -> 'b': 'doc'; return max(a)", [
            "def f(a: int | None = False) -> 'b': 'doc'; return max(a)",
            "def f(a: int | None = True) -> 'b': 'doc'; return None",
            "def f(a: int | None = True) -> 'b': 'doc'; return min(a)",
        ]),
        ("a = (b) + (c)", ["a = (b) - (c)"]),
        ("'é'; a.b = 1", ["'é'; pass", "'é'; a.b = 2"]),
    ],
)  # fmt: skip
def test_mutants_of_small_programs(code, expected):
    made = [mutant.apply(code.encode()).decode() for mutant in mutants(code.encode())]
    assert sorted(made) == sorted(expected)
