"""The name of the space that a model's vectors are in."""

from embergem import _native, paths
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.read import read
from embergem.engine.prepare import prepare
from embergem.program.program import Program


def fingerprint(checkpoint: Checkpoint, program: Program) -> str:
    """Return the sha256, in hex, that names the space; every byte of the weights is read unless it is remembered."""
    return _native.fingerprint(
        program.to_json(), checkpoint.files, str(checkpoint.tokenizer), notes=str(paths.cache_root())
    )


def of(location: Location) -> str:
    """Return the fingerprint of the model at `location` without loading it.

    Raises:
        LoadError: The checkpoint is damaged, incomplete or of an unknown kind.
    """
    checkpoint = read(location)
    return fingerprint(checkpoint, prepare(checkpoint, location.id).program)
