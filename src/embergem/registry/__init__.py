"""Several models by name: `Spec` says how each is made, `Registry` loads, exchanges and unloads them."""

from embergem.registry.registry import DEFAULT, Registry
from embergem.registry.spec import Spec, Status

__all__ = ["DEFAULT", "Registry", "Spec", "Status"]
