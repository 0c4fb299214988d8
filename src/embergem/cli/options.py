"""The flags that commands share. `with_load_options` gives a command the flags of loading, as one `LoadOptions`."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from embergem.options import DTYPES, LoadOptions
from embergem.tasks import Task


def complete_model(incomplete: str) -> list[str]:
    """Return the names of the catalog that begin with the typed text."""
    from embergem.catalog import CATALOG

    names = [name for entry in CATALOG for name in (entry.id, *entry.aliases)]
    return [name for name in names if name.startswith(incomplete)]


def completer(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that lists those of `values` that begin with the typed text."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


complete_task = completer(Task)
complete_dtype = completer(DTYPES)

_PANEL = "Model options"

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m",
        help="Hub id, alias, directory or GGUF file. Default: all-MiniLM-L6-v2.",
        autocompletion=complete_model, show_default=False, rich_help_panel=_PANEL,
    ),
]  # fmt: skip
ModelArgument = Annotated[
    str | None,
    typer.Argument(
        help="Hub id, alias, directory or GGUF file. Default: all-MiniLM-L6-v2.", autocompletion=complete_model
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Arithmetic: float32, bfloat16, int16 (faster, near lossless), int8 (least memory, fastest with VNNI) or "
        "auto. Default: float32.",
        autocompletion=complete_dtype, rich_help_panel=_PANEL,
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option(help="Most threads to compute with. Default: one a core.", rich_help_panel=_PANEL),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Family that the model must have, such as embeddinggemma. Default: auto, which accepts every family.",
        rich_help_panel=_PANEL,
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        help="Sliding window in tokens that replaces the one in config.json, for a model whose window was damaged.",
        rich_help_panel=_PANEL,
    ),
]
DenseFrom = Annotated[
    str | None,
    typer.Option(
        help="Model whose dense layers complete a model that lacks its own.",
        autocompletion=complete_model, rich_help_panel=_PANEL,
    ),
]  # fmt: skip
AllowMissingDense = Annotated[
    bool,
    typer.Option(
        "--allow-missing-dense",
        help="Load a model without the dense layers of its family. Its vectors are then in a space of their own.",
        rich_help_panel=_PANEL,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        help="Branch, tag or commit of a hub model. Default: the default branch of the model.", rich_help_panel=_PANEL
    ),
]
HfCachePath = Annotated[
    Path | None,
    typer.Option(
        help="Cache directory of huggingface_hub. Default: the hub directory in HF_HOME.", rich_help_panel=_PANEL
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

FLAGS: dict[str, Any] = {
    "model": Model,
    "dtype": Dtype,
    "threads": Threads,
    "arch": Arch,
    "window": Window,
    "dense_from": DenseFrom,
    "allow_missing_dense": AllowMissingDense,
    "revision": Revision,
    "hf_cache_path": HfCachePath,
}
"""The flag of each field of `LoadOptions` that the command line sets."""

ARITHMETIC = ("dtype", "threads")
FAMILY = ("arch", "window")
DENSE = ("dense_from", "allow_missing_dense")
HUB = ("revision", "hf_cache_path")

Command = Callable[..., None]


def with_load_options(*names: str) -> Callable[[Command], Command]:
    """Replace the parameter `options` of a command by the flags of these fields of `LoadOptions`.

    The decorated command builds the `LoadOptions` from the flags and passes it as `options`.

    Args:
        names: Names of the fields; each has a flag in `FLAGS`. Flags have the defaults of the fields.
    """
    defaults = {field.name: field.default for field in fields(LoadOptions)}
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=FLAGS[name])
        for name in names
    ]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == "options":
                parameters += flags
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @wraps(command)
        def run(**given: Any) -> None:
            options = LoadOptions(**{name: given.pop(name) for name in names})
            command(options=options, **given)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer reads it
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
