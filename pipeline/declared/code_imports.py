"""What a stage's code reaches: first-party modules, libraries, sections of params.yaml.

Read from the source, by walking import statements, without running any code:

    stages/NAME.py  → the modules that it imports → the modules that those import → …

Importing a.b.c also runs a/__init__.py and a/b/__init__.py, so these are reached too, if they
exist. An import inside a function counts as well: the stage may call the function.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.declared.dvc_yaml import below
from pipeline.declared.file_trees import Tree, without_ignored
from pipeline.declared.settings import SETTINGS

# The package that watches the stages; pipeline/__init__.py says why no stage depends on it.
WATCHER = "pipeline"
# The folders of what stages run.
CODE = tuple(SETTINGS.code)
STAGES = SETTINGS.stages  # the package with a module a stage


def is_code(dep: str) -> bool:
    """Return whether dvc.yaml's dependency `dep` is a module, or lies in a folder of code."""
    return dep.endswith(".py") or any(below(dep, folder) for folder in CODE)


class _Source(NamedTuple):
    modules: frozenset[str]  # dotted names as the import statements have them
    packages: frozenset[str]  # of import_module(f"package.{entry.name}"): any module of the package
    # Keys of params.yaml that are read, as dvc.yaml writes them; None for a computed key.
    sections: frozenset[str | None]
    at_once: frozenset[str]  # of import statements outside functions: module, or module:name


class Code:
    """The Python source of one tree."""

    def __init__(self, tree: Tree):
        self._tree = tree
        self._sources: dict[str, _Source] = {}
        self._run: dict[str, tuple[str, ...]] = {}  # by module, what importing it runs
        self._closures: dict[str, set[str]] = {}

    @cached_property
    def files(self) -> list[str]:
        """The paths of all modules, sorted."""
        return [path for path in self._visible if path.endswith(".py")]

    @cached_property
    def _visible(self) -> list[str]:
        """The files in folders of code that DVC hashes, sorted."""
        return without_ignored(self._tree, self._tree.files(*CODE))

    @cached_property
    def _folders(self) -> dict[str, set[str]]:
        """All files below each folder of code, at any depth."""
        found: dict[str, set[str]] = {}
        for path in self._visible:
            for folder in PurePosixPath(path).parents[:-1]:
                found.setdefault(str(folder), set()).add(path)
        return found

    def dependencies(self, stage: str) -> set[str]:
        """Return the code that the stage must depend on, as dvc.yaml must name it.

        A folder is one dependency if and only if the stage reaches every file in it: its hash then
        covers exactly those modules. The outermost such folder is named. If a stage reaches all of
        model/scoring/ but not all of model/:

            model/scoring/scorer.py     → model/scoring
            model/scoring/packing.py    → model/scoring
            model/text/MODULE.py        → model/text/MODULE.py
        """
        reached = self.closure(stage)
        return {self._outermost(path, reached) for path in reached}

    def _outermost(self, path: str, reached: set[str]) -> str:
        """Return the outermost folder of `path` that has only files in `reached`, else `path`."""
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            inside = self._folders.get(str(folder))  # None outside the folders of code
            if inside is not None and inside <= reached:
                return str(folder)
        return path

    def has_data(self, dep: str) -> bool:
        """Return whether `dep` is a file in a folder of code that is not a module."""
        return dep in self._visible and not dep.endswith(".py")

    def unreached(self, stage: str, folder: str) -> list[str]:
        """Return the files below `folder` that the stage does not reach."""
        return sorted(self._folders.get(folder, set()) - self.closure(stage))

    def closure(self, stage: str) -> set[str]:
        """Return the paths of `stages.{stage}` and of all first-party modules that it reaches."""
        if stage not in self._closures:
            self._closures[stage] = self._find_closure(stage)
        return self._closures[stage]

    def _find_closure(self, stage: str) -> set[str]:
        todo = [*self._paths(f"{STAGES}.{stage}")]
        seen = set(todo)
        while todo:
            modules = self._imported(self._source(todo.pop()))
            new = {found for module in modules for found in self._paths(module)} - seen
            seen |= new
            todo += new
        return seen

    def libraries(self, stage: str) -> set[str]:
        """Return the top-level names of the third-party packages that the closure imports."""
        names = {
            module.split(".")[0]
            for path in self.closure(stage)
            for module in self._source(path).modules
        }
        own = {path.split("/")[0] for path in self.files} | {WATCHER}
        return names - own - sys.stdlib_module_names

    def imported_at_once(self, stage: str) -> set[str]:
        """Return what the closure imports of `libraries` outside functions.

        `import module` gives `module`, and `from module import name` gives `module:name`.
        """
        libraries = self.libraries(stage)
        every = {each for path in self.closure(stage) for each in self._source(path).at_once}
        return {each for each in every if each.partition(":")[0].split(".")[0] in libraries}

    def importers(self, package: str) -> set[str]:
        """Return the files that import `package` or something in it."""
        return {
            path
            for path in self.files
            if any(module.split(".")[0] == package for module in self._source(path).modules)
        }

    def sections(self, stage: str) -> set[str | None]:
        """Return the keys that the closure passes to read_section and read_overridden.

        f"conditions.{name}.sft" becomes conditions.${item.name}.sft, as dvc.yaml writes it. None
        stands for a computed key.
        """
        return {key for path in self.closure(stage) for key in self._source(path).sections}

    def _members(self, package: str) -> list[str]:
        folder = package.replace(".", "/")
        return [
            path
            for path in self.files
            if path.rpartition("/")[0] == folder and not path.endswith("/__init__.py")
        ]

    def _imported(self, source: _Source) -> frozenset[str]:
        """Return the dotted names of what `source` imports."""
        members = {
            path.removesuffix(".py").replace("/", ".")
            for package in source.packages
            for path in self._members(package)
        }
        return source.modules | source.packages | members

    def _paths(self, module: str) -> tuple[str, ...]:
        """Return the files that importing `module` runs: its packages' __init__.py and its own."""
        if module not in self._run:
            self._run[module] = self._find(module)
        return self._run[module]

    def _find(self, module: str) -> tuple[str, ...]:
        parts = module.split(".")
        if parts[0] == WATCHER:
            return ()
        prefixes = [PurePosixPath(*parts[:length]) for length in range(1, len(parts) + 1)]
        candidates = [
            str(path)
            for prefix in prefixes
            for path in (prefix.with_suffix(".py"), prefix / "__init__.py")
        ]
        return tuple(path for path in candidates if self._tree.has(path))

    def _source(self, path: str) -> _Source:
        if path not in self._sources:
            self._sources[path] = _parse(path, self._tree.read(path))
        return self._sources[path]


