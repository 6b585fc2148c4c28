"""Every seeded error that a source file admits: one expression or statement replaced by another.

    text     a = min(x - 1, n) if last < 0 else x // 2
    errors   max(x - 1, n)   x + 1   x   x - 2   last <= 0   last < 1   x % 2   x // 3

Errors lie in functions only. Spared are texts, annotations, decorators, ``raise`` and ``assert``,
``__repr__``, what stands under ``TYPE_CHECKING``, and the keywords of ``SPARED_KEYWORDS``.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ARITHMETIC: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Div(),
    ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Mod(),
    ast.Mod: ast.FloorDiv(),
    ast.Pow: ast.Mult(),
    ast.BitAnd: ast.BitOr(),
    ast.BitOr: ast.BitAnd(),
}
COMPARISONS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
CALLS = {
    old: new
    for pair in (
        ("min", "max"),
        ("minimum", "maximum"),
        ("any", "all"),
        ("ceil", "floor"),
        ("argmin", "argmax"),
    )
    for old, new in (pair, pair[::-1])
}
SPARED_KEYWORDS = ("strict", "dtype", "maxsize", "copy", "kind")
"""Arguments that say how a result is checked, stored or reached, not what it is."""


@dataclass(frozen=True)
class Mutant:
    """One seeded error.

    Attributes:
        path: Of the file, from the root of the repository.
        function: Dotted name of the function.
        line: First line of the replaced text, from 1.
        runs: First and last line of what runs with the error.
        start: Byte of the file at which the replaced text begins.
        end: Byte after the replaced text.
        old: The replaced text.
        new: What stands there instead.
        context: The line of source around it, stripped.
        changed: That line with the error.
    """

    path: str
    function: str
    line: int
    runs: tuple[int, int]
    start: int
    end: int
    old: str
    new: str
    context: str
    changed: str

    @property
    def lines(self) -> range:
        """Lines that run with the error."""
        return range(self.runs[0], self.runs[1] + 1)

    @property
    def key(self) -> str:
        """Name the error by its text, so that it is known again after lines have moved."""
        return f"{self.path}::{self.function}: {self.context} -> {self.changed}"

    def applied(self, source: str) -> str:
        """Return the file with the error."""
        text = source.encode()
        return (text[: self.start] + self.new.encode() + text[self.end :]).decode()


def mutants_of(source: str, path: str) -> list[Mutant]:
    """Return every seeded error of a file, in the order of its text."""
    finder = _Finder(source, path)
    finder.visit(ast.parse(source))
    return sorted(set(finder.mutants), key=lambda one: (one.start, one.end, one.new))


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str, path: str) -> None:
        self.path = path
        self.text = source.encode()
        lines = self.text.splitlines(keepends=True)
        self.lines = lines
        self.offsets = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
        self.names: list[str] = []
        self.in_function = 0
        self.runs: tuple[int, int] | None = None
        self.mutants: list[Mutant] = []

    # What is spared

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self.names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in {"__repr__", "__str__"}:
            return
        self.names.append(node.name)
        self.in_function += 1
        # Python reads defaults when it defines the function; what tests them is who runs its body.
        self.runs = (node.body[0].lineno, node.body[-1].end_lineno or 0)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self.runs = None
        for statement in node.body:
            self.visit(statement)
        self.in_function -= 1
        self.names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  ast names it

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if not ast.unparse(node.test).endswith("TYPE_CHECKING"):
            self._negate(node.test)
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in SPARED_KEYWORDS:
            self.generic_visit(node)

    def _spare(self, node: ast.AST) -> None:
        """Leave a node and all in it as they are."""

    visit_Raise = visit_Assert = visit_JoinedStr = _spare  # noqa: N815  ast names them

    # What is replaced

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(map(_is_text, (node.left, node.right))):
            other = ARITHMETIC.get(type(node.op))
            if other is not None:
                self._replace(node, lambda new: setattr(new, "op", other))
            if isinstance(node.op, ast.Sub | ast.Add) and _is_number(node.right, 1):
                self._add(node, f"({ast.unparse(node.left)})")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        other = ARITHMETIC.get(type(node.op))
        if other is not None:
            self._replace(node, lambda new: setattr(new, "op", other), wrap=False)
        self._add(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if all(isinstance(target, ast.Subscript) for target in node.targets):
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "pass")

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, operator in enumerate(node.ops):
            other = COMPARISONS[type(operator)]
            self._replace(node, lambda new, at=at, other=other: new.ops.__setitem__(at, other))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, lambda new: setattr(new, "op", other))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            self._add(node, f"({ast.unparse(node.operand)})")
        if not isinstance(node.operand, ast.Constant):
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._negate(condition)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add(node, str(not node.value))
        elif isinstance(node.value, int):
            self._add(node, str(node.value + 1))
            if node.value > 0:
                self._add(node, str(node.value - 1))

    def visit_Call(self, node: ast.Call) -> None:
        name = _last_name(node.func)
        if name in CALLS:
            self._replace(node, lambda new: _rename(new.func, CALLS[name]))
        elif name == "where" and len(node.args) == 3:
            self._replace(node, lambda new: new.args.__setitem__(slice(1, 3), new.args[:0:-1]))
        elif name == "sorted" and all(keyword.arg != "reverse" for keyword in node.keywords):
            reverse = ast.keyword("reverse", ast.Constant(value=True))
            self._replace(node, lambda new: new.keywords.append(reverse))
        elif name == "lexsort" and node.args and isinstance(node.args[0], ast.Tuple):
            self._replace(node, lambda new: new.args[0].elts.reverse())
        if name not in {"cast", "TypeVar"}:
            self.generic_visit(node)

    def _negate(self, condition: ast.expr) -> None:
        """Turn a condition around that is no comparison: those are changed in themselves."""
        if isinstance(condition, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
            self._add(condition, f"(not {ast.unparse(condition)})")

    def _replace(
        self, node: ast.expr | ast.stmt, change: Callable[..., object], *, wrap: bool = True
    ) -> None:
        new = copy.deepcopy(node)
        change(new)
        text = ast.unparse(new)
        self._add(node, f"({text})" if wrap else text)

    def _add(self, node: ast.expr | ast.stmt, new: str) -> None:
        if not self.in_function or node.end_lineno is None or node.end_col_offset is None:
            return
        start = self.offsets[node.lineno - 1] + node.col_offset
        end = self.offsets[node.end_lineno - 1] + node.end_col_offset
        self.mutants.append(
            Mutant(
                path=self.path,
                function=".".join(self.names),
                line=node.lineno,
                runs=self.runs or (node.lineno, node.end_lineno),
                start=start,
                end=end,
                old=" ".join(self.text[start:end].decode().split()),
                new=new,
                context=self.lines[node.lineno - 1].decode().strip(),
                changed=self._changed(start, end, new),
            )
        )

    def _changed(self, start: int, end: int, new: str) -> str:
        """Return the line on which a replacement begins."""
        begin = self.text.rfind(b"\n", 0, start) + 1
        rest = self.text[end:].split(b"\n", 1)[0]
        return (self.text[begin:start].decode() + new + rest.decode()).strip()


def _is_text(node: ast.expr) -> bool:
    """Tell whether a side of an operation is a text or a list, with which all others just fail."""
    is_constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return is_constant or isinstance(node, ast.List | ast.Tuple | ast.JoinedStr)


def _is_number(node: ast.expr, value: int) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == value


def _last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _rename(function: ast.expr, name: str) -> None:
    if isinstance(function, ast.Attribute):
        function.attr = name
    elif isinstance(function, ast.Name):
        function.id = name
