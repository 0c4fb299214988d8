"""Several models by name: `Spec` says how each is made, `Registry` loads, exchanges and unloads them."""

from embergem.registry.names import DEFAULT
from embergem.registry.registry import Registry
from embergem.registry.spec import Spec, Status

__all__ = ["DEFAULT", "Registry", "Spec", "Status"]
