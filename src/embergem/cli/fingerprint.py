"""`embergem fingerprint`: print the name of a model's vector space.

Separate because each command has its own module.
"""

import json
from dataclasses import replace

import typer

from embergem.cli.options import HUB, AsJson, ModelArgument, with_load_options
from embergem.options import LoadOptions


@with_load_options(*HUB)
def fingerprint(options: LoadOptions, model: ModelArgument = None, as_json: AsJson = False) -> None:
    """Print the name of a model's vector space.

    Vectors can be compared if, and only if, they belong to one space. The name is a sha256 over the weights, the
    tokenizer and everything else that determines how tokens become a vector. It is the same on every machine and for
    every file layout of the same weights.
    """
    from embergem.engine.load import fingerprint_of
    from embergem.hub.resolve import resolve

    options = replace(options, model=model)
    location = resolve(options)
    space = fingerprint_of(location, options)
    typer.echo(json.dumps({"model": location.id, "fingerprint": space}) if as_json else space)
