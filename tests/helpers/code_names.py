"""Resolve the names in a parsed file: after `import torch as t`, `t.load` is torch.load."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

Keywords = dict[str, ast.expr]


@cache
def aliases(tree: ast.Module) -> dict[str, set[str]]:
    """Return, for each imported name, the dotted names that it may stand for.

    It may have several, as after an import in `try` and another in `except`.
    """
    found = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                found[alias.asname or first].add(alias.name if alias.asname else first)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name].add(f"{_module(node)}.{alias.name}")
    return dict(found)


def _module(node: ast.ImportFrom) -> str:
    return "." * node.level + (node.module or "")


def _dotted(tree: ast.Module, node: ast.AST) -> set[str]:
    """Return what `a.b.c` may stand for; ".c" for an attribute c of any other value."""
    if isinstance(node, ast.Name):
        return aliases(tree).get(node.id, {node.id})
    if isinstance(node, ast.Attribute):
        return {f"{before}.{node.attr}" for before in _dotted(tree, node.value)} or {
            f".{node.attr}"
        }
    return set()


@cache
def imports(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return each imported module or name by its dotted name, also by `import_module("torch")`."""
    found: list[tuple[ast.AST, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node, f"{_module(node)}.{alias.name}") for alias in node.names]
    for node in imported_by_call(tree):
        for text in node.args:
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found.append((node, text.value))
    return found


def imported_by_call(tree: ast.Module) -> Iterator[ast.Call]:
    for node, name, _ in calls(tree):
        if name.rpartition(".")[2] == "import_module":
            yield node


@cache
def named(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return every dotted name in the file, including imports."""
    return imports(tree) + [
        (node, name) for node in ast.walk(tree) for name in sorted(_dotted(tree, node))
    ]


@cache
def calls(tree: ast.Module) -> list[tuple[ast.Call, str, Keywords]]:
    """Return each call with its function's name (empty if it has none) and its keywords."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [
                (node, name, _keywords(node)) for name in sorted(_dotted(tree, node.func)) or [""]
            ]
    return found


def _keywords(node: ast.Call) -> Keywords:
    keywords = {each.arg: each.value for each in node.keywords if each.arg}
    # The keywords of **{"a": …} are known; those of **name are not.
    for each in node.keywords:
        if each.arg is None and isinstance(each.value, ast.Dict):
            pairs = zip(each.value.keys, each.value.values, strict=True)
            keywords |= {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
    return keywords
