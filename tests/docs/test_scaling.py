"""The simulation behind docs/scaling.md, compared with what can be worked out by hand."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import scaling  # noqa: E402 - the benchmarks are no package

MODEL = scaling.Model("a model", 384, rate=100.0, driver=10_000.0)


def test_the_tables_are_those_of_the_measurement(monkeypatch):
    """Of the simulated rows only those of ten machines, because each takes a second."""
    monkeypatch.setattr(scaling, "MACHINES", (10,))
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    result = json.loads((ROOT / "benchmarks" / "results" / "2026-11-30-scaling.json").read_text())
    shown = page.split(scaling.BEGIN)[1].split(scaling.END)[0].strip().splitlines()
    assert set(scaling.tables(result)) <= set(shown), "run make scaling, which also measures again"
    assert len(shown) == 30


def test_one_machine_takes_the_time_of_its_rate():
    outcome = scaling.simulate(MODEL, 1, 400 * scaling.UNIT, seed=0)
    assert outcome.hours == pytest.approx(400 * scaling.UNIT / 100 / 3600, rel=0.001)


def test_stragglers_cost_what_they_do_not_compute(monkeypatch):
    monkeypatch.setattr(scaling, "FAILURE_HOURS", 1e9)
    outcome = scaling.simulate(MODEL, 100, 100_000 * scaling.UNIT, seed=0)
    ideal = 100_000 * scaling.UNIT / (100 * 100) / 3600
    share = scaling.SLOW_SHARE * (1 - scaling.SLOW_SPEED)
    assert outcome.failures == outcome.lost == 0
    assert outcome.hours == pytest.approx(ideal / (1 - share), rel=0.02)


def test_a_driver_is_the_limit_of_many_machines():
    outcome = scaling.simulate(MODEL, 1000, 20_000 * scaling.UNIT, seed=0)
    assert outcome.hours == pytest.approx(20_000 * scaling.UNIT / MODEL.driver / 3600, rel=0.05)
    assert scaling.jobs_for(MODEL, 1000) == 13  # 100,000 documents a second, and 8,000 for each driver
    assert scaling.jobs_for(MODEL, 10) == 1


def test_failures_come_at_their_rate_and_cost_their_unit_and_the_repair(monkeypatch):
    monkeypatch.setattr(scaling, "FAILURE_HOURS", 10.0)
    monkeypatch.setattr(scaling, "SLOW_SHARE", 0.0)
    outcome = scaling.simulate(MODEL, 20, 100_000 * scaling.UNIT, seed=1)
    ideal = 100_000 * scaling.UNIT / (100 * 20) / 3600
    assert outcome.failures == pytest.approx(20 * outcome.hours / 10, rel=0.2)
    assert outcome.lost == pytest.approx(outcome.failures * scaling.UNIT / 100 / 2 / 3600, rel=0.3)
    assert outcome.hours == pytest.approx(ideal * (1 + scaling.REPAIR_HOURS / 10), rel=0.03)
