"""`embergem fingerprint`: the name of a model's space."""

import json
from pathlib import Path

import typer

from embergem.engine.fingerprint import of
from embergem.hub.resolve import resolve


def run(*, model: str | None, revision: str | None, hf_cache_path: Path | None, as_json: bool) -> None:
    """Print the fingerprint alone, or with the model's name as JSON."""
    location = resolve(model, revision=revision, hf_cache_path=hf_cache_path)
    found = of(location)
    typer.echo(json.dumps({"model": location.id, "fingerprint": found}) if as_json else found)
