"""What the names in a parsed file stand for: `t.load` after `import torch as t` is torch.load."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

Keywords = dict[str, ast.expr]


@cache
def aliases(tree: ast.Module) -> dict[str, set[str]]:
    """Return the dotted names of what each name is imported as, anywhere in the file: it may be one
    or another (try, except).
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
    """Return what `a.b.c` may stand for; `.c` of an attribute of anything else."""
    if isinstance(node, ast.Name):
        return aliases(tree).get(node.id, {node.id})
    if isinstance(node, ast.Attribute):
        return {f"{before}.{node.attr}" for before in _dotted(tree, node.value)} or {
            f".{node.attr}"
        }
    return set()


@cache
def imports(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return every module or name that is imported, `import_module("torch")` among them, by its
    dotted name.
    """
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
    """Return all that is named in the file, imports among it."""
    return imports(tree) + [
        (node, name) for node in ast.walk(tree) for name in sorted(_dotted(tree, node))
    ]


@cache
def calls(tree: ast.Module) -> list[tuple[ast.Call, str, Keywords]]:
    """Return each call with the name of what is called, the empty text where it has none, and its
    keywords.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [
                (node, name, _keywords(node)) for name in sorted(_dotted(tree, node.func)) or [""]
            ]
    return found


def _keywords(node: ast.Call) -> Keywords:
    keywords = {each.arg: each.value for each in node.keywords if each.arg}
    # **{"a": …} says its keywords as well; **name may say anything.
    for each in node.keywords:
        if each.arg is None and isinstance(each.value, ast.Dict):
            pairs = zip(each.value.keys, each.value.values, strict=True)
            keywords |= {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
    return keywords
