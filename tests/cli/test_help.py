"""The help of every command is readable in terminals of 40 and 80 columns: no line is too long, and nothing is cut."""

import re
import shutil
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from embergem.cli import main
from embergem.cli.app import app, assemble, fit_help

PATHS = [
    path
    for name, command in get_command(app).commands.items()
    for path in ([name], *([name, inner] for inner in getattr(command, "commands", {})))
]


@pytest.fixture(params=[40, 80])
def help_of(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(request.param))
    fit_help(app, request.param)
    yield lambda *path: (CliRunner().invoke(app, [*path, "--help"]).output, request.param)
    monkeypatch.undo()
    fit_help(app, shutil.get_terminal_size().columns)


@pytest.mark.parametrize("path", [[], *PATHS], ids=lambda path: " ".join(path) or "embergem")
def test_the_help_of_a_command_fits_the_terminal(help_of, path):
    text, columns = help_of(*path)
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert not re.search(r"[a-z]\.\.\.$", text, re.MULTILINE)  # a description that was cut
    assert "[bold]" not in text
    assert not re.search(r"<\w+(\[\w+\])?>", text)  # a type of Python, such as `<bool>` or `<list[str]>`


def test_a_value_has_a_word_and_a_flag_has_none(help_of):
    text, _ = help_of("serve")
    for option, word in {"port": "PORT", "tls-cert": "FILE", "max-batch-tokens": "TOKENS", "cors": "ORIGIN"}.items():
        assert re.search(rf"--{option}\b( +-\w)? +{word}\b", text)
    assert not re.search(r"--strict +[A-Z]{2,}", text)


def test_a_narrow_terminal_has_the_same_options(help_of):
    text, _ = help_of("serve")
    shown = {word.strip(",") for word in text.split() if word.startswith("--")}
    assert {"--model", "--allow-missing-dense", "--max-batch-tokens", "--help"} <= shown
    assert "127.0.0.1." in text  # a default


def test_a_program_of_one_command_says_the_same_about_it(help_of):
    for path in PATHS:
        text, columns = help_of(*path)
        alone = assemble(path)
        fit_help(alone, columns)
        assert CliRunner().invoke(alone, [*path, "--help"]).output == text != "", path


def test_an_unknown_command_is_answered_with_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["embergem", "embde"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "embed" in capsys.readouterr().err
