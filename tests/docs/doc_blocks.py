"""The fenced blocks of the pages on the documentation site, and what stands in for what tests cannot use."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
OUTPUT = ("", "text")
"""Languages of blocks that show output or a drawing. They have no code to run."""

SKIPPED = {
    (
        "docs/trust.md",
        "embergem verify google/embeddinggemma-300m --against sentence-transformers",
    ): "needs sentence-transformers and torch; `make parity` runs this comparison",
    ("docs/scaling.md", "embergem embed 'in/*.parquet'"): "needs Ray; `make test-ray` runs such commands",
    ("docs/scaling.md", "import ray"): "needs Ray; `make test-ray` has such a pipeline",
}
"""Blocks that no test runs: the page and the beginning of the block, with the reason. At most five."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Path of the page in the repository, such as "docs/http.md".
        line: Line of the first line of the text, from 1.
        section: The heading of the second level above the block; "" before the first one.
        language: First word after the fence, such as "python"; "" if there is none.
        text: What is between the fences, without the indentation of the fence.
    """

    page: str
    line: int
    section: str
    language: str
    text: str

    @property
    def skipped(self) -> str:
        """The reason to skip the block, or "" if it is run."""
        for (page, beginning), reason in SKIPPED.items():
            if page == self.page and self.text.startswith(beginning):
                return reason
        return ""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    source = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(source):
        before = source[: match.start("text")]
        headings = re.findall(r"^## (.+)$", FENCE.sub("", source[: match.start()]), flags=re.MULTILINE)
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        language = (match["info"].split() or [""])[0]
        name = page.relative_to(ROOT).as_posix()
        found.append(Block(name, before.count("\n") + 1, headings[-1] if headings else "", language, text))
    return found


def code(page: Path) -> list[Block]:
    """Return the blocks of a page that have code to run, skipped ones included."""
    return [block for block in blocks(page) if block.language not in OUTPUT]
