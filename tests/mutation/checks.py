"""What can be taken out of a module: its refusals, and the parts of the conditions that guard them.

A mutant keeps every name of what it takes out, behind a constant, so that a function keeps its variables and
its closure: its code can then be put into the function object that everybody already holds.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import TypeAlias

Edit: TypeAlias = Callable[[], None]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Key: TypeAlias = tuple[str, int]
"""Qualified name and first line: which function a code object is of."""

_CALLS = ("check", "refuse", "verify")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One thing taken out. `apply` may be called once, in a fork.

    A test must reach one of `lines` to notice. It is likely to where an error is raised at those lines, or at
    `guarded`, which a condition is before, and less so where one is raised elsewhere in the `function`.
    """

    name: str
    path: Path
    lines: range
    guarded: range
    function: range
    tree: ast.Module
    apply: Edit

    def code(self) -> dict[Key, CodeType]:
        """Return the code of every function of the module without what this mutant takes out."""
        self.apply()
        ast.fix_missing_locations(self.tree)
        module = compile(self.tree, str(self.path), "exec")
        return {(code.co_qualname, code.co_firstlineno): code for code in _within(module)}


def mutants_of(path: Path, module: str) -> list[Mutant]:
    """Return the mutants of one module, each under a name that does not depend on line numbers."""
    tree = ast.parse(path.read_bytes())
    seen: Counter[str] = Counter()
    mutants = []
    for qualified, function in _functions(tree, ""):
        for statement, guarded, what, apply in _edits(function):
            name = f"{module} {qualified}: {what}"
            seen[name] += 1
            if seen[name] > 1:
                name += f" #{seen[name]}"
            mutants.append(
                Mutant(name, path, _lines(statement), _lines(*guarded), _lines(function), tree, apply)
            )
    return mutants


def _lines(*statements: ast.stmt) -> range:
    if not statements:
        return range(0)
    last = statements[-1]
    return range(statements[0].lineno, (last.end_lineno or last.lineno) + 1)


def _within(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _within(constant)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(
                child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix
            )


def _edits(function: Function) -> Iterator[tuple[ast.stmt, list[ast.stmt], str, Edit]]:
    """Yield statement, guarded statements, description and edit of all that can be taken out."""
    asked = _names_asked(function)
    for body, place in _statements(function):
        statement = body[place]
        early = isinstance(statement, ast.Return) and body is not function.body
        if isinstance(statement, ast.Raise) or early or _is_check(statement):
            yield statement, [], f"no `{_said(statement)}`", _skip(body, place)
        where, guarded = statement, list[ast.stmt]()
        if isinstance(statement, (ast.If, ast.While)):
            where, guarded = _head(statement), statement.body
        for what, edit in _within_statement(statement, function, asked):
            yield where, guarded, what, edit


def _within_statement(statement: ast.stmt, function: Function, asked: set[str]) -> Iterator[tuple[str, Edit]]:
    """Yield what can be taken out of the conditions of one statement, those inside it apart."""
    if isinstance(statement, (ast.If, ast.While)):
        yield from _parts(statement, "test")
    elif isinstance(statement, ast.Assign):
        asks = bool(asked & {target.id for target in statement.targets if isinstance(target, ast.Name)})
        yield from _parts(statement, "value") if asks else _filters(statement.value)
    elif isinstance(statement, ast.Return) and statement.value is not None:
        is_condition = isinstance(function.returns, ast.Name) and function.returns.id == "bool"
        yield from _parts(statement, "value") if is_condition else _filters(statement.value)
    elif isinstance(statement, ast.Try):
        kinds = (handler.type for handler in statement.handlers if isinstance(handler.type, ast.Tuple))
        for several in kinds:
            for number, kind in enumerate(several.elts):
                yield f"no `except {_said(kind)}`", _drop(several.elts, number)


def _statements(function: Function) -> Iterator[tuple[list[ast.stmt], int]]:
    """Yield the place of every statement of a function, in the list that holds it; inner functions apart."""
    blocks: list[list[ast.stmt]] = [function.body]
    while blocks:
        block = blocks.pop()
        for place, statement in enumerate(block):
            yield block, place
            if isinstance(statement, (Function, ast.ClassDef)):
                continue
            blocks += [
                getattr(statement, name)
                for name in ("body", "orelse", "finalbody")
                if hasattr(statement, name)
            ]
            blocks += [handler.body for handler in getattr(statement, "handlers", [])]


def _names_asked(function: Function) -> set[str]:
    """Return the names in the conditions of a function: what is assigned to them is part of a check."""
    tests = (node.test for node in ast.walk(function) if isinstance(node, (ast.If, ast.While)))
    return {node.id for test in tests for node in ast.walk(test) if isinstance(node, ast.Name)}


def _is_check(statement: ast.stmt) -> bool:
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
        return False
    called = statement.value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name.removeprefix("_").startswith(_CALLS)


def _parts(owner: object, field: str) -> Iterator[tuple[str, Edit]]:
    """Yield the parts of the condition in `owner.field`: of `and`, `or`, chains, pairs of tuples, filters."""
    value = getattr(owner, field)
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not):
        yield from _parts(value, "operand")
    elif isinstance(value, ast.BoolOp):
        for number, part in enumerate(value.values):
            yield (
                f"no `{_said(part)}`",
                _constant(value.values, number, neutral=isinstance(value.op, ast.And)),
            )
        for part_owner in (_Held(value.values, number) for number in range(len(value.values))):
            yield from _parts(part_owner, "held")
    elif isinstance(value, ast.Compare):
        yield from _links(owner, field, value)
        yield from _filters(value)
    elif isinstance(value, ast.Call) and getattr(value.func, "id", "") in {"any", "all"}:
        for argument in value.args:
            if isinstance(argument, ast.GeneratorExp):
                yield from _parts(argument, "elt")
        yield from _filters(value)
    elif value is not None:
        yield from _filters(value)


