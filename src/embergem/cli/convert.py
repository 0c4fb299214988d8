"""`embergem convert`: write a GGUF file as a directory of sentence-transformers.

Separate because each command has its own module; `export.gguf_converter` writes the directory.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from embergem.cli.compile import Output
from embergem.cli.options import DENSE, with_load_options
from embergem.options import LoadOptions


@with_load_options(*DENSE)
def convert(
    file: Annotated[Path, typer.Argument(help="GGUF file.")],
    options: LoadOptions,
    output: Output,
    dtype: Annotated[
        str | None,
        typer.Option(help="Store matrices as float32 or bfloat16. Default: float32.", show_default=False),
    ] = None,
) -> None:
    """Write a GGUF file as a directory of safetensors, in the layout of sentence-transformers.

    For example:

    embergem convert embeddinggemma-300M-Q8_0.gguf -o gemma --dense-from google/embeddinggemma-300m
    """
    from embergem.export.gguf_converter import convert_gguf

    convert_gguf(replace(options, model=file), output, dtype)
    typer.echo(f"{output}: serve it with embergem serve -m {output}")
