"""`embergem fingerprint`: the name of a model's space."""

import json

import typer

from embergem.engine.load import fingerprint_of
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions


def run(options: LoadOptions, *, as_json: bool) -> None:
    """Print the fingerprint alone, or with the model's name as JSON."""
    location = resolve(options)
    found = fingerprint_of(location, options)
    typer.echo(json.dumps({"model": location.id, "fingerprint": found}) if as_json else found)
