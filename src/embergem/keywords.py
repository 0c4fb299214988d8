"""Refuses keyword arguments that a public callable does not have, and suggests the argument that was meant.

Python refuses them too, but without a suggestion, and for a callable with `**options` in the name of an inner function.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Set
from typing import Any, TypeVar, cast, get_args, is_typeddict

from embergem.errors import UnknownOption
from embergem.suggestions import did_you_mean

Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


def known_keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """Return the names of the keyword arguments that a function has; None if it takes any.

    `**options` with a `TypedDict` stands for the keys of that dictionary.

    >>> sorted(known_keywords(lambda self, texts, *, task=None: None))
    ['self', 'task', 'texts']
    >>> known_keywords(lambda **options: None) is None
    True
    """
    names: set[str] = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            [*described] = get_args(parameter.annotation)
            if not described or not is_typeddict(described[0]):
                return None
            names |= described[0].__annotations__.keys()
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            names.add(parameter.name)
    return frozenset(names)


def checked_keywords(function: Function, name: str | None = None) -> Function:
    """Return `function` with a check of the names of its keyword arguments. `name` is its name in errors.

    Raises:
        UnknownOption: By the returned function, for an argument that `function` does not have.
    """
    known = known_keywords(function)
    if known is None:  # the function checks the names itself
        return function
    check = functools.partial(require_known, name or function.__name__, known=known)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*arguments: Any, **given: Any) -> Any:
            check(given)
            return await function(*arguments, **given)

        return cast("Function", call_async)

    @functools.wraps(function)
    def call(*arguments: Any, **given: Any) -> Any:
        check(given)
        return function(*arguments, **given)

    return cast("Function", call)


def checked_class(cls: Class) -> Class:
    """Check the keyword arguments of the constructor and of the public methods that `cls` itself defines."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        shown = cls.__qualname__ if name == "__init__" else f"{cls.__qualname__}.{name}"
        if isinstance(member, classmethod | staticmethod):
            setattr(cls, name, type(member)(checked_keywords(member.__func__, shown)))
        elif inspect.isfunction(member):
            setattr(cls, name, checked_keywords(member, shown))
    return cls


def require_known(called: str, given: Iterable[str], known: Set[str]) -> None:
    """Do nothing if all names in `given` are known.

    Args:
        called: Name of the callable in the error.
        given: Names of the keyword arguments of a call.
        known: Names of the keyword arguments that the callable has.

    Raises:
        UnknownOption: A name is not known.
    """
    for name in given:
        if name not in known:
            names = known - {"self", "cls"}
            has = f" It has: {', '.join(sorted(names))}." if names else " It has none."
            raise UnknownOption(f"{called} has no option {name!r}.{did_you_mean(name, names)}{has}", param=name)
