"""The stub `_native.pyi` agrees with the compiled module: names and arguments."""

import ast
import inspect
from pathlib import Path

from embergem import _native

STUB = ast.parse((Path(_native.__file__).parent / "_native.pyi").read_text())


def declared(body):
    return {node.name: node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def parameters(function):
    """Return the parameters of a function of the stub as `inspect` reports the native one: positional, keyword-only."""
    arguments = function.args
    names = [argument.arg for argument in arguments.args if argument.arg not in ("self", "cls")]
    return names, [argument.arg for argument in arguments.kwonlyargs]


def actual(callable_):
    kinds = inspect.signature(callable_).parameters.values()
    positional = [p.name for p in kinds if p.kind is not p.KEYWORD_ONLY and p.name not in ("self", "cls")]
    return positional, [p.name for p in kinds if p.kind is p.KEYWORD_ONLY]


def test_classes_are_the_same():
    there = {name for name, value in vars(_native).items() if inspect.isclass(value) or inspect.isbuiltin(value)}
    assert there == set(declared(STUB.body))


def test_members_and_their_arguments_are_the_same():
    for name, stub in declared(STUB.body).items():
        native = getattr(_native, name)
        if isinstance(stub, ast.FunctionDef):
            assert actual(native) == parameters(stub), name
            continue
        members = declared(stub.body)
        there = {member for member in vars(native) if not member.startswith("_")} | {"__new__"}
        assert there - {"__new__"} == set(members) - {"__new__"}, name
        for member, function in members.items():
            if any(isinstance(mark, ast.Name) and mark.id == "property" for mark in function.decorator_list):
                assert not callable(vars(native)[member])
                continue
            target = native if member == "__new__" else getattr(native, member)
            assert actual(target) == parameters(function), f"{name}.{member}"
