"""The commands and their options; what they do is in `embed` and `serve`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from embergem import __version__
from embergem.cli.keys import app as keys_app
from embergem.cli.models import app as models
from embergem.errors import EmbergemError, InsufficientMemory, InvalidRequest, LoadError, UnknownModel
from embergem.options import LoadOptions
from embergem.tasks import Task

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 input refused, 4 model not to be had, 130 stopped with Ctrl-C."

app = typer.Typer(
    name="embergem",
    help="Text in, embedding vectors out: a server, a command and a library for EmbeddingGemma and friends.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models, name="models")
app.add_typer(keys_app, name="keys")


class Format(StrEnum):
    """How `embed` writes vectors."""

    JSON = "json"
    NPY = "npy"
    TABLE = "table"


def _version(show: bool) -> None:
    if show:
        typer.echo(f"embergem {__version__}")
        raise typer.Exit


def complete_model(incomplete: str) -> list[str]:
    """Model names that begin with what was typed."""
    from embergem.catalog import CATALOG

    names = [name for entry in CATALOG for name in (entry.id, *entry.aliases)]
    return [name for name in names if name.startswith(incomplete)]


def complete_task(incomplete: str) -> list[str]:
    """Task names that begin with what was typed."""
    return [task for task in Task if task.startswith(incomplete)]


def complete_dtype(incomplete: str) -> list[str]:
    """Arithmetics that begin with what was typed."""
    from embergem.options import DTYPES

    return [name for name in DTYPES if name.startswith(incomplete)]


Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m",
        help="Hub id, alias or directory. Default: all-MiniLM-L6-v2.",
        autocompletion=complete_model, show_default=False,
    ),
]  # fmt: skip
Dtype = Annotated[
    str,
    typer.Option(
        help="Arithmetic: float32, bfloat16, int16 (faster, near lossless), int8 (least memory) or auto.",
        autocompletion=complete_dtype,
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Most threads to compute with. Default: one a core.")]

Arch = Annotated[
    str, typer.Option(help="Family that the model must be of, such as embeddinggemma; auto takes what it is.")
]
Window = Annotated[
    int | None,
    typer.Option(min=2, help="Use this sliding window instead of the one in config.json, where that was damaged."),
]
DenseFrom = Annotated[
    str | None,
    typer.Option(help="Model whose dense layers one takes that lacks its own.", autocompletion=complete_model),
]
AllowMissingDense = Annotated[
    bool,
    typer.Option("--allow-missing-dense", help="Take a model without the dense layers of its kind: another space."),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a model of the hub. Default: its default branch.")
]
HfCachePath = Annotated[
    Path | None, typer.Option(help="Cache directory of the hub's library. Default: its own, in HF_HOME.")
]


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command(epilog=EPILOG)
def embed(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts. Without any, lines are read from stdin.")] = None,
    model: Model = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read one text a line from this file (- is stdin).")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Put the model's prompt for this task around each text.", autocompletion=complete_task),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the documents, with --task document.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Cut vectors to this size (Matryoshka).")] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts that are too long, with a warning.")] = False,
    format: Annotated[  # noqa: A002 - the option is called that
        Format | None,
        typer.Option(
            help="JSON lines, a NumPy file (with what it is in a file .npy.json beside it), or a table for the eye. "
            "Default: by the name of --output."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here instead of to stdout.")] = None,
    dtype: Dtype = "float32",
    threads: Threads = None,
    arch: Arch = "auto",
    window: Window = None,
    dense_from: DenseFrom = None,
    allow_missing_dense: AllowMissingDense = False,
    revision: Revision = None,
    hf_cache_path: HfCachePath = None,
) -> None:
    """Embed texts.

    [bold]Examples[/bold]

    embergem embed "What is graphene?" "What is an apple?"

    embergem embed -m google/embeddinggemma-300m --task document -f corpus.txt -o corpus.npy

    cat questions.txt | embergem embed --task query -m google/embeddinggemma-300m > questions.jsonl
    """
    from embergem.cli.embed import run

    run(
        texts=texts or [], file=file, task=task, title=title, dimensions=dimensions,
        truncate=truncate, form=format, output=output,
        options=LoadOptions(
            model=model, dtype=dtype, threads=threads, arch=arch, window=window, dense_from=dense_from,
            allow_missing_dense=allow_missing_dense, revision=revision, hf_cache_path=hf_cache_path,
        ),
    )  # fmt: skip


@app.command(epilog=EPILOG)
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Hub id, alias or directory; several may be given, the first is the default. "
            "Default: all-MiniLM-L6-v2.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Models as JSON, or models, settings and keys as TOML; docs/operations.md."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free one. Default: 1234.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to bind to; 0.0.0.0 lets other machines in. Default: 127.0.0.1.")
    ] = None,
    keys: Annotated[str | None, typer.Option(help="File of API keys; `embergem keys new` makes one.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Arithmetic: float32, bfloat16, int16 (faster, near lossless), int8 (least memory) or auto. "
            "Default: float32.",
            autocompletion=complete_dtype,
        ),
    ] = None,
    threads: Threads = None,
    task: Annotated[
        str | None,
        typer.Option(help="Task of texts that come without one, where the model has it.", autocompletion=complete_task),
    ] = None,
    strict: Annotated[
        bool | None, typer.Option("--strict", help="Refuse unknown fields instead of ignoring them.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(help="Origin whose web pages may ask, such as https://app.example.")
    ] = None,
    max_batch_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of a batch.")] = None,
    max_queue_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens that wait for a model.")] = None,
    access_log: Annotated[str | None, typer.Option(help="text, json or off. Default: text.")] = None,
    log_inputs: Annotated[
        bool | None, typer.Option("--log-inputs", help="Write the texts of requests into the access log.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="critical, error, warning, info or debug.")] = None,
    arch: Arch = "auto",
    window: Window = None,
    dense_from: DenseFrom = None,
    allow_missing_dense: AllowMissingDense = False,
    revision: Revision = None,
    hf_cache_path: HfCachePath = None,
) -> None:
    """Serve an OpenAI-compatible API.

    Each option can also be set in the file of --config and, as EMBERGEM_PORT and so on, in the environment; an option
    wins over the environment, that over the file.

    [bold]Examples[/bold]

    embergem serve

    embergem serve -p 1234 -m google/embeddinggemma-300m

    embergem serve --config models.json
    """
    from embergem.cli.serve import run

    run(
        models=model or [], config=config, port=port, host=host, keys=keys, dtype=dtype, threads=threads, task=task,
        strict=strict, cors=cors, max_batch_tokens=max_batch_tokens, max_queue_tokens=max_queue_tokens,
        access_log=access_log, log_inputs=log_inputs, log_level=log_level,
        options=LoadOptions(
            arch=arch, window=window, dense_from=dense_from, allow_missing_dense=allow_missing_dense,
            revision=revision, hf_cache_path=hf_cache_path,
        ),
    )  # fmt: skip


@app.command(epilog=EPILOG)
def bench(
    model: Model = None,
    dtype: Dtype = "float32",
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure this machine with a model: tokens a second, latency, and the share of what its cores can do."""
    from embergem.cli.bench import run

    run(LoadOptions(model=model, dtype=dtype, threads=threads), as_json=as_json)


