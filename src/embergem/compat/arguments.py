"""How compatibility classes treat arguments of another library: accept, refuse with a reason, or ignore with a warning.

Each compatibility class has a table that maps every argument of the other library which differs here to a `Refused` or
an `Ignored`. Arguments that are not in the table are accepted and have the meaning that the other library gives them.
`scripts/compatibility_page.py` writes docs/compatibility.md from the same tables.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from embergem.errors import IgnoredOptionWarning, UnsupportedOption
from embergem.sdk.results import caller_stacklevel

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Refused:
    """An argument or method that embergem cannot honour. Using it raises `UnsupportedOption`.

    Attributes:
        reason: Why, and what to use instead. It completes the sentence "X is not supported: ...".
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """An argument that changes nothing about an embedding. Using it issues an `IgnoredOptionWarning`.

    Attributes:
        reason: Why it changes nothing. It completes the sentence "X is ignored: ...".
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Different:
    """A method or property that embergem has with another result.

    Attributes:
        reason: The difference.
    """

    reason: str


Table = Mapping[str, Refused | Ignored]


def check_arguments(caller: str, given: Mapping[str, Any], defaults: Mapping[str, Any], table: Table) -> None:
    """Refuse or ignore the arguments in `given` that differ from their default, as `table` says.

    Args:
        caller: Name of the callable for messages, such as "Runner".
        given: Argument values by name.
        defaults: Default values by name. An argument that is None counts as left out too.
        table: The treatment of each argument that is not accepted.

    Raises:
        UnsupportedOption: An argument is refused.
    """
    for name, treatment in table.items():
        if given.get(name) is None or given[name] == defaults.get(name):
            continue
        if isinstance(treatment, Refused):
            raise UnsupportedOption(not_supported(f"{caller}({name}=…)", treatment.reason), param=name)
        message = f"{caller}({name}={given[name]!r}) is ignored: {treatment.reason}."
        warnings.warn(message, IgnoredOptionWarning, stacklevel=caller_stacklevel())


def refused_method(table: Table) -> Callable[[Method], Method]:
    """Return a decorator for a method of the other library that embergem refuses, with the reason from `table`.

    The decorated function gives the name and the typed signature. Its body is never run.
    """

    def decorate(method: Method) -> Method:
        reason = table[method.__name__].reason
        refuse = functools.wraps(method)(refusing(method.__name__, reason))
        refuse.__doc__ = f"Raise `UnsupportedOption`: {reason}."
        return refuse  # type: ignore[return-value]

    return decorate


def refusing(name: str, reason: str) -> Callable[..., NoReturn]:
    """Return a function that raises `UnsupportedOption` for the method `name` of the other library."""

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise UnsupportedOption(not_supported(name, reason), param=name)

    return refuse


def not_supported(what: str, reason: str) -> str:
    """Return the sentence that refuses an argument or member of the other library.

    >>> not_supported("fit", "embergem does not train models")
    'fit is not supported: embergem does not train models.'
    """
    return f"{what} is not supported: {reason}."
