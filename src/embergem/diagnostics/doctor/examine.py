"""The whole examination."""

from collections.abc import Sequence

from embergem import paths
from embergem.diagnostics.doctor import machine, models
from embergem.diagnostics.doctor.report import Report
from embergem.diagnostics.doctor.system import quota, system
from embergem.hub import model_cache


def examine(names: Sequence[str] | None = None) -> Report:
    """Look at the machine and at models: those named, or all that are in the cache. Loads each; downloads nothing."""
    found = system()
    checks = [
        machine.instruction_sets(found.cpu),
        machine.threads(found.cpu, quota()),
        machine.memory(found.memory),
        machine.cache_directory(paths.cache_root()),
        machine.hub(),
    ]
    for name in names or model_cache.list_models():
        checks += models.model(name)
    return Report(found, tuple(checks))