Output = Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")]
Stored = Annotated[
    str | None, typer.Option("--dtype", help="Store matrices as float32 or bfloat16.", show_default=False)
]
Compact = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="Store matrices as float32, bfloat16 or int16 (a half of float32's size, int16 the more exact), or int8 "
        "(28 %).",
        show_default=False,
    ),
]


@app.command("compile", epilog=EPILOG)
def compile_(
    model: Annotated[str, typer.Argument(help="Hub id, alias, directory or GGUF file.", autocompletion=complete_model)],
    output: Output,
    dtype: Compact = None,
    dense_from: DenseFrom = None,
    allow_missing_dense: AllowMissingDense = False,
    revision: Revision = None,
    hf_cache_path: HfCachePath = None,
) -> None:
    """Write a model as one directory that loads anywhere, with its program, vectors to hold it against, and all files.

    Without --dtype the weights are linked as they are. With it the vectors are a space of their own, near the
    original's; the arithmetic is still chosen at load (--dtype of serve and embed).

    [bold]Example[/bold]

    embergem compile google/embeddinggemma-300m -o gemma --dtype int16 && embergem serve -m gemma
    """
    from embergem.cli.compile import compile_model

    options = LoadOptions(
        model=model, dense_from=dense_from, allow_missing_dense=allow_missing_dense,
        revision=revision, hf_cache_path=hf_cache_path,
    )  # fmt: skip
    written = compile_model(options, output, dtype)
    manifest = written.manifest
    size = sum(file.size for file in manifest.weights) / 1e6
    typer.echo(f"{output}: {manifest.model_type}, {manifest.vectors.dimensions} dimensions, weights of {size:,.0f} MB")
    if written.cosine is not None:
        typer.echo(f"least cosine to the original's vectors, on rows of random tokens: {written.cosine:.7f}")


