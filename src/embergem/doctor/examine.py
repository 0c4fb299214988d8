"""The whole examination."""

from collections.abc import Sequence

from embergem.checkpoint import cache
from embergem.doctor import machine, models
from embergem.doctor.report import Report
from embergem.doctor.system import quota, system


def examine(names: Sequence[str] | None = None) -> Report:
    """Look at the machine and at models: those named, or all that are in the cache. Loads each; downloads nothing."""
    found = system()
    checks = [
        machine.instruction_sets(found.cpu),
        machine.threads(found.cpu, quota()),
        machine.memory(found.memory),
        machine.cache_directory(cache.root()),
        machine.hub(),
    ]
    for name in names or cache.models():
        checks += models.model(name)
    return Report(found, tuple(checks))
