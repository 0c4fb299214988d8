"""Search code with a question: python examples/python/code_retrieval.py [MODEL] [FOLDER].

Searches the functions and classes of one package of this repository, or of another folder. Code is embedded as a
document. Its name is the title if the model's prompt has a place for one, and otherwise the first line of the text. The
question gets the prompt for code retrieval.
"""

import ast
import sys
from pathlib import Path

from embergem import Embedder
from embergem.errors import InvalidTask

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parents[2] / "src" / "embergem" / "ops"
QUESTIONS = ["cut a vector to fewer dimensions and normalise it", "scaled dot product attention over keys"]
LINES = 8  # lines of each definition that are embedded


def definitions(path: Path) -> list[tuple[str, str]]:
    """Return the name and the first lines of each function and class of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, kinds)]
    return [
        (f"{path.relative_to(FOLDER)}:{node.lineno} {node.name}", "\n".join(lines[node.lineno - 1 :][:LINES]))
        for node in found
    ]


code = [found for path in sorted(FOLDER.rglob("*.py")) for found in definitions(path)]
if not code:
    sys.exit(f"{FOLDER} has no Python file with a function or class. Name another folder.")
with Embedder(*sys.argv[1:2]) as embedder:
    size = min(embedder.allowed_dimensions)
    names, texts = zip(*code, strict=True)
    try:
        documents = embedder.embed_documents(texts, names, truncate=True, dimensions=size)
    except InvalidTask:  # the model's prompt has no place for a title
        lines = ["\n".join(both) for both in code]
        documents = embedder.embed_documents(lines, truncate=True, dimensions=size)
    task = "code_retrieval" if "code_retrieval" in embedder.tasks else None
    questions = embedder.embed(QUESTIONS, task=task, dimensions=size)
    for question, scores in zip(QUESTIONS, embedder.similarity(questions, documents), strict=True):
        print(question)
        for index in (-scores).argsort()[:3]:
            print(f"  {scores[index]:.3f}  {code[index][0]}")
