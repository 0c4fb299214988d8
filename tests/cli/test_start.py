"""The start and the end of a command: settings of the interpreter, and what is not imported."""

import subprocess
import sys

import pytest
from goldens import DATA

REPORT = """
import atexit, gc, sys
from embergem.cli import main

def report():
    print(gc.get_threshold()[0], gc.get_freeze_count() > 0, "filelock" in sys.modules, file=sys.stderr)

atexit.register(report)
main()
"""


def report(*arguments):
    """Run a command; return its threshold of the collector, whether it is frozen, and whether filelock is imported."""
    command = [sys.executable, "-c", REPORT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    threshold, frozen, imported = done.stderr.split()
    return int(threshold), frozen == "True", imported == "True"


def test_the_collector_runs_seldom_in_a_short_command():
    assert report("embed", "-q", "-m", str(DATA / "gemma3_text"), "hello") == (50_000, True, False)


def test_the_collector_of_a_server_is_unchanged():
    usual = subprocess.run([sys.executable, "-c", "import gc; print(gc.get_threshold()[0])"], capture_output=True)
    threshold, frozen, _ = report("serve", "--help")
    assert (threshold, frozen) == (int(usual.stdout), True)


@pytest.mark.parametrize("arguments", [["embed", "--none"], ["--none"]])
def test_the_collector_is_frozen_after_an_error(arguments):
    done = subprocess.run([sys.executable, "-c", REPORT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "50000 True False"
