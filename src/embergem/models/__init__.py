"""Model families, one file each, and the architectures that config.json files describe.

See `embergem.models.family` for what a family's file contains.
"""

from embergem.models.architecture import Architecture, architecture, require_arch
from embergem.models.family import Family, Inert, Part, canonical_model_type, families, find, model_type_of

__all__ = [
    "Architecture",
    "Family",
    "Inert",
    "Part",
    "architecture",
    "canonical_model_type",
    "families",
    "find",
    "model_type_of",
    "require_arch",
]
