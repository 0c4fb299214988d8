"""Write the module table of docs/structure.md from the first docstring line of each module.

python scripts/module_table.py [--check]

Each package has a heading row with the docstring of its `__init__`, then a row for each module. A module under 60 lines
gives its reason to be separate in a docstring paragraph that begins with "Separate because"; the table shows that
reason. With --check nothing is written, and the exit status is 1 if the table is stale.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from generated import write_or_check

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "embergem"
PAGE = ROOT / "docs" / "structure.md"
BEGIN, END = "<!-- module table: begin (make module-table) -->", "<!-- module table: end -->"
SMALL = 60
"""A module with fewer lines needs a reason to be separate."""


def main() -> int:
    """Write the table or, with --check, compare it."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return write_or_check(PAGE, "\n".join([before + BEGIN, *table(), END + after]), "module-table")


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| module | what it is |"
    yield "| --- | --- |"
    for package in sorted(SOURCE.rglob("__init__.py"), key=lambda path: path.parent.relative_to(SOURCE).parts):
        folder = package.parent.relative_to(SOURCE.parent).as_posix()
        yield f"| **{folder}/** | **{described(package)[0]}** |"
        for path in sorted(package.parent.glob("*.py")):
            if path != package:
                summary, reason = described(path)
                yield f"| `{path.name}` | {summary}{f' *{reason}*' if reason else ''} |"


def described(path: Path) -> tuple[str, str]:
    """Return the first docstring line of a module, and its reason to be separate ("" if it gives none)."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    summary = docstring.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    reason = re.search(r"Separate because .*?(?=\n\n|\Z)", docstring, re.DOTALL)
    return summary, " ".join(reason[0].split()).replace("|", "\\|") if reason else ""


def small(path: Path) -> bool:
    """Return whether a module is so short that it needs a reason to be separate; packages need none."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    return lines < SMALL and path.name not in ("__init__.py", "__main__.py")


if __name__ == "__main__":
    sys.exit(main())
