"""By what the seal and the scratch folder know an input: code by content, folders of data by sizes
and times.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.declared.dvc_yaml import Instance
from pipeline.seal.input_witness import changed_input, fingerprints_of
from pipeline.seal.scratch_folder import fingerprint

DEPS = ("data/folder", "data/notes.txt", "model/part", "model/whole.py", "stages/probe.py")
CODE = ["model/part/deep/inner.py", "model/part/page.css", "model/part/outer.py", "model/whole.py"]
DATA = "data/folder/inside.txt"


@pytest.fixture
def root(tmp_path) -> Path:
    for name in (*CODE, DATA, "data/notes.txt", "stages/probe.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("number = 1\n")
    (tmp_path / "params.yaml").write_text("wanted: 1\n")
    (tmp_path / ".dvcignore").write_text("__pycache__\n*~\n")
    return tmp_path


@pytest.fixture
def instance() -> Instance:
    command = "python -m stages.probe"
    return Instance("probe", "probe", command, DEPS, {"params.yaml": ("wanted",)}, ("out",), ())


def judged(root: Path, instance: Instance, edit: Callable[[], object]) -> str | None:
    """Return the input that the witness names after `edit`, which the scratch folder has to see
    too.
    """
    witnessed, scratch = fingerprints_of(root, instance), fingerprint(root, instance)
    edit()
    changed = changed_input(witnessed, fingerprints_of(root, instance))
    assert (fingerprint(root, instance) != scratch) == (changed is not None)
    return changed


def edit_unseen(path: Path) -> None:
    """Change a file and keep its size, times and inode."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )


@pytest.mark.parametrize("name", [*CODE, "data/notes.txt", "stages/probe.py"])
def test_an_edit_of_code_with_the_same_size_and_time_is_seen_and_named(root, instance, name):
    assert judged(root, instance, lambda: edit_unseen(root / name)) == name


def rewrite(root: Path, name: str) -> None:
    """Replace a file by a new one of the same content, as git does, with a time of its own."""
    content = (root / name).read_bytes()
    (root / name).unlink()
    (root / name).write_bytes(content)
    os.utime(root / name, ns=(1, 1))


@pytest.mark.parametrize("name", [*CODE, "data/notes.txt", "stages/probe.py"])
def test_the_same_content_in_a_new_file_is_no_change(root, instance, name):
    assert judged(root, instance, lambda: rewrite(root, name)) is None


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def test_git_switch_to_a_branch_without_the_code_and_back_changes_no_input(root, instance):
    git(root, "init", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-m", "a")
    git(root, "switch", "-c", "other")
    git(root, "rm", "-r", "model/part")
    git(root, "commit", "-m", "b")
    git(root, "switch", "main")
    assert (
        judged(root, instance, lambda: git(root, "switch", "other")) == "model/part/deep/inner.py"
    )
    git(root, "switch", "main")

    def there_and_back() -> None:
        git(root, "switch", "other")
        assert not (root / "model/part").exists()
        git(root, "switch", "main")

    assert judged(root, instance, there_and_back) is None


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda root: (root / "model/part/new.py").touch(), "model/part/new.py"),
        (lambda root: (root / "model/part/outer.py").unlink(), "model/part/outer.py"),
        (lambda root: shutil.rmtree(root / "model/part"), "model/part/deep/inner.py"),
        (
            lambda root: (root / "model/part/outer.py").rename(root / "model/part/other.py"),
            "model/part/outer.py",
        ),
        (lambda root: (root / "model/other.py").touch(), None),
        (lambda root: (root / "model/part/outer.py~").touch(), None),
    ],
    ids=["new", "removed", "folder removed", "renamed", "beside the folder", "ignored by DVC"],
)
def test_files_that_come_and_go_in_a_folder_of_code(root, instance, edit, named):
    assert judged(root, instance, lambda: edit(root)) == named


@pytest.mark.parametrize("ignored", [True, False])
def test_bytecode_is_no_code_whether_dvc_ignores_it_or_not(root, instance, ignored):
    if not ignored:
        (root / ".dvcignore").unlink()

    def compile_all() -> None:
        (root / "model/part/deep/__pycache__").mkdir()
        (root / "model/part/deep/__pycache__/inner.cpython-311.pyc").write_bytes(b"1")

    assert judged(root, instance, compile_all) is None


def test_a_folder_of_data_is_known_by_sizes_and_times(root, instance):
    """It may be too large to be read for each piece of work."""
    assert judged(root, instance, lambda: edit_unseen(root / DATA)) is None
    assert judged(root, instance, lambda: os.utime(root / DATA, ns=(1, 1))) == "data/folder"
    assert judged(root, instance, lambda: (root / DATA).write_text("longer than before")) == (
        "data/folder"
    )


def test_an_input_that_comes_or_goes_is_named(root, instance):
    notes = root / "data/notes.txt"
    assert judged(root, instance, notes.unlink) == "data/notes.txt"
    assert judged(root, instance, notes.touch) == "data/notes.txt"


def test_a_parameter_that_changes_is_named(root, instance):
    edit = (root / "params.yaml").write_text
    assert judged(root, instance, lambda: edit("wanted: 2\n")) == "wanted of params.yaml"
    assert judged(root, instance, lambda: edit("wanted: 2\nother: 3\n")) is None
