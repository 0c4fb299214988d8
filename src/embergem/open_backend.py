"""Opens the backend of an embedder: loads a model into this process, or connects to a server."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from embergem.errors import UnsupportedOption
from embergem.options import LoadKeywords, LoadOptions
from embergem.sdk.backend import Backend

if TYPE_CHECKING:
    from embergem.checkpoint.checkpoint import Location


def to_backend(model: str | Path | Backend | None, **options: Unpack[LoadKeywords]) -> Backend:
    """Return the backend that the constructor arguments of an embedder describe.

    Raises:
        UnsupportedOption: An option is given for a backend that is open already.
        TypeError: `model` is neither a name nor a backend.
        EmbergemError: As `open_backend`.
    """
    if model is None or isinstance(model, str | Path):
        return open_backend(LoadOptions(model=model, **options))
    if not callable(getattr(model, "submit", None)):
        raise TypeError(
            f"model is of type {type(model).__name__}. Give a hub id, an alias, a directory, an address, or an open "
            "backend such as an Engine."
        )
    if options:
        name = next(iter(options))
        raise UnsupportedOption(
            f"{name} is an option for loading a model, and this {type(model).__name__} is open already. Leave it out, "
            "or give the name of the model.",
            param=name,
        )
    return model


def open_backend(options: LoadOptions, *, location: "Location | None" = None) -> Backend:
    """Load the model, or connect to the server if `options.model` is an address.

    Args:
        options: Which model, and how to load it. A server takes no option besides its address.
        location: The files of the model, if the caller has resolved `options` before.

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded.
        ServerUnreachable, UnexpectedAnswer: No embergem server answers at the address.
        UnsupportedOption: An option does not apply to this model, or an option is set for a server.
    """
    if not is_address(options.model):
        # Imported here, so that a client does not load the native engine.
        from embergem.loader import load

        return load(options, location=location)
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name != "model" and value != field.default:
            given = f"{field.name}={value!r}" if field.repr else field.name  # repr is off for the access token
            raise UnsupportedOption(
                f"{given} applies to models that are loaded into this process, and the model is at {options.model}. "
                f"Leave {field.name} out, or set it where the server is started.",
                param=field.name,
            )
    from embergem.client.remote import RemoteModel

    return RemoteModel(str(options.model))


def is_address(model: str | Path | None) -> bool:
    """Whether `model` is the address of a server."""
    return isinstance(model, str) and model.startswith(("http://", "https://"))
