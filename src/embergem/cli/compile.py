"""`embergem compile`: write a model as a directory that loads without knowledge of its family.

Separate because each command has its own module; `export.compiler` writes the directory.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from embergem.cli.options import DENSE, HUB, complete_model, with_load_options
from embergem.options import LoadOptions

Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIRECTORY", help="Directory to write.")]


@with_load_options(*DENSE, *HUB)
def compile_(
    model: Annotated[str, typer.Argument(help="Hub id, alias, directory or GGUF file.", autocompletion=complete_model)],
    options: LoadOptions,
    output: Output,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Store matrices as float32, as bfloat16 or int16 (half the size, int16 is more exact), or as int8 "
            "(28 % of the size). Default: as the model stores them.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a model as one directory that loads on any machine: program, weights, tokenizer and vectors to check them.

    Without --dtype the weights are copied unchanged. With it, the vectors are in a space of their own, near that of the
    original. The arithmetic is chosen when the directory is loaded (--dtype of serve and embed).

    For example:

    embergem compile google/embeddinggemma-300m -o gemma --dtype int16 && embergem serve -m gemma
    """
    from embergem.export.compiler import compile_model

    written = compile_model(replace(options, model=model), output, dtype)
    manifest = written.manifest
    size = sum(file.size for file in manifest.weights) / 1e6
    typer.echo(f"{output}: {manifest.model_type}, {manifest.vectors.dimensions} dimensions, weights of {size:,.0f} MB")
    if written.cosine is not None:
        typer.echo(f"least cosine to the vectors of the original, on rows of random tokens: {written.cosine:.7f}")
