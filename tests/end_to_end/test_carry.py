"""Code that dvc.yaml names in another way, and that is the same, reruns nothing: DVC itself says
so.
"""

import subprocess
from pathlib import Path

import pytest

from pipeline.dvc_support import lock_entries
from pipeline.dvc_support.carry import carry

DVC_YAML = """
stages:
  one:
    cmd: cp data.txt out.txt
    deps:
      - data.txt
{code}
    outs:
      - out.txt
"""
FOLDER = "      - model/network"
FILES = "      - model/network/batches.py\n      - model/network/gpt.py"


def dvc(root: Path, *arguments: str) -> str:
    command = ["dvc", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def declare(root: Path, code: str) -> None:
    (root / "dvc.yaml").write_text(DVC_YAML.format(code=code))


@pytest.fixture
def project(tmp_path) -> Path:
    root = tmp_path / "project"
    (root / "model/network").mkdir(parents=True)
    for name in ("gpt", "batches"):
        (root / f"model/network/{name}.py").write_text(f"NAME = '{name}'\n")
    (root / "data.txt").write_text("data\n")
    (root / "params.yaml").write_text("a: 1\n")
    dvc(root, "init", "--no-scm", "--quiet")
    return root


@pytest.mark.slow("DVC itself runs and judges: three commands", minutes=0.3)
@pytest.mark.parametrize(("before", "after"), [(FOLDER, FILES), (FILES, FOLDER)])
def test_other_names_of_the_same_code_rerun_nothing(project, before, after):
    declare(project, before)
    dvc(project, "repro", "--quiet")
    recorded = (project / "dvc.lock").read_text()
    declare(project, after)
    if after == FILES:  # what no stage imports, and the folder's hash would have
        (project / "model/network/new.py").write_text("")
    assert "changed deps" in dvc(project, "status")
    assert carry(project) == ["one"]
    assert "up to date" in dvc(project, "status")
    written = (project / "dvc.lock").read_text()
    assert carry(project) == []
    dvc(project, "repro", "--quiet", "--force")
    assert (project / "dvc.lock").read_text() == written != recorded


@pytest.mark.parametrize("edit", ["gpt", "data"])
def test_another_content_is_not_carried_over(project, edit):
    declare(project, FOLDER)
    dvc(project, "repro", "--quiet")
    recorded = (project / "dvc.lock").read_text()
    declare(project, FILES)
    if edit == "gpt":
        (project / "model/network/gpt.py").write_text("NAME = 'edited'\n")
        assert carry(project) == []
        assert (project / "dvc.lock").read_text() == recorded
    else:
        (project / "data.txt").write_text("edited\n")
        assert carry(project) == ["one"]
        assert "data.txt" in dvc(project, "status")


def test_an_import_that_is_new_is_not_carried_over(project):
    declare(project, "      - model/network/gpt.py")
    dvc(project, "repro", "--quiet")
    declare(project, FOLDER)
    assert carry(project) == []


def test_what_another_dvc_has_recorded_meanwhile_is_kept(project, monkeypatch):
    """DVC's lock is waited for, and dvc.lock may be another when it is had."""
    declare(project, FOLDER)
    dvc(project, "repro", "--quiet")
    declare(project, FILES)
    old = (project / "dvc.lock").read_text()
    edited = old.replace("size: 5", "size: 6")
    assert edited != old
    rewrite = lock_entries.rewrite_lock

    def waited(root, rewritten):
        (project / "dvc.lock").write_text(edited)
        rewrite(root, rewritten)

    monkeypatch.setattr(lock_entries, "rewrite_lock", waited)
    assert carry(project) == ["one"]
    text = (project / "dvc.lock").read_text()
    assert "size: 6" in text
    assert "model/network/gpt.py" in text
