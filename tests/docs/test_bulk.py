"""The snippet of docs/bulk.md runs, and the page names every option of the command."""

import re
from pathlib import Path

import typer

from embergem.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text(encoding="utf-8")


def test_the_snippet_runs(minilm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.csv").write_text("id,body\n1,apples\n2,pears\n3,apples\n4\n")
    [snippet] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(snippet, "bulk.md", "exec"), {})
    assert capsys.readouterr().out == "3 1 1\n{'no_value': (1, ['line 5'])}\n"


def test_the_page_names_the_options_of_bulk_jobs():
    [command] = [command for name, command in typer.main.get_command(app).commands.items() if name == "embed"]
    panels = ("Rows of the source", "Output")
    options = {option.opts[0] for option in command.params if getattr(option, "rich_help_panel", None) in panels}
    missing = {option for option in options if option not in PAGE} - {"--title-text", "--truncate", "--format", "-o"}
    assert missing - {"--output"} == set()
