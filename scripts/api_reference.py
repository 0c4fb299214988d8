"""Write docs/api.md, the reference of the Python API, from the docstrings.

python scripts/api_reference.py [--check]

With --check nothing is written; the exit status is 1 when the file is stale.
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from generated import write_or_check

import embergem

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
BESIDE = ("embergem.sentence_transformers.SentenceTransformer",)
INTEGRATIONS = ("langchain", "llama_index", "chroma", "lancedb", "sklearn", "mteb", "arrow")
WIDTH = 100
SECTION = re.compile(r"^(Args|Attributes|Fields|Returns|Yields|Raises|Example):$")


def main() -> int:
    """Write the page or, with --check, compare it."""
    return write_or_check(PAGE, "\n".join(lines()).rstrip() + "\n", "api")


def lines() -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# Python API"
    yield ""
    yield "Generated from the docstrings by `make api`; a test fails when it is stale. Begin at [Python](python.md)."
    yield "Errors are in one tree, which the docstring of `embergem.errors` shows."
    names = [name for name in embergem.__all__ if name not in ("__version__", "errors")]
    things = [(name, getattr(embergem, name)) for name in names]
    for path in BESIDE:
        module, _, name = path.rpartition(".")
        things.append((path, getattr(importlib.import_module(module), name)))
    for name, thing in things:
        yield from class_lines(name, thing)
    yield from ("", "## Integrations", "")
    for name in INTEGRATIONS:
        # The library of an integration may be missing, so its module is parsed, not imported.
        source = (ROOT / f"src/embergem/integrations/{name}.py").read_text(encoding="utf-8")
        yield f"- `embergem.integrations.{name}`: {source.splitlines()[0].strip(chr(34))}"


def class_lines(name: str, thing: Any) -> Iterator[str]:
    """Yield the lines of a class with its public members."""
    yield from ("", f"## {name}", "")
    if "__init__" in vars(thing) or is_dataclass(thing):
        yield from code(constructor(thing))
    yield from text(thing)
    for member, value in members(thing):
        yield from ("", f"### {name}.{member}", "")
        if inspect.isclass(value):
            yield from code(constructor(value))
        elif not isinstance(value, property):
            yield from code(definition(value))
        yield from text(getattr(value, "__func__", value))


def members(thing: type) -> list[tuple[str, Any]]:
    """Return the public members in definition order: those of the class, and those of its private base classes."""
    found: dict[str, Any] = {}
    public = next((base for base in thing.__mro__[1:] if base.__name__ in embergem.__all__), object)
    for base in reversed(thing.__mro__):
        if (
            base.__module__.startswith("embergem")
            and base not in public.__mro__
            and not issubclass(thing, (str, Exception))
        ):
            found |= {key: value for key, value in vars(base).items() if not key.startswith("_")}
    kept = (property, classmethod, staticmethod)
    return [(key, value) for key, value in found.items() if callable(value) or isinstance(value, kept)]


def constructor(thing: type) -> str:
    """Return the call that makes an object, as the source writes it."""
    if "__init__" in vars(thing) and not is_dataclass(thing):
        return definition(vars(thing)["__init__"]).replace("def __init__", thing.__name__).replace(" -> None", "")
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    assert isinstance(tree, ast.ClassDef)
    return f"{thing.__name__}({', '.join(ast.unparse(node) for node in tree.body if isinstance(node, ast.AnnAssign))})"


def definition(function: Any) -> str:
    """Return the first line of a function as the source writes it, without `self`."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    before = "async def" if isinstance(tree, ast.AsyncFunctionDef) else "def"
    arguments = re.sub(r"^(self|cls)(, )?", "", ast.unparse(tree.args))
    after = f" -> {ast.unparse(tree.returns)}" if tree.returns else ""
    line = f"{before} {tree.name}({arguments}){after}"
    if len(line) <= WIDTH:
        return line
    return f"{before} {tree.name}(\n" + "".join(f"    {part},\n" for part in split(arguments)) + f"){after}"


def split(arguments: str) -> Iterator[str]:
    """Yield the arguments one by one. A comma within brackets does not separate two."""
    depth, start = 0, 0
    for index, character in enumerate(arguments):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            yield arguments[start:index].strip()
            start = index + 1
    yield arguments[start:].strip()


def code(content: str) -> list[str]:
    """Return the lines of a block of Python."""
    return ["```python", content, "```", ""]


def text(thing: Any) -> Iterator[str]:
    """Yield a docstring as Markdown: its sections as lists, its examples as code."""
    section = None
    for line in (inspect.getdoc(thing) or "").splitlines():
        if found := SECTION.match(line):
            if section == "Example":
                yield "```"
            section = found[1]
            yield from (f"**{section}**", "")
            if section == "Example":
                yield "```python"
        elif section is None:
            yield line
        elif section == "Example":
            yield line.removeprefix("    ")
        elif re.match(r"    \S", line):
            what, colon, rest = line.strip().partition(": ")
            yield f"- `{what}`: {rest}" if colon and section not in ("Returns", "Yields") else f"- {line.strip()}"
        else:
            yield f"  {line.strip()}" if line.strip() else ""
    if section == "Example":
        yield "```"


if __name__ == "__main__":
    sys.exit(main())
