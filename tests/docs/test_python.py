"""The snippets of docs/python.md and docs/compatibility.md run in order."""

import logging
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SECTIONS = {section.splitlines()[0]: section for section in PAGE.split("\n## ")[1:]}


@pytest.mark.parametrize("title", [title for title, section in SECTIONS.items() if "```python" in section])
def test_snippets_run(title, tiny, minilm, url, capsys):
    snippets = re.findall(r"```python\n(.*?)```", SECTIONS[title], flags=re.DOTALL)
    names = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for snippet in snippets:
            # The tiny model of the same family replaces the gated model, and the port of the test server replaces 1234.
            code = snippet.replace("google/embeddinggemma-300m", str(tiny)).replace("http://localhost:1234", url)
            exec(compile(code, f"python.md: {title}", "exec"), names)
    logging.getLogger("embergem").setLevel(logging.NOTSET)  # undo with_logging, which lasts until the process ends
    assert capsys.readouterr().out.strip()


def test_the_snippet_of_the_compatibility_page_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    [snippet] = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(snippet, "compatibility.md", "exec"), {})
    assert capsys.readouterr().out == "96 (96,)\n"
