"""What the Python side hands to each function of the store, read from its source."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from tests.tidy.tree import ROOT, functions, parsed

STORE = ROOT / "router" / "store"


class Handed(NamedTuple):
    """How many keys or arguments a call hands over at least, and whether more may follow."""

    number: int
    repeats: bool


NOBODY_KNOWS = Handed(0, repeats=True)


class Call(NamedTuple):
    """One `fcall` or `gather`."""

    where: str
    function: str
    keys: Handed
    args: Handed


def calls() -> list[Call]:
    return [call for path in sorted(STORE.glob("*.py")) for call in _calls_of(parsed(path))]


def _calls_of(module: ast.Module) -> Iterator[Call]:
    kept = _kept_names(module)
    for scope in ast.walk(module):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(scope):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in {"fcall", "gather"} or len(node.args) < 3:
                continue
            if isinstance(node.args[0], ast.Name):
                continue  # it hands on what another one asked for
            name = _function_name(node.args[0], kept)
            keys, args = (_handed(argument, scope) for argument in node.args[1:3])
            if node.func.attr == "gather":  # parts with keys and arguments of their own follow
                keys, args = keys._replace(repeats=True), args._replace(repeats=True)
            yield Call(f"{scope.name}:{node.lineno}", name, keys, args)


def _kept_names(module: ast.Module) -> dict[str, str]:
    """Names of functions that a constructor looked up: `self._enqueue = self._function("…")`."""
    return {
        target.attr: node.value.args[0].value
        for node in ast.walk(module)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Attribute)
        and node.value.args
        and isinstance(node.value.args[0], ast.Constant)
        and isinstance(node.value.args[0].value, str)
    }


def _function_name(node: ast.expr, kept: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return kept.get(node.attr, "")
    if isinstance(node, ast.Call) and isinstance(node.args[0], ast.Constant):
        return str(node.args[0].value)
    return ""


def _handed(node: ast.expr, scope: ast.AST) -> Handed:
    if isinstance(node, ast.Tuple):
        parts = [
            _handed(element.value, scope)
            if isinstance(element, ast.Starred)
            else Handed(1, repeats=False)
            for element in node.elts
        ]
        return Handed(sum(part.number for part in parts), any(part.repeats for part in parts))
    if isinstance(node, ast.Name):
        return max(
            (_handed(value, scope) for value in _assigned(node.id, scope)), default=NOBODY_KNOWS
        )
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _returned(node.func.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _returned(node.func.attr)
    return NOBODY_KNOWS  # a list that grows, a generator


def _assigned(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(scope):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id == name and isinstance(value, ast.expr):
                yield value


def _returned(name: str) -> Handed:
    """What a function of the store that returns a tuple returns."""
    for path in sorted(STORE.glob("*.py")):
        for function in functions(path):
            last = function.body[-1]
            if (
                function.name == name
                and isinstance(last, ast.Return)
                and isinstance(last.value, ast.Tuple)
            ):
                return _handed(last.value, function)
    return NOBODY_KNOWS
