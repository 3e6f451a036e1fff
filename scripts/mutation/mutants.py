"""Which small changes are made to a source file."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
"""Each operator, and what is put in its place: the bound moved, and the opposite."""
_OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_ATOMS = (ast.Attribute, ast.Call, ast.Name, ast.Subscript)
_REMOVABLE = (ast.AugAssign, ast.Delete, ast.Raise)


@dataclass(frozen=True)
class Mutant:
    """One file with one change."""

    path: str
    function: str
    """Where the change is, such as `Engine.handle`; empty outside functions and classes."""
    source: str
    original: str

    @property
    def change(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The lines that are different, before and after, without their indentation."""
        lines = self.diff(context=0).splitlines()[3:]
        before, after = (tuple(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        return before, after

    def diff(self, context: int = 1) -> str:
        """Return the change as a unified diff."""
        before, after = self.original.splitlines(), self.source.splitlines()
        return "\n".join(difflib.unified_diff(before, after, self.path, self.function, n=context, lineterm=""))


def mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of their places."""
    found: dict[str, Mutant] = {}
    for function, mutated in _Mutator(source).all():
        if mutated != source and _compiles(mutated):  # 0.0 doubled is the same
            found.setdefault(mutated, Mutant(path, function, mutated, source))
    return list(found.values())


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:  # such as `pass` in place of a match's body
        return False
    return True


class _Mutator:
    """Finds the places to change by the syntax tree, and changes the text there, so that a diff shows nothing else."""

    def __init__(self, source: str) -> None:
        self._text = source.encode()
        self._begins = [0]
        for line in self._text.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))
        self._tree = ast.parse(source)

    def all(self) -> Iterator[tuple[str, str]]:
        """Yield a function's name and the whole source for each change."""
        yield from self._below(self._tree, "")

    def _below(self, node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
        for child in _children(node):
            inside = function
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                inside = f"{function}.{child.name}".lstrip(".")
            for begin, end, text in self._changes(child, node):
                yield inside, (self._text[:begin] + text.encode() + self._text[end:]).decode()
            yield from self._below(child, inside)

    def _changes(self, node: ast.AST, parent: ast.AST) -> Iterator[tuple[int, int, str]]:
        """Yield where the text is replaced, and by what."""
        if isinstance(node, ast.Compare):
            yield from self._comparisons(node)
        elif isinstance(node, ast.BinOp):
            yield self._operator(node.left, node.op, node.right)
        elif isinstance(node, ast.BoolOp):
            neutral = str(isinstance(node.op, ast.And))
            yield from ((*self._place(value), neutral) for value in node.values)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            begin, end = self._place(node)
            yield begin, end, self._text[begin + len("not ") : end].decode()
        elif isinstance(node, ast.Constant):
            yield from ((*self._place(node), text) for text in _constants(node.value))
        elif isinstance(node, ast.Name) and node.id in _NAMES and isinstance(parent, ast.Call):
            yield (*self._place(node), _NAMES[node.id])
        yield from self._conditions(node)
        if isinstance(node, ast.stmt):
            yield from self._statements(node)

    def _comparisons(self, node: ast.Compare) -> Iterator[tuple[int, int, str]]:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, node.comparators):
            text, others = _COMPARISONS[type(operator)]
            yield from (self._between(left, text, other, right) for other in others)

    def _operator(self, left: ast.expr, operator: ast.operator, right: ast.expr) -> tuple[int, int, str]:
        text, other = _OPERATORS[type(operator)]
        return self._between(left, text, other, right)

    def _between(self, left: ast.expr, text: str, other: str, right: ast.expr) -> tuple[int, int, str]:
        """Replace the operator between two operands, which the tree gives no place of."""
        begin, end = self._place(left)[1], self._place(right)[0]
        at = begin + self._text[begin:end].index(text.encode())
        return at, at + len(text), other

    def _conditions(self, node: ast.AST) -> Iterator[tuple[int, int, str]]:
        """Turn conditions around that are no comparison."""
        tests = [node.test] if isinstance(node, (ast.If, ast.IfExp, ast.While)) else getattr(node, "ifs", [])
        for test in tests:
            if isinstance(test, _ATOMS) and getattr(test, "id", "") != "TYPE_CHECKING":
                begin, end = self._place(test)
                yield begin, end, f"not {self._text[begin:end].decode()}"

    def _statements(self, node: ast.stmt) -> Iterator[tuple[int, int, str]]:
        begin, end = self._place(node)
        if isinstance(node, ast.AugAssign):
            text, other = _OPERATORS[type(node.op)]
            yield self._between(node.target, text, other, node.value)
        if isinstance(node, ast.Return) and node.value and not _is_none(node.value):
            yield begin, end, "return None"
        if isinstance(node, (ast.Break, ast.Continue)):
            yield begin, end, "continue" if isinstance(node, ast.Break) else "break"
        if _is_removable(node):
            yield begin, end, "pass"

    def _place(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the offsets of a node's text."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._begins[node.lineno - 1] + node.col_offset,
            self._begins[node.end_lineno - 1] + node.end_col_offset,
        )


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is inside a node and matters when the program runs, but not members' numbers of an Enum."""
    skipped = {"annotation", "returns", "decorator_list", "bases", "keywords" if isinstance(node, ast.ClassDef) else ""}
    if isinstance(node, ast.JoinedStr) or _is_enumeration(node):
        return
    for name, field in ast.iter_fields(node):
        if name not in skipped:
            yield from (item for item in (field if isinstance(field, list) else [field]) if isinstance(item, ast.AST))


def _is_enumeration(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any(getattr(base, "attr", "") == "Enum" for base in node.bases)


def _constants(value: object) -> list[str]:
    """Return what a constant is replaced with: its neighbours; of bytes, those with another beginning."""
    if isinstance(value, bool):
        return [str(not value)]
    if isinstance(value, int):
        return [str(value + 1), str(value - 1)]
    if isinstance(value, float):
        return [str(value * 2), str(value / 2)]
    if isinstance(value, bytes) and value:
        changed = repr(bytes([value[0] ^ 1]) + value[1:])[2:-1].replace('"', '\\"')
        return [f'b"{changed}"']
    return []


def _is_removable(node: ast.stmt) -> bool:
    """Whether a program without this statement may still run."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, (ast.Call, ast.Yield, ast.YieldFrom))
    if isinstance(node, ast.Assign):
        return not isinstance(node.targets[0], (ast.Name, ast.Tuple))
    return isinstance(node, _REMOVABLE) or (isinstance(node, ast.Return) and not node.value)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