def _parse(path: str, content: bytes) -> _Source:
    """Return what the source of the module `path` imports and reads.

        import a.b                            module a.b
        from a import b                       modules a and a.b, since b may be a module
        from . import b                       the same, relative to the module's package
        read_section("x.y", …)                section x.y
        import_module(f"a.{entry.name}")      package a
        import_module(name), run_path(…)      SyntaxError: the import cannot be known

    All of the file counts, also the bodies of functions.
    """
    modules, packages, sections = set(), set(), set()
    whole = ast.parse(content, path)
    for node in ast.walk(whole):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*PurePosixPath(path).parts[: -node.level], *filter(None, [node.module])]
                )
            modules |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _called(node.func) in _KEYS:
            keys = node.args[: _KEYS[_called(node.func)]]
            sections |= {_key(key) for key in keys} or {None}
        elif (
            isinstance(node, ast.Call)
            and _called(node.func) == "import_module"
            and (package := _package(node))
        ):
            packages.add(package)
        elif isinstance(node, ast.Call) and _called(node.func) in (
            "import_module",
            "__import__",
            "run_module",
            "run_path",
        ):
            hides = f"{_called(node.func)} hides an import from dvc.yaml; write an import statement"
            raise SyntaxError(hides, (path, node.lineno, None, None))
    return _Source(
        frozenset(modules),
        frozenset(packages),
        frozenset(sections),
        frozenset(_at_once(whole)),
    )


# The functions that read params.yaml, and how many of their first arguments are keys.
_KEYS = {"read_overridden": 2, "read_section": 1}


def _key(key: ast.expr) -> str | None:
    """Return a key of params.yaml as dvc.yaml writes it; None if it is computed."""
    match key:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(
            values=[
                ast.Constant(value=str(before)),
                ast.FormattedValue(value=ast.Name(id=name), conversion=-1, format_spec=None),
                ast.Constant(value=str(after)),
            ]
        ):
            return f"{before}${{item.{name}}}{after}"
    return None


def _at_once(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}:{alias.name}" for alias in node.names)


def _package(call: ast.Call) -> str | None:
    """Return "package" for import_module(f"package.{entry.name}"), None for any other call.

    A table names the module, so all modules of the package are dependencies.
    """
    match call:
        case ast.Call(
            args=[
                ast.JoinedStr(
                    values=[
                        ast.Constant(value=str(start)),
                        ast.FormattedValue(
                            value=ast.Attribute(value=ast.Name()), conversion=-1, format_spec=None
                        ),
                    ]
                )
            ],
            keywords=[],
        ) if re.fullmatch(r"(\w+\.)+", start):
            return start[:-1]
    return None


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def stage_of(command: str) -> str | None:
    """Return NAME if a command of dvc.yaml is `python -m stages.NAME …`, else None."""
    match = re.fullmatch(rf"python -m {STAGES}\.(\w+)((?: [\w.${{}}-]+)*)", command)
    return match[1] if match else None
