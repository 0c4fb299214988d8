"""Write docs/models.md from the catalog, the declarations of the families and the golden checkpoints.

    python scripts/models_page.py [--check]

The measured differences in the table of families are kept; scripts/parity_table.py measures them. With --check nothing
is written; the exit status is 1 if the page is stale.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from families import operations, parity_row
from generated import write_or_check

from embergem._native import prompt_sets
from embergem.catalog import CATALOG, DEFAULT, Entry
from embergem.models import families

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- families: make parity-table -->", "<!-- /families -->"
HEADER = """\
| family | `--arch` | checkpoints | what differs | tiny checkpoints | larger weights |
| --- | --- | --- | --- | --- | --- |
"""
BY_FAMILY = "By the tiny checkpoint of its family; its own weights were not available."

INTRODUCTION = f"""# Models

Use this page to choose a model: names, sizes, prompts, licences (license terms), scores, and the difference to the published libraries.

```bash
embergem models list                                   # the catalog on this page
embergem embed --model bge-small "What is graphene?"   # a name from the catalog, a hub id or a directory
```

`make models-page` writes this page from `src/embergem/catalog.json` and from the files in `src/embergem/models`; change
those. A model that is not in the catalog works too, by its directory or hub id, if it is of a family below.

## Families

config.json says which family a checkpoint is of. `--arch` (`arch=`) requires one: a name of the second column, or a
`model_type`.

The last two columns are the largest difference in any component between embergem and stored vectors of the published
library (sentence-transformers 6.2.0 or transformers 5.23.0; 5.24.0 for GTE): over the tiny checkpoints of the family in
the repository, and over larger weights where these are available. `make parity-table` measures them again; it needs no
torch.

{BEGIN}
{END}

A family is written in the operations of `src/embergem/ops`. Besides plain calls of `embed`, `linear`, `attention`,
`add` and `normalise`, the families use these:

| family | operations |
| --- | --- |
{{operations}}

## Which checkpoints are refused

Every field of config.json, every setting of the JSON files beside it or in a GGUF file, and every tensor is read, known
to change no vector, or refused with an error that names it. [Trust](trust.md) has the settings that were tried, and what the
published library gives for them. Beside the families above, these are refused:

| found | why, and what to do |
| --- | --- |
| a field or a setting that embergem does not know | It may be what makes another model of the checkpoint. Remove it if it changes nothing. |
| `auto_map` | embergem never runs code of a model. The catalog knows by sha256 the models whose code computes what the family computes; for another one remove the field if transformers' own class gives the same vectors. |
| a tensor that no layer reads, such as a projection | The vectors of its authors may need it. Heads of classifiers, `lm_head`, poolers, `position_ids` and towers for images and audio are known and ignored. |
| `adapter_config.json` | The published library adds the adapter to another model. Merge it with peft and save the model. |
| `modality_config` with `message` | The library embeds texts as the chat template renders them. It is read only if a processor is there and the template leaves texts and prompts unchanged. |
| `truncate_dim` | The library cuts the vectors. Remove it and ask for `dimensions`. |
| pooling and model with different widths | The files are of two models, or a projection is missing. |

Texts are read with tokenizer.json alone. The published library also follows tokenizer_config.json. Where the two
disagree, the checkpoint is refused:

| setting of tokenizer_config.json | refused if |
| --- | --- |
| `truncation_side` | it is not the side of `truncation` in tokenizer.json (right, if that is absent) |
| `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` | the class is one of BERT's, which the library builds from these settings or their defaults, and the normalizer does something else |
| `do_lower_case`, `keep_accents` | the class is ALBERT's, and the normalizer does something else |
| `add_prefix_space` | the pre-tokenizer does something else |
| `tokenizer_class` | it is of another kind (WordPiece, Unigram, BPE) than the model in tokenizer.json |
| `split_special_tokens` | it is true |
| a name of a special token, also in special_tokens_map.json and added_tokens.json | the token is not among the `added_tokens` of tokenizer.json, or has another id or other flags there |

sentence_bert_config.json is read under its older names too. The limit is the first of `max_length` in
`processing_kwargs`, `model_max_length` in `tokenizer_args` or `processor_kwargs`, `max_seq_length`, and
`model_max_length` in tokenizer_config.json; other entries of these objects are refused, except those that change no
vector. `default_prompt_name` applies where the library applies it: in `embergem.sentence_transformers`.

## Scores

Scores are published ones, with their source. Scores of different benchmarks cannot be compared with each other. None of
them was measured with embergem.

## Memory

"Weights" in the catalog is the size in float32. A large embedding table stays mapped from its file, and processes share
it. With int16 the other weights take half.
"""  # noqa: E501 (rows of tables)


def page(parity: str) -> str:
    """Return the page. `parity` has the rows of the table of families, from which the measured differences are kept."""
    used = "\n".join(f"| {families()[module].title} | {_code(operations(module))} |" for module in families())
    head = INTRODUCTION.replace("{operations}", used)
    head = head.replace(f"{BEGIN}\n{END}", f"{BEGIN}\n{HEADER}{_with_figures(parity)}{END}")
    lines = ["", "## Catalog", "", *_table(), "", "## Prompts", "", *_prompts(), "", "## Each model", ""]
    for entry in CATALOG:
        lines += [*_model(entry), ""]
    return head + "\n".join(lines).rstrip() + "\n"


def parity_rows(text: str) -> str:
    """Return the rows of the table of families in the text of a page; "" if it has none."""
    table = text.split(BEGIN + "\n")[1].split(END)[0] if BEGIN in text else ""
    return "".join(table.splitlines(keepends=True)[2:])


def _with_figures(parity: str) -> str:
    """Return the rows of all families as declared now; measured differences come from the rows in `parity`."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in parity.splitlines()]
    figures = {row[0]: (row[-2], row[-1]) for row in rows}
    lines = [
        parity_row(module, *figures.get(family.title, ("not measured", ""))) for module, family in families().items()
    ]
    return "\n".join(lines) + "\n"


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


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
    yield "A prompt is added only when the caller names a task. The prompts that a checkpoint declares take precedence."
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
    yield f"- sources: {', '.join(entry.sources)}"
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
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return write_or_check(PAGE, page(parity_rows(before)), "models-page")


if __name__ == "__main__":
    sys.exit(main())
