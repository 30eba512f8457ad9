"""What a stage's code reaches, read from its source: first-party modules, libraries, and the sections of params.yaml."""

import ast
import re
import sys
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.declared.file_trees import Tree

# The package that watches the stages; pipeline/__init__.py says why it is no dependency of theirs.
WATCHER = "pipeline"
# The folders of what stages run.
CODE = ("common", "model", "stages")


class _Source(NamedTuple):
    modules: frozenset[str]  # dotted names as the import statements have them
    choices: frozenset[tuple[str, str]]  # of import_module(f"package.{key}"): package and key
    sections: frozenset[
        str | None
    ]  # first arguments of read_section; None for one that is no literal


class Code:
    """The Python source of one tree."""

    def __init__(self, tree: Tree):
        self._tree = tree
        self._sources: dict[str, _Source] = {}
        self._run: dict[str, list[str]] = {}  # by module, what importing it runs

    @cached_property
    def files(self) -> list[str]:
        return [path for path in self._tree.files(*CODE) if path.endswith(".py")]

    def closure(self, stage: str) -> set[str]:
        """Return the paths of all first-party modules that running `stages.{stage}` imports, itself among them.

        What any module of a choice imports is among them. The modules themselves are what `choices` returns.
        """
        todo = self._paths(f"stages.{stage}")
        seen = set(todo)
        while todo:
            source = self._source(todo.pop())
            sources = [
                source,
                *(
                    self._chosen(path)
                    for package, _ in source.choices
                    for path in self._members(package)
                ),
            ]
            modules = {module for one in sources for module in one.modules} | {
                package for package, _ in source.choices
            }
            new = {found for module in modules for found in self._paths(module)} - seen
            seen |= new
            todo += new
        return seen

    def choices(self, stage: str) -> dict[str, list[str]]:
        """Return the modules of which an instance of the stage imports one: by dvc.yaml's path for it, the paths they have."""
        chosen = {choice for path in self.closure(stage) for choice in self._source(path).choices}
        return {
            f"{package.replace('.', '/')}/${{item.{key}}}.py": self._members(package)
            for package, key in chosen
        }

    def libraries(self, stage: str) -> set[str]:
        """Return the top-level names of the third-party packages that the closure imports."""
        names = {
            module.split(".")[0]
            for path in self._all(stage)
            for module in self._source(path).modules
        }
        own = {path.split("/")[0] for path in self.files} | {WATCHER}
        return names - own - sys.stdlib_module_names

    def importers(self, package: str) -> set[str]:
        """Return the files that import `package` or something in it."""
        return {
            path
            for path in self.files
            if any(module.split(".")[0] == package for module in self._source(path).modules)
        }

    def sections(self, stage: str) -> set[str | None]:
        """Return the keys that the closure gives to read_section, None where one is computed."""
        return {key for path in self._all(stage) for key in self._source(path).sections}

    def _all(self, stage: str) -> set[str]:
        return self.closure(stage).union(*self.choices(stage).values())

    def _chosen(self, path: str) -> _Source:
        source = self._source(path)
        if source.choices:
            raise SyntaxError(
                "a module that is chosen chooses another, which hides an import from dvc.yaml",
                (path, 1, None, None),
            )
        return source

    def _members(self, package: str) -> list[str]:
        folder = package.replace(".", "/")
        return [
            path
            for path in self.files
            if path.rpartition("/")[0] == folder and not path.endswith("/__init__.py")
        ]

    def _paths(self, module: str) -> list[str]:
        """Return the files that importing `module` runs: its packages' __init__.py and its own."""
        if module not in self._run:
            self._run[module] = self._find(module)
        return self._run[module]

    def _find(self, module: str) -> list[str]:
        parts = module.split(".")
        if parts[0] == WATCHER:
            return []
        prefixes = [PurePosixPath(*parts[:length]) for length in range(1, len(parts) + 1)]
        candidates = [
            str(path)
            for prefix in prefixes
            for path in (prefix.with_suffix(".py"), prefix / "__init__.py")
        ]
        return [path for path in candidates if self._tree.has(path)]

    def _source(self, path: str) -> _Source:
        if path not in self._sources:
            self._sources[path] = _parse(path, self._tree.read(path))
        return self._sources[path]


def _parse(path: str, content: bytes) -> _Source:
    modules, choices, sections = set(), set(), set()
    for node in ast.walk(ast.parse(content, path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*PurePosixPath(path).parts[: -node.level], *filter(None, [node.module])]
                )
            modules |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _called(node.func) == "read_section":
            key = node.args[0] if node.args else None
            sections.add(
                key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None
            )
        elif (
            isinstance(node, ast.Call)
            and _called(node.func) == "import_module"
            and (choice := _choice(node))
        ):
            choices.add(choice)
        elif isinstance(node, ast.Call) and _called(node.func) in (
            "import_module",
            "__import__",
            "run_module",
            "run_path",
        ):
            hides = f"{_called(node.func)} hides an import from dvc.yaml; write an import statement"
            raise SyntaxError(hides, (path, node.lineno, None, None))
    return _Source(frozenset(modules), frozenset(choices), frozenset(sections))


def _choice(call: ast.Call) -> tuple[str, str] | None:
    """Return "package" and "key" of import_module(f"package.{key}"), which dvc.yaml can declare; None for any other call."""
    match call:
        case ast.Call(
            args=[
                ast.JoinedStr(
                    values=[
                        ast.Constant(value=str(start)),
                        ast.FormattedValue(value=ast.Name(id=key), conversion=-1, format_spec=None),
                    ]
                )
            ],
            keywords=[],
        ) if re.fullmatch(r"(\w+\.)+", start):
            return start[:-1], key
    return None


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def stage_of(command: str) -> str | None:
    """Return the stage that a command of dvc.yaml runs, None where it is none of `python -m stages.NAME …`."""
    match = re.fullmatch(r"python -m stages\.(\w+)((?: [\w.${}-]+)*)", command)
    return match[1] if match else None
