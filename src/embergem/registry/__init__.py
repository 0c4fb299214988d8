"""Several models by name: `Spec` describes how each is loaded, `Registry` loads, reloads and unloads them."""

from embergem.registry.entries import DEFAULT, Spec, Status
from embergem.registry.registry import Registry

__all__ = ["DEFAULT", "Registry", "Spec", "Status"]