@dataclass
class _Held:
    """A place in a list, as an attribute."""

    values: list[ast.expr]
    number: int

    @property
    def held(self) -> ast.expr:
        return self.values[self.number]

    @held.setter
    def held(self, value: ast.expr) -> None:
        self.values[self.number] = value


def _links(owner: object, field: str, value: ast.Compare) -> Iterator[tuple[str, Edit]]:
    """Yield the links of a chain such as `0 < a <= b`, or the pairs of two tuples that are compared."""
    operands = [value.left, *value.comparators]
    if len(value.ops) > 1:
        links: list[ast.expr] = [
            ast.Compare(left, [op], [right])
            for left, op, right in zip(operands, value.ops, operands[1:], strict=False)
        ]
        for number, link in enumerate(links):
            yield f"no `{_said(link)}` of a chain", _without_link(owner, field, links, number)
    elif isinstance(value.ops[0], (ast.Eq, ast.NotEq)) and all(isinstance(o, ast.Tuple) for o in operands):
        left, right = (operand.elts for operand in operands if isinstance(operand, ast.Tuple))
        for number in range(min(len(left), len(right))):
            yield f"no `{_said(left[number])}` of a tuple", _without_pair(left, right, number)


def _filters(value: ast.AST) -> Iterator[tuple[str, Edit]]:
    for node in ast.walk(value):
        if isinstance(node, ast.comprehension):
            for number, condition in enumerate(node.ifs):
                yield f"no filter `{_said(condition)}`", _constant(node.ifs, number, neutral=True)
                yield from _parts(_Held(node.ifs, number), "held")


def _skip(body: list[ast.stmt], place: int) -> Edit:
    def edit() -> None:
        body[place] = ast.If(test=ast.Constant(value=False), body=[body[place]], orelse=[])

    return edit


def _drop(kinds: list[ast.expr], number: int) -> Edit:
    def edit() -> None:
        del kinds[number]

    return edit


def _constant(parts: list[ast.expr], number: int, *, neutral: bool) -> Edit:
    def edit() -> None:
        parts[number] = _hidden(parts[number], neutral=neutral)

    return edit


def _without_link(owner: object, field: str, links: list[ast.expr], number: int) -> Edit:
    def edit() -> None:
        kept = [_hidden(link, neutral=True) if n == number else link for n, link in enumerate(links)]
        setattr(owner, field, ast.BoolOp(op=ast.And(), values=kept))

    return edit


def _without_pair(left: list[ast.expr], right: list[ast.expr], number: int) -> Edit:
    def edit() -> None:
        for elements in (left, right):
            elements[number] = ast.BoolOp(op=ast.And(), values=[ast.Constant(value=None), elements[number]])

    return edit


def _hidden(part: ast.expr, *, neutral: bool) -> ast.expr:
    """Return `True or part`, or `False and part`: a constant that still mentions its names."""
    return ast.BoolOp(op=ast.Or() if neutral else ast.And(), values=[ast.Constant(value=neutral), part])


def _head(statement: ast.If | ast.While) -> ast.stmt:
    """Return a statement on the lines of the condition alone."""
    return ast.Expr(
        value=statement.test, lineno=statement.lineno, end_lineno=statement.test.end_lineno, col_offset=0
    )


def _said(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."
