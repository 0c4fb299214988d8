"""Output on a terminal of 40 or 80 columns: no line is wider than the terminal."""

import os
import re
import subprocess
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are those of POSIX", allow_module_level=True)

import pty
import termios


def on_terminal(columns, *arguments):
    """Run a command whose standard output is a terminal; return its lines without colours."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment |= {"HF_HUB_OFFLINE": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "embergem", *arguments]
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.PIPE, env=environment) as process:
        os.close(terminal)
        shown = b""
        while part := _read(controller):
            shown += part
        errors = process.stderr.read().decode()
    os.close(controller)
    assert process.returncode == 0, errors
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).splitlines()


def _read(controller):
    try:
        return os.read(controller, 65536)
    except OSError:  # the last program has closed the terminal
        return b""


@pytest.mark.parametrize("columns", [40, 80])
def test_the_table_of_vectors_fits_the_terminal(tiny, columns):
    texts = ["What is graphene?", "A text that is longer than the forty characters of the table."]
    lines = on_terminal(columns, "embed", "--quiet", "-m", str(tiny), "--format", "table", *texts)
    assert max(map(len, lines)) <= columns
    assert any("What is graphene?" in line for line in lines)
    assert any("…" in line for line in lines)
    assert any(re.search(r"[+-]\d\.\d{4} +│ 1\.0000", line) for line in lines)


@pytest.mark.parametrize("columns", [40, 80])
def test_digests_and_findings_fit_the_terminal(tiny, columns):
    lines = on_terminal(columns, "models", "show", "minilm")
    digests = [line for line in lines if re.fullmatch(r" *[0-9a-f]{64}", line)]
    assert len(digests) >= 5
    assert max(len(line) for line in lines if line not in digests) <= columns
    findings = on_terminal(columns, "doctor", str(tiny))
    directory = str(tiny)
    assert max(len(line) for line in findings if directory not in line) <= columns
    assert any("batch_invariance" in line for line in findings)
