"""The transcript of docs/evaluate.md; test_blocks.py runs its blocks."""

import json
import re
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from embergem.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")


def test_the_transcript_is_what_the_command_prints(minilm, lee, tmp_path, monkeypatch):
    """Figures may differ in the last digit between processors."""
    texts = (lee / "lee.cor").read_text("latin-1").strip().split("\n")
    judged = np.loadtxt(lee / "similarities0-1.txt")
    judged = np.maximum(judged, judged.T)
    rows = [{"_id": f"d{place}", "title": text.split(".")[0][:40], "text": text} for place, text in enumerate(texts)]
    (tmp_path / "lee" / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        (tmp_path / "lee" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    qrels = [
        f"d{query}\td{document}\t{2 if judged[query, document] > 0.75 else 1}\n"
        for query, document in np.argwhere(judged >= 0.5)
        if query != document
    ]
    (tmp_path / "lee" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(qrels))
    monkeypatch.chdir(tmp_path)
    [command, shown] = re.search(r"\$ embergem (eval lee/.*?)\n(.*?)```", PAGE, flags=re.DOTALL).groups()
    printed = CliRunner().invoke(app, command.split()).stdout
    number = re.compile(r"[+-]?\d\.\d{3}")
    assert [line.split() for line in number.sub("0", printed).splitlines()] == [
        line.split() for line in number.sub("0", shown).splitlines()
    ]
    figures = [np.array(number.findall(text), dtype=float) for text in (printed, shown)]
    assert np.abs(figures[0] - figures[1]).max() < 0.02
