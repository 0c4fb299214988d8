"""The help of commands: a layout for narrow terminals, and a word for the value of each option, such as `FILE`."""

import functools
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

NARROW = 72
"""A terminal with fewer columns gets the help without frames, which would leave no room for the text."""

NAMES = 12
"""Columns for the names of options and commands in a narrow terminal; a longer name has a line of its own."""

VALUES = {
    "access_log": "FORM",
    "against": "ADDRESS",
    "arch": "FAMILY",
    "chunk_overlap": "TOKENS",
    "chunk_pool": "each|mean",
    "concurrency": "REQUESTS",
    "confidence": "SHARE",
    "config": "FILE",
    "corpus": "FILE",
    "cors": "ORIGIN",
    "dense_from": "MODEL",
    "dimensions": "N",
    "hf_cache_path": "DIRECTORY",
    "id_": "COLUMN",
    "into": "COLUMN",
    "keep": "COLUMN",
    "keys": "FILE",
    "loss": "SHARE",
    "on_error": "ACTION",
    "output": "FILE",
    "oversample": "FACTOR",
    "pairs": "COLUMNS",
    "plot": "FILE",
    "ray_workers": "N",
    "relevance": "COLUMNS",
    "report": "FILE",
    "requests_per_minute": "N",
    "resamples": "N",
    "reuse": "FILE",
    "seed": "N",
    "storage": "FORMS",
    "threads": "N",
    "title_text": "TITLE",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "tokens_per_minute": "N",
    "too_long": "ACTION",
    "window": "TOKENS",
}
"""Words for the values of options whose own names say too little. For the others it is the last word of the name."""


def value_word(name: str) -> str:
    """Return the word that stands for the value of the option or argument with this Python name.

    Example:
        >>> value_word("tls_cert"), value_word("max_batch_tokens")
        ('FILE', 'TOKENS')
    """
    return VALUES.get(name) or name.rstrip("_").rpartition("_")[2].upper()


class _Help:
    """Mixin of commands: writes the help for the width of the terminal, with a word for each value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments. A value has a word, such as `FILE`; a flag has none."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if parameter.metavar is None:
                parameter.metavar = "" if getattr(parameter, "is_flag", False) else value_word(parameter.name)
            if isinstance(parameter, TyperArgument):  # typer would add its type, such as `<list[str]>`, to the word
                vars(parameter)["display_type_rich"] = lambda ctx: None
        return parameters

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        if formatter.width < NARROW:
            formatter.write_dl = functools.partial(formatter.write_dl, col_max=NAMES)
        super().format_help(ctx, formatter)  # type: ignore[misc]


class SingleCommand(_Help, TyperCommand):
    """One command."""


class CommandGroup(_Help, TyperGroup):
    """A group of commands."""
