"""Checks of models: their files, then what each proves about itself."""

import msgspec

from embergem import catalog
from embergem.checkpoint.checkpoint import Location
from embergem.errors import EmbergemError
from embergem.hub import model_cache
from embergem.hub.resolve import identify, resolve
from embergem.loader import load
from embergem.options import DEFAULTS, LoadOptions
from embergem.selfcheck import Finding


def model(name: str) -> list[Finding]:
    """Check a directory, or a model that is in the cache; nothing is downloaded."""
    try:
        found = identify(name)
        if isinstance(found, Location):
            return self_check(resolve(LoadOptions(model=found.path)))
        return _kept(*found)
    except EmbergemError as error:
        return [Finding(name, "error", error.message, "Fetch it with `embergem models pull`, or name another")]


def self_check(location: Location) -> list[Finding]:
    """Load a model and give its own findings, named after it."""
    try:
        with load(DEFAULTS, location=location) as engine:
            report = engine.report
            said = f"{engine.dimensions} dimensions, {engine.limit} tokens, {engine.dtype} on {engine.instruction_set}"
    except EmbergemError as error:
        return [Finding(location.id, "error", error.message, "It cannot be loaded as it is")]
    loaded = Finding(f"{location.id} loaded", "ok", said)
    return [loaded, *(msgspec.structs.replace(one, name=f"{location.id} {one.name}") for one in report.findings)]


def _kept(model: str, entry: catalog.Entry | None) -> list[Finding]:
    kept = model_cache.find(model)
    if kept is None:
        return [Finding(model, "warn", "is not in the cache", f"Fetch it with `embergem models pull {model}`")]
    if faults := model_cache.find_faults(kept, entry, full=False):
        return [Finding(model, "error", "; ".join(faults), f"Fetch it again with `embergem models pull {model}`")]
    return self_check(kept.location)
