"""A few seeded kills of `make soak-bulk`: a killed job continues to the bytes of an undisturbed one."""

import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the soak forks processes and kills them", allow_module_level=True)

PROGRAM = Path(__file__).parents[2] / "scripts" / "soak_bulk.py"


def test_killed_jobs_continue_to_the_same_bytes():
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--kills", "8", "--full-disks", "0", "--rows", "600", "--seed", "5"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["8 kills, 0 full disks, 0 faults"], done.stdout + done.stderr
