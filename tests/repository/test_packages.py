"""No circle between packages, and each layer imports only what is below it.

Packages are folders. An import inside a function counts: it is a dependency all the same. (grimp,
which import-linter uses, does not look into folders without an __init__.py, as most of model/ are.)
"""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest
from repository import REPOSITORY

# Which top-level packages each one may import, besides itself.
MAY_IMPORT = {
    "common": set(),
    "model": {"common"},
    "pipeline": {"common"},
    "stages": {"common", "model"},
    "tools": {"common", "model", "pipeline"},
}


def imported_names(path: Path) -> set[str]:
    """Return the dotted names that a module's import statements may mean, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def imports_between_packages(root: Path) -> dict[str, dict[str, str]]:
    """Return by package the packages that it imports, each with one import as an example."""
    modules = {}
    for top in MAY_IMPORT:
        for path in (root / top).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts).removesuffix(".__init__")] = path
    package = {name: ".".join(path.relative_to(root).parts[:-1]) for name, path in modules.items()}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name, path in sorted(modules.items()):
        for target in sorted(imported_names(path) & modules.keys()):
            if package[target] != package[name]:
                found[package[name]][package[target]] = f"{name} imports {target}"
    return found


def circle(root: Path) -> list[str]:
    """Return the imports that form a circle between packages; none where there is no circle."""
    between = imports_between_packages(root)
    try:
        TopologicalSorter(between).prepare()
    except CycleError as error:
        names = error.args[1][::-1]
        return [between[one][other] for one, other in pairwise(names)]
    return []


def wrong_layers(root: Path) -> list[str]:
    """Return the imports of a top-level package that it may not import.

    Only stages/__init__.py imports pipeline/: it starts the seal.
    """
    lines = []
    for name, targets in imports_between_packages(root).items():
        for target, example in targets.items():
            top, other = name.split(".")[0], target.split(".")[0]
            allowed = {top} | MAY_IMPORT[top]
            if other not in allowed and example != "stages imports pipeline.seal.start":
                lines.append(example)
    return lines


def test_packages_form_no_circle():
    assert circle(REPOSITORY) == []


def test_each_layer_imports_only_what_is_below_it():
    assert wrong_layers(REPOSITORY) == []
    assert all(list((REPOSITORY / top).rglob("*.py")) for top in MAY_IMPORT)


@pytest.fixture
def small(tmp_path) -> Path:
    texts = {
        "common/errors.py": "",
        "model/data/items.py": "from common.errors import x",
        "model/tokens/bpe.py": "from model.data import items",
        "pipeline/check.py": "import common.errors",
        "stages/__init__.py": "def f():\n    from pipeline.seal.start import start",
        "pipeline/seal/start.py": "",
        "stages/items.py": "import model.data.items",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_circle_is_seen_also_where_an_import_is_in_a_function(small):
    assert circle(small) == []
    (small / "model/data/other.py").write_text("def f():\n    from model.tokens.bpe import g")
    assert sorted(circle(small)) == [
        "model.data.other imports model.tokens.bpe",
        "model.tokens.bpe imports model.data.items",
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("common/files.py", "import model.data.items"),
        ("model/data/more.py", "from pipeline import check"),
        ("pipeline/seal/more.py", "from model.data.items import x"),
        ("stages/more.py", "import pipeline.check"),
    ],
)
def test_an_import_of_a_higher_layer_is_seen(small, path, text):
    assert wrong_layers(small) == []
    (small / path).write_text(text)
    [line] = wrong_layers(small)
    assert line.startswith(path.removesuffix(".py").replace("/", ".") + " imports ")
