"""Write docs/models.md from the catalog; the table of families comes from scripts/parity_table.py and is kept.

    python scripts/models_page.py [--check]

With --check nothing is written and the exit code is 1 when the page is not what it would be.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from embergem._native import prompt_sets
from embergem.catalog import CATALOG, DEFAULT, Entry

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- families: make parity-table -->", "<!-- /families -->"
BY_FAMILY = "By the tiny checkpoint of its family; its own weights were not at hand."

INTRODUCTION = f"""# Models

This page is made by `make models-page` from `src/embergem/catalog.json`; change that file, not this page. Any other
model of these families works too, by directory or hub id.

## Families

Each row: the largest difference in any component between embergem and vectors stored from the published library
(sentence-transformers 6.2.0 or transformers 5.23.0), over the family's tiny checkpoint, and over larger weights where
they are at hand. `make parity-table` measures it anew from the stored vectors, without torch.

{BEGIN}
{END}

Auto-detection goes by config.json. `--arch` (`arch=`) holds a checkpoint to a family.

## Scores

Scores are published ones, with where they were published. Different benchmarks cannot be compared with each other, and
none of them was measured here.

## Memory

"Weights" is what float32 takes; a large embedding table stays mapped from the file and is shared between processes.
int16 halves the rest.
"""


def page(families: str) -> str:
    """Return the page, with this text as the table of families."""
    lines = ["", "## Catalog", "", *_table(), "", "## Prompts", "", *_prompts(), "", "## Each model", ""]
    for entry in CATALOG:
        lines += [*_model(entry), ""]
    head = INTRODUCTION.replace(f"{BEGIN}\n{END}", f"{BEGIN}\n{families}{END}")
    return head + "\n".join(lines).rstrip() + "\n"


def families(text: str) -> str:
    """Return the table of families in a page that is there."""
    return text.split(BEGIN + "\n")[1].split(END)[0] if BEGIN in text else ""


def _table() -> Iterator[str]:
    yield "| model | names | dimensions | tokens | languages | licence | weights |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for entry in CATALOG:
        cells = (
            f"[{entry.id}](https://huggingface.co/{entry.id})",
            ", ".join(f"`{alias}`" for alias in entry.aliases),
            _dimensions(entry),
            f"{entry.limit:,}",
            entry.languages,
            f"[{entry.licence}]({entry.licence_url})",
            _weights(entry),
        )
        yield f"| {' | '.join(cells)} |"


def _prompts() -> Iterator[str]:
    yield "A prompt is added only when a task is named. What a checkpoint declares itself comes before these sets."
    yield ""
    yield "| set | task | prompt |"
    yield "| --- | --- | --- |"
    for name, tasks in prompt_sets().items():
        for task, pattern in tasks.items():
            shown = pattern.replace("|", "\\|").replace("\n", "⏎").replace("{content}", "…")
            yield f"| {name} | `{task}` | `{shown}` |"


def _model(entry: Entry) -> Iterator[str]:
    yield f"### {entry.id}" + (" (the default)" if entry.id == DEFAULT else "")
    yield ""
    yield entry.notes + (f" {entry.notice}." if entry.notice else "")
    yield ""
    yield f"- family: `{entry.family}`, {entry.parameters:g} million parameters, {_weights(entry)} in float32"
    yield f"- dimensions: {_dimensions(entry)}; up to {entry.limit:,} tokens; {entry.languages}"
    yield f"- licence: [{entry.licence}]({entry.licence_url})" + ("; gated on the hub" if entry.gated else "")
    yield f"- from: {', '.join(entry.sources)}"
    if entry.prompts:
        yield f"- prompts: the set {entry.prompts}"
    if entry.scores:
        said = "; ".join(f"{score.benchmark} {score.value:.2f} ({score.source})" for score in entry.scores)
        yield f"- published scores: {said}"
    yield f"- verified: {entry.verified or BY_FAMILY}"


def _dimensions(entry: Entry) -> str:
    if entry.smallest_dimension is not None:
        return f"{entry.smallest_dimension} to {entry.dimensions}"
    return ", ".join(str(size) for size in entry.allowed_dimensions)


def _weights(entry: Entry) -> str:
    megabytes = entry.parameters * 4
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def main() -> int:
    """Write the page, or check it."""
    before = PAGE.read_text() if PAGE.exists() else ""
    wanted = page(families(before))
    if "--check" in sys.argv:
        print("docs/models.md is up to date" if wanted == before else "docs/models.md is stale; run `make models-page`")
        return int(wanted != before)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
