"""The mutants of a module: its source with one thing changed that a test ought to notice.

Messages, docstrings, annotations, decorators and interfaces (Protocol classes) stay as they are:
what they say is for people and type checkers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

OTHER_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
"""The boundary moved, and the opposite."""
OTHER_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
OTHER_NAMES = {
    **{"min": "max", "max": "min", "any": "all", "all": "any"},
    **{"minimum": "maximum", "maximum": "minimum", "ceil": "floor", "floor": "ceil"},
    **{"bisect_right": "bisect_left", "bisect_left": "bisect_right"},
}
UNTOUCHED_FIELDS = {"annotation", "returns", "decorator_list", "type_comment", "bases", "keywords"}
"""Of classes and functions."""

Place = tuple[ast.AST, str, int | None]
"""A node's parent, its field, and where in it the node stands, if it is a list."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """Hold a changed source, and say where and how it differs."""

    line: int
    function: str
    change: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module's source, in the order of its lines."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    found = []
    for node, place, function in list(_nodes(tree, "module")):
        # A number says nothing without what it is in.
        is_alone = isinstance(node, ast.Constant) and isinstance(place[0], ast.expr)
        before = _said(place[0] if is_alone else node)
        for changed in _changed(node):
            _put(place, changed)
            text = ast.unparse(ast.fix_missing_locations(tree))
            after = _said(place[0] if is_alone else changed)
            _put(place, node)
            if text not in seen:
                seen.add(text)
                line = getattr(node, "lineno", getattr(place[0], "lineno", 0))
                found.append(Mutant(line, function, f"{before} -> {after}", text))
    return sorted(found, key=lambda each: each.line)


def _nodes(parent: ast.AST, function: str) -> Iterator[tuple[ast.AST, Place, str]]:
    """Give each node that may be changed, its place, and the function or class it is in."""
    for name, value in ast.iter_fields(parent):
        is_defined = isinstance(parent, ast.FunctionDef | ast.ClassDef | ast.arg | ast.AnnAssign)
        if is_defined and name in UNTOUCHED_FIELDS:
            continue
        for index, node in enumerate(value) if isinstance(value, list) else ((None, value),):
            if not isinstance(node, ast.AST) or _is_for_people(node):
                continue
            yield node, (parent, name, index), function
            inner = function
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                inner = node.name if function == "module" else f"{function}.{node.name}"
            yield from _nodes(node, inner)


def _is_for_people(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return True
        case ast.ClassDef(bases=bases):
            return any("Protocol" in ast.unparse(base) for base in bases)
        case ast.Assign(targets=[ast.Name(id="__slots__")]):
            return True
    return False


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """Give what may stand in a node's place."""
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.comprehension):
        for number in range(len(node.ifs)):
            ifs = [each for place, each in enumerate(node.ifs) if place != number]
            yield ast.comprehension(node.target, node.iter, ifs, node.is_async)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.expr):
        yield from _expressions(node)


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.If(test, body, orelse):
            yield ast.If(_joined(ast.And(), ast.Constant(False), test), body, orelse)
            yield ast.If(_joined(ast.Or(), ast.Constant(True), test), body, orelse)
        case ast.While(test, body, orelse):
            yield ast.While(_joined(ast.And(), ast.Constant(False), test), body, orelse)
        case ast.Return(value) if value is not None and not _is_constant(value, None):
            yield ast.Return(ast.Constant(None))
        case ast.AugAssign(target, operator, value):
            yield ast.Pass()
            if other := OTHER_OPERATORS.get(type(operator)):
                yield ast.AugAssign(target, other(), value)
        case ast.Continue():
            yield from (ast.Break(), ast.Pass())
        case ast.Break():
            yield from (ast.Continue(), ast.Pass())
        case ast.Expr() | ast.Raise() | ast.Delete():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(left, operators, others):
            for number, operator in enumerate(operators):
                for other in OTHER_COMPARISONS[type(operator)]:
                    changed = [*operators[:number], other(), *operators[number + 1 :]]
                    yield ast.Compare(left, changed, others)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            for number in range(len(values)):
                rest = [*values[:number], *values[number + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case _:
            yield from _arithmetic(node)


def _arithmetic(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left, operator, right) if not (_is_text(left) or _is_text(right)):
            if other := OTHER_OPERATORS.get(type(operator)):
                yield ast.BinOp(left, other(), right)
        case ast.Constant(bool() as truth):
            yield ast.Constant(not truth)
        case ast.Constant(int() | float() as number):
            yield from (ast.Constant(number + 1), ast.Constant(number - 1))


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    match node:
        case ast.Call(ast.Name("Decimal") as name, [ast.Constant(str() as text)], keywords):
            try:
                number = Decimal(text)
            except InvalidOperation:
                return
            step = Decimal(1).scaleb(int(number.as_tuple().exponent))
            for changed in (number + step, number - step):
                yield ast.Call(name, [ast.Constant(f"{changed:f}")], keywords)
        case ast.Call(ast.Name("abs"), [argument], []):
            yield argument
        case ast.Call(ast.Name(name), arguments, keywords) if name in OTHER_NAMES:
            yield ast.Call(ast.Name(OTHER_NAMES[name], ast.Load()), arguments, keywords)
        case ast.Call(ast.Attribute(owner, name), arguments, keywords) if name in OTHER_NAMES:
            other = ast.Attribute(owner, OTHER_NAMES[name], ast.Load())
            yield ast.Call(other, arguments, keywords)


def _joined(operator: ast.boolop, first: ast.expr, second: ast.expr) -> ast.BoolOp:
    return ast.BoolOp(operator, [first, second])


def _is_constant(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _put(place: Place, node: ast.AST) -> None:
    parent, name, index = place
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


def _said(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
    text = ast.unparse(ast.fix_missing_locations(node)).strip()
    return " ".join(text.split())
