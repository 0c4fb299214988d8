"""The value of `embed --ray`, which may be left out: click gives an option either no value or always one.

Separate because it is the only option that needs the arguments before click reads them.
"""

from collections.abc import Sequence

OPTION = "--ray"

DEFAULT = "any"
"""Address of `--ray` alone; see `embergem.ray.cluster.ANY`."""


def fill_address(arguments: Sequence[str]) -> list[str]:
    """Give `--ray` the default address, unless the next argument is its value.

    The next argument is no address if it is an option, a file, a directory, a pattern of a known format, or a text with
    spaces. Any other one is taken for an address, so that a mistyped address is an error and not a text to embed.

    >>> fill_address(["--ray", "corpus.jsonl", "-o", "v.npy"])
    ['--ray', 'any', 'corpus.jsonl', '-o', 'v.npy']
    >>> fill_address(["corpus.jsonl", "--ray", "10.0.0.1:6379"])
    ['corpus.jsonl', '--ray', '10.0.0.1:6379']
    """
    filled: list[str] = []
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    options, texts = arguments[:end], arguments[end:]  # after "--" no argument is an option
    for place, argument in enumerate(options):
        filled.append(argument)
        if argument == OPTION and not (place + 1 < len(options) and _is_address(options[place + 1])):
            filled.append(DEFAULT)
    return [*filled, *texts]


def _is_address(argument: str) -> bool:
    from embergem.bulk.source import names_a_source

    return not (argument.startswith("-") or names_a_source(argument) or any(map(str.isspace, argument)))