@app.command(epilog=EPILOG)
def convert(
    file: Annotated[Path, typer.Argument(help="GGUF file.")],
    output: Output,
    dtype: Stored = None,
    dense_from: DenseFrom = None,
    allow_missing_dense: AllowMissingDense = False,
) -> None:
    """Write a GGUF file as a directory of safetensors, as sentence-transformers saves models.

    [bold]Example[/bold]

    embergem convert embeddinggemma-300M-Q8_0.gguf -o gemma --dense-from google/embeddinggemma-300m
    """
    from embergem.cli.convert import convert

    options = LoadOptions(model=file, dense_from=dense_from, allow_missing_dense=allow_missing_dense)
    convert(options, output, dtype)
    typer.echo(f"{output}: read it with embergem serve -m {output}")


@app.command(epilog=EPILOG)
def fingerprint(
    model: Annotated[
        str | None,
        typer.Argument(help="Hub id, alias or directory. Default: all-MiniLM-L6-v2.", autocompletion=complete_model),
    ] = None,
    revision: Revision = None,
    hf_cache_path: HfCachePath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the name of the space that a model's vectors are in.

    Vectors can be compared if, and only if, they are of one space. The name is a sha256 over the weights, the tokenizer
    and what else turns tokens into a vector; it is the same on every machine and for every layout of the same weights.
    """
    from embergem.cli.fingerprint import run

    run(LoadOptions(model=model, revision=revision, hf_cache_path=hf_cache_path), as_json=as_json)


@app.command(epilog=EPILOG)
def doctor(
    models: Annotated[
        list[str] | None, typer.Argument(help="Directories, or models in the cache. Default: all in the cache.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at this machine and the models on it, with advice beside each finding; 1 when something is an error."""
    from embergem.cli.doctor import run

    run(models=models or [], as_json=as_json)


@app.command(epilog=EPILOG)
def verify(
    model: Annotated[
        str | None, typer.Argument(help="Hub id, alias or directory.", autocompletion=complete_model)
    ] = None,
    against: Annotated[
        str, typer.Option(help="Address of an OpenAI-compatible server, or sentence-transformers.")
    ] = "sentence-transformers",
    name: Annotated[str | None, typer.Option(help="The model's name there. Default: the first it lists.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="OPENAI_API_KEY", help="Key for the server.")] = None,
    python: Annotated[
        str | None, typer.Option(help="Interpreter that has sentence-transformers. Default: this one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare this engine with another server or library, and name the likely cause of a difference.

    [bold]Examples[/bold]

    embergem verify embeddinggemma-300m --against http://127.0.0.1:8080/v1

    embergem verify minilm --against sentence-transformers --python ~/st/bin/python
    """
    from embergem.cli.verify import run

    run(model=model, against=against, name=name, key=api_key, python=python, as_json=as_json)


def report(error: Exception) -> int:
    """Print an error as one line and return the exit code; what embergem did not raise itself is raised on."""
    if isinstance(error, OSError) and error.filename is not None:
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        return 1
    if not isinstance(error, EmbergemError):
        raise error
    typer.echo(f"error: {error.message}", err=True)
    if isinstance(error, InvalidRequest):
        return 3
    return 4 if isinstance(error, UnknownModel | LoadError | InsufficientMemory) else 1
