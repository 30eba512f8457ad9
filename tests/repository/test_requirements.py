"""The requirements: what the code imports is asked for, and what only tests need is not in the
pipeline's lock.
"""

import ast
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from repository import REPOSITORY

from tools.lock import LOCKS, MAIN, entries

PIPELINE = ("common", "model", "stages", "pipeline", "tools")
TESTS = ("tests", "benchmarks", ".ci")
# Asked for and not imported: DVC imports it, and works without.
NOT_IMPORTED = {"ruamel-yaml-clib"}
# Commands, what pytest loads by its name, and types for mypy.
NOT_IMPORTED_BY_TESTS = {
    *("codespell", "mypy", "pre-commit", "pre-commit-hooks", "pytest-xdist", "ruff"),
    *("scipy-stubs", "types-psutil", "types-pyyaml", "types-tqdm"),
}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(name: str) -> list[Requirement]:
    """Return the requirements of a requirements*.in, or the pins of a requirements*.txt that hold
    on this machine.
    """
    text = re.sub(r"\\\n| +--hash=\S+", "", (REPOSITORY / name).read_text())
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = [Requirement(line) for line in lines if line]
    return [each for each in found if not each.marker or each.marker.evaluate()]


def names(file: str) -> set[str]:
    return {normalized(requirement.name) for requirement in asked(file)}


def modules(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, anywhere in it, without those of Python
    itself.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names


def imported(root: Path, folders: Iterable[str]) -> set[str]:
    """Return the distributions that the code of some folders imports; of a package that is not
    installed its own name.
    """
    files = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    own = {*PIPELINE, *TESTS, *(path.stem for path in (root / "tests").rglob("*.py"))}
    packages = set().union(*map(modules, files)) - own
    providers = metadata.packages_distributions()
    return {normalized(name) for package in packages for name in providers.get(package, [package])}


def needed(requirements: Iterable[Requirement]) -> set[str]:
    """Return the distributions that the installed `requirements` need on this platform, themselves
    among them.
    """
    found, left = set(), list(requirements)
    while left:
        requirement = left.pop()
        key = (normalized(requirement.name), frozenset(requirement.extras))
        if key in found:
            continue
        found.add(key)
        extras = requirement.extras or {""}
        left += [
            need
            for need in map(Requirement, metadata.requires(requirement.name) or ())
            if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return {name for name, _ in found}


def test_what_the_pipeline_imports_is_asked_for_and_nothing_else():
    assert imported(REPOSITORY, PIPELINE) == names("requirements.in") - NOT_IMPORTED


def test_an_import_that_is_not_asked_for_would_be_seen(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/new.py").write_text(
        "import json\nfrom model import gpt\ndef f():\n    import yaml, wandb.sdk\n"
    )
    assert imported(tmp_path, PIPELINE) == {"pyyaml", "wandb"}


def test_what_tests_and_benchmarks_import_is_asked_for_and_nothing_else():
    found = imported(REPOSITORY, TESTS) - needed(asked("requirements.in"))
    s3_test = {"moto"}  # make s3-test
    assert found - s3_test == names("requirements-dev.in") - NOT_IMPORTED_BY_TESTS


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_a_lock_pins_what_is_asked_for_and_nothing_that_this_does_not_need(name):
    pinned = names(f"{name}.txt")
    assert names(f"{name}.in") <= pinned
    assert pinned <= needed(asked(f"{name}.in"))
    for requirement in asked(f"{name}.txt"):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier))


def test_no_two_locks_pin_the_same():
    locks = [
        {each.name for each in entries((REPOSITORY / name).read_text())}
        for name in [*LOCKS, "requirements-cuda.txt"]
        if name != "requirements-audit.txt"  # another environment's
    ]
    assert len(set().union(*locks)) == sum(map(len, locks))
    assert "torch" in locks[0]
    assert "pytest" in locks[1]
    assert "nvidia-cublas" in locks[-1]


@pytest.mark.parametrize("name", [*LOCKS, "requirements-cuda.txt", "requirements-data.txt"])
def test_every_pin_has_the_hashes_of_its_files(name):
    text = (REPOSITORY / name).read_text()
    pinned = re.findall(r"^[\w.-]+==.*", text, flags=re.MULTILINE)
    hashed = re.findall(r"^[\w.-]+==.*?(?:\\\n)? +--hash=sha256:[0-9a-f]{64}\b", text, re.MULTILINE)
    assert len(hashed) == len(pinned) > 0


def test_torch_may_be_the_indexes_build_or_one_for_cpus():
    """The CPU builds' hashes, for which PyTorch's index stands beside PyPI: x86-64 and arm64, each
    of four Pythons.
    """
    [torch] = [each for each in entries((REPOSITORY / MAIN).read_text()) if each.name == "torch"]
    of_python_311 = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
    assert of_python_311 in torch.hashes()
    assert len(torch.hashes()) >= 8 + 4 * 3, "and of x86-64, arm64 and macOS with PyPI's builds"


def test_what_a_requirement_needs_is_followed_with_its_extras():
    assert {"jinja2", "markupsafe"} <= needed([Requirement("jinja2")])
    assert "transformers" not in needed([Requirement("huggingface_hub")])
    with pytest.raises(metadata.PackageNotFoundError):
        needed([Requirement("no-such-package")])
