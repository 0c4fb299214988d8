"""`load`: the one place where the name of a model becomes an engine.

Separate because it joins `hub` (name to files) with `engine` (files to engine), and everything above calls it.
"""

from embergem.checkpoint.checkpoint import Location
from embergem.engine.engine import Engine
from embergem.engine.load import load as load_files
from embergem.engine.vector_cache import VectorCache
from embergem.errors import out_of_memory
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions


def load(options: LoadOptions, *, location: Location | None = None, cache: VectorCache | None = None) -> Engine:
    """Find a model, load it into this process and run its self-check.

    Args:
        options: Which model, and how to load it.
        location: The files of the model, if the caller has resolved `options` before. None resolves them here, which
            downloads the model if this machine does not have it.
        cache: Vectors of rows that were computed before; several engines may share one cache.

    Returns:
        The engine; the caller closes it. `Engine.ready` says whether the model passed its self-check.

    Raises:
        UnknownModel: No model has this name.
        DownloadError, GatedModel: The files could not be downloaded.
        LoadError: The checkpoint is damaged, incomplete or of an unsupported kind.
        InsufficientMemory: The model does not fit into memory.
        UnsupportedOption: An option does not apply to this model.

    Example:
        >>> from embergem.loader import load
        >>> from embergem.options import LoadOptions
        >>> from embergem.types import Request
        >>> with load(LoadOptions(model="tests/data/goldens/gemma3_text")) as engine:
        ...     engine.embed(Request(texts=["What is graphene?"])).vectors.shape
        (1, 96)
    """
    try:
        return Engine(load_files(location or resolve(options), options), cache=cache)
    except (MemoryError, RuntimeError) as error:
        raise out_of_memory(error) from error.__cause__
