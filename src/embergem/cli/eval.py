"""`embergem eval`: measure a model on labelled data, and what smaller vectors lose on them."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from embergem.cli.options import ARITHMETIC, DENSE, FAMILY, HUB, AsJson, complete_task, with_load_options
from embergem.errors import InputTooLong, TruncationWarning, UnsupportedOption
from embergem.options import LoadOptions

if TYPE_CHECKING:
    from embergem.evaluate import Estimate, Report

NO_PROMPT = "none"
"""Value of a task option for texts without a prompt."""

WIDTH = 140
"""Columns of the table where standard output is no terminal."""

_TASKS = f"'auto' is {{}} if the model has a prompt for it, '{NO_PROMPT}' is no prompt."


@with_load_options("model", *ARITHMETIC, *FAMILY, *DENSE, *HUB)
def evaluate(
    options: LoadOptions,
    data: Annotated[
        Path,
        typer.Argument(
            help="Pairs with scores, or queries with documents: a file .csv, .tsv or .jsonl, or a directory in the "
            "layout of BEIR (corpus.jsonl, queries.jsonl, qrels/test.tsv).",
            show_default=False,
        ),
    ],
    pairs: Annotated[
        str | None, typer.Option(help="Columns of pairs: FIRST,SECOND,SCORE. Default: text1,text2,score.")
    ] = None,
    relevance: Annotated[
        str | None, typer.Option(help="Columns of queries: QUERY,DOCUMENT[,SCORE]. Default: query,document,score.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="Further documents for the queries of a file: .txt, or the column text of .csv, .jsonl."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which file of qrels/ is read. Default: test, or the only one.")
    ] = None,
    dimensions: Annotated[
        str | None,
        typer.Option(metavar="SIZES", help="Sizes of vectors, such as 256,128. Default: all that the model allows."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Stored forms: float32, float16, int8, binary, binary+int8, binary+float32 (+: the best candidates "
            "are scored again), with commas between them. Default: all but float16 and binary+float32."
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(help="Prompt of pairs. " + _TASKS.format("semantic_similarity"), autocompletion=complete_task),
    ] = "auto",
    query_task: Annotated[
        str, typer.Option(help="Prompt of queries. " + _TASKS.format("query"), autocompletion=complete_task)
    ] = "auto",
    document_task: Annotated[
        str, typer.Option(help="Prompt of documents. " + _TASKS.format("document"), autocompletion=complete_task)
    ] = "auto",
    titles: Annotated[
        str,
        typer.Option(
            help="Titles of documents: prompt, text (before the text), ignore, or auto: prompt if it has a place."
        ),
    ] = "auto",
    cutoffs: Annotated[
        str | None, typer.Option(help="Numbers of documents whose recall is measured. Default: 10,100.")
    ] = None,
    oversample: Annotated[
        int, typer.Option(help="Candidates that are scored again, in multiples of the largest cutoff.")
    ] = 4,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Share of resamples within an interval.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the resamples and of the order of equal scores.")] = 0,
    loss: Annotated[
        float, typer.Option(help="Largest acceptable loss; the form with the fewest bytes below it is named.")
    ] = 0.01,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts above the token limit, with a note.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the losses over the bytes of a vector to this file: .svg or .png.")
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Measure a model on labelled data, and what smaller dimensions, int8 and binary vectors lose on them.

    For example:

    embergem eval pairs.csv

    embergem eval -m google/embeddinggemma-300m scifact/ --plot loss.svg

    embergem eval questions.jsonl --corpus documents.txt --storage float32,binary,binary+int8 --json
    """
    from embergem.embedder import Embedder
    from embergem.evaluate import Bootstrap, draw, read_labelled
    from embergem.evaluate import evaluate as measure
    from embergem.evaluate.measures import require_libraries
    from embergem.evaluate.plot import require_plot
    from embergem.open_backend import open_backend

    if not 0 <= loss < 1:
        raise UnsupportedOption(f"--loss {loss:g} is not from 0 to 1. Give a share such as 0.01.", param="loss")
    require_libraries()
    if plot is not None:
        require_plot(plot)
    bootstrap = Bootstrap(resamples, confidence, seed)
    labelled = read_labelled(data, pairs=_names(pairs), relevance=_names(relevance), corpus=corpus, split=split)
    chosen: dict[str, Any] = {
        "dimensions": _numbers(dimensions, "dimensions"),
        "storage": _names(storage),
        "task": _task(task),
        "query_task": _task(query_task),
        "document_task": _task(document_task),
        "titles": titles,
        "cutoffs": _numbers(cutoffs, "cutoffs"),
        "oversample": oversample,
        "bootstrap": bootstrap,
        "truncate": truncate,
        "progress": False if quiet else None,
    }
    with Embedder(open_backend(options)) as embedder, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the report has a note about truncated texts
        try:
            report = measure(embedder, labelled, **chosen)
        except InputTooLong as error:
            error.add_advice("On the command line, --truncate cuts it.")
            raise
    if plot is not None:
        draw(report, plot)
    if as_json:
        typer.echo(report.to_json())
    else:
        console = Console()
        show(report, loss, console if console.is_terminal else Console(width=WIDTH))


