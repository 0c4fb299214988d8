"""docs/bulk.md names every option of bulk jobs; `test_blocks` runs its blocks."""

from pathlib import Path

import typer

from embergem.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text(encoding="utf-8")


def test_the_page_names_the_options_of_bulk_jobs():
    [command] = [command for name, command in typer.main.get_command(app).commands.items() if name == "embed"]
    panels = ("Rows of the source", "Output")
    options = {option.opts[0] for option in command.params if getattr(option, "rich_help_panel", None) in panels}
    missing = {option for option in options if option not in PAGE} - {"--title-text", "--truncate", "--format", "-o"}
    assert missing - {"--output"} == set()
