"""Model families, one file each, and the architectures that config.json files describe.

See `embergem.models.family` for what a family's file contains.
"""

from embergem.models.architecture import Architecture, architecture, require_arch
from embergem.models.family import Family, Inert, canonical_model_type, families, find

__all__ = [
    "Architecture",
    "Family",
    "Inert",
    "architecture",
    "canonical_model_type",
    "families",
    "find",
    "require_arch",
]
