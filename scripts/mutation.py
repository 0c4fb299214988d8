"""Mutants: copies of a module with one small fault, made from its syntax tree.

The kinds are those of other tools (comparisons, boolean and arithmetic operators, constants, negated conditions) and
three more: a missing statement, a missing slice, and a value that is not returned. Faults of the first two kinds have
passed all tests before. cosmic-ray 8.7 has no operator for them, so the project makes its mutants itself.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

SWAPS: dict[type[ast.AST], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in", ast.And: "or", ast.Or: "and", ast.Add: "-", ast.Sub: "+",
    ast.Mult: "+", ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "+", ast.BitAnd: "|", ast.BitOr: "&", ast.LShift: ">>",
    ast.RShift: "<<",
}  # fmt: skip
"""Operators, and what takes their place."""

CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
"""Functions, and what takes their place."""


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Attributes:
        start, end: The bytes of the source that are replaced.
        line: Number of the first line that changes.
        before, after: The replaced bytes and the new ones, as text.
    """

    start: int
    end: int
    line: int
    before: str
    after: str

    def apply(self, source: bytes) -> bytes:
        """Return the changed module."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants(source: bytes) -> list[Mutant]:
    """Return all mutants of a module, in the order of the source. Annotations and docstrings have none."""
    return sorted(_Finder(source).found, key=lambda mutant: (mutant.start, mutant.end, mutant.after))


class _Finder(ast.NodeVisitor):
    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self.found: list[Mutant] = []
        self.visit(ast.parse(source))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        """Return the bytes of a node."""
        assert isinstance(node, (ast.expr, ast.stmt))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _add(self, start: int, end: int, after: str) -> None:
        line = self._source.count(b"\n", 0, start) + 1
        self.found.append(Mutant(start, end, line, self._source[start:end].decode(), after))

    def _replace(self, node: ast.AST, after: str) -> None:
        self._add(*self._span(node), after)

    def _swap(self, left: ast.expr, operator: ast.AST, right: ast.expr) -> None:
        """Replace the operator between two operands; brackets around the operands stay."""
        start, end = self._span(left)[1], self._span(right)[0]
        between = self._source[start:end].decode()
        text = between.strip("() \n\\")
        if type(operator) in SWAPS and between.count(text) == 1 and "#" not in between:
            start += between.index(text)
            self._add(start, start + len(text), SWAPS[type(operator)])

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in [*node.defaults, *node.kw_defaults]:
            if default is not None:
                self.visit(default)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in [node.args, *node.body]:
            self.visit(part)

    visit_FunctionDef = visit_AsyncFunctionDef = _function  # noqa: N815

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        self._replace(node, "pass")
        self.generic_visit(node)

    visit_AugAssign = visit_Raise = visit_Delete = _statement  # noqa: N815

    def visit_Assign(self, node: ast.Assign) -> None:
        if not isinstance(node.targets[0], ast.Name):  # a missing name would be found at once
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._replace(node.value, "None")
        self.generic_visit(node)

    def _condition(self, node: ast.If | ast.While | ast.IfExp) -> None:
        start, end = self._span(node.test)
        self._add(start, end, f"not ({self._source[start:end].decode()})")
        self.generic_visit(node)

    visit_If = visit_While = visit_IfExp = _condition  # noqa: N815

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self._swap(left, operator, right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._swap(left, node.op, right)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._swap(node.left, node.op, node.right)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start = self._span(node)[0]
        self._add(start, start + len("not " if isinstance(node.op, ast.Not) else "-"), "")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Slice):
            self._add(self._span(node.value)[1], self._span(node)[1], "")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            self._replace(node.func, CALLS[node.func.id])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int):
            self._replace(node, str(node.value + 1))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass  # positions inside f-strings are wrong before Python 3.12; most are messages


def changed_lines(source: bytes, mutant: Mutant) -> Iterator[str]:
    """Yield the lines that a mutant changes: the old ones with `-`, the new ones with `+`."""
    first = source.rfind(b"\n", 0, mutant.start) + 1
    last = source.find(b"\n", mutant.end)
    end = len(source) if last < 0 else last
    old = source[first:end].decode()
    new = (source[first : mutant.start] + mutant.after.encode() + source[mutant.end : end]).decode()
    yield from (f"- {line}" for line in old.splitlines())
    yield from (f"+ {line}" for line in new.splitlines())