def show(report: "Report", loss: float, console: Console) -> None:
    """Print a report: what was measured, a table with one row a form, and notes."""

    def say(line: str, style: str | None = None) -> None:
        console.print(line, style=style, soft_wrap=True, highlight=False, markup=False)

    say(f"{report.model}, dtype {report.dtype}, space {report.fingerprint or 'unknown'}")
    say(f"{report.source}: " + ", ".join(f"{count:,} {name}" for name, count in report.counts.items()))
    prompts = dict.fromkeys(f"{side}: {task or 'no prompt'}" for side, task in report.tasks.items())
    if report.kind == "pairs":
        prompts = {f"both texts: {report.tasks['first'] or 'no prompt'}": None}
    if report.titles is not None:
        prompts[f"titles: {report.titles}"] = None
    say("prompts: " + ", ".join(prompts) + "\n")
    table = Table("dimensions", "storage", "bytes", box=None)
    for name in report.full.values:
        table.add_column(name)
    table.add_column(f"loss of {report.main}")
    for form in report.forms:
        size = f"{form.searched_bytes:,}" + (f" + {form.kept_bytes:,}" if form.kept_bytes else "")
        values = [_interval(value) for value in form.values.values()]
        shown = "" if form is report.full else _interval(form.losses[report.main], "+")
        table.add_row(f"{form.dimensions:,}", form.storage, size, *values, shown)
    console.print(table, highlight=False)
    bootstrap = report.bootstrap
    say(
        f"\n[…]: {bootstrap.confidence:.0%} of {bootstrap.resamples:,} resamples, seed {bootstrap.seed}. A loss is the "
        "full float32 vectors minus this form."
    )
    if report.candidates is not None:
        say(f"a + b bytes: a search reads a; {report.candidates:,} candidates are scored again with b.")
    for note in report.notes:
        say(f"note: {note}", "yellow")
    smallest = report.smallest(loss)
    if smallest is not None:
        say(
            f"Fewest bytes to search with a loss of {report.main} of at most {loss:g}, interval included: "
            f"{smallest.dimensions} dimensions, {smallest.storage}.",
            "green",
        )


def _interval(found: "Estimate", sign: str = "") -> str:
    def number(value: float) -> str:
        return f"{round(value, 3) + 0.0:{sign}.3f}"  # + 0.0 turns -0.0 into 0.0

    if found.low is None or found.high is None:
        return f"{number(found.value)} [?]"
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",")]


def _numbers(given: str | None, option: str) -> list[int] | None:
    if given is None:
        return None
    try:
        return [int(number) for number in given.split(",")]
    except ValueError:
        raise UnsupportedOption(
            f"--{option} {given} is not a list of whole numbers. Give numbers with commas between, such as 256,128.",
            param=option,
        ) from None


def _task(given: str) -> str | None:
    return None if given == NO_PROMPT else given
