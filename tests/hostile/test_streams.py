"""A stdout or stderr that nobody reads: stages go on, commands that only print end, none has a
traceback.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY
from sealed_project import project, run  # noqa: F401

pytestmark = pytest.mark.slow("each command runs with readers that are gone", minutes=0.2)

UNREAD = 141  # 128 + SIGPIPE
BODY = """
for number in range({lines}):
    print(number)
print("to stderr", file=sys.stderr)
Path("data/.out.txt.partial").write_text("whole")
os.replace("data/.out.txt.partial", "data/out.txt")
"""


def unread(command: list[str], folder: Path, stderr_too: bool = False) -> tuple[int, str]:
    """Run `command` with a stdout whose reader has gone; return its status and what it has said on
    stderr.
    """
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    stderr = write if stderr_too else subprocess.PIPE
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=write, stderr=stderr, text=True, env=environment
        )
    finally:
        os.close(write)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("stderr_too", [False, True])
@pytest.mark.parametrize("flags", [[], ["-u"]])
@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_stage_goes_on_to_its_end(project, lines, flags, stderr_too):
    run(project, BODY.format(lines=lines))
    (project / "data/out.txt").unlink()
    command = [sys.executable, *flags, "-m", "stages.probe", "a"]
    status, said = unread(command, project, stderr_too)
    assert (status, said) == (0, "" if stderr_too else "to stderr\n")
    assert (project / "data/out.txt").read_text() == "whole"


def test_a_stage_that_fails_fails_also_where_nobody_reads(project):
    run(project, "print('x' * 100_000); sys.exit('refused')")
    assert unread([sys.executable, "-m", "stages.probe", "a"], project) == (1, "refused\n")


@pytest.mark.parametrize("command", ["stages --help", "stages.items --help"])
def test_help_of_a_stage_is_quiet(command):
    assert unread([sys.executable, "-m", *command.split()], REPOSITORY) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        "pipeline.check",
        "pipeline.check --help",
        "pipeline.impact",
        "tools.costs",
        "tools.score --help",
    ],
)
def test_a_command_that_only_tells_something_ends_as_programs_in_a_pipeline_do(command):
    assert unread([sys.executable, "-m", *command.split()], REPOSITORY) == (UNREAD, "")


def module(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts).removesuffix(".__main__")


def test_every_command_for_people_is_of_one_kind_or_the_other():
    """Each takes its arguments by `command_line`, which sees to it. tools/audit.py and
    tools/live/track.py, of other environments, do so themselves; the seal's start and the driver's
    keeper are for no person.
    """
    commands = [
        path for name in ("pipeline", "tools") for path in sorted((REPOSITORY / name).rglob("*.py"))
    ]
    mains = [
        path
        for path in commands
        if '__name__ == "__main__"' in path.read_text()
        and path.stem not in ("audit", "keeper", "start", "track")
    ]
    assert len(mains) > 15
    assert [
        path.name
        for path in mains
        if f'command_line("{module(path)}", __doc__' not in path.read_text()
    ] == []


def test_dvc_repro_records_what_it_runs_though_nobody_reads(tmp_path):
    one, two = "{cmd: echo 1 > one, outs: [one]}", "{cmd: cp one two, deps: [one], outs: [two]}"
    (tmp_path / "dvc.yaml").write_text(f"stages: {{one: {one}, two: {two}}}\n")
    dvc = str(Path(sys.executable).with_name("dvc"))
    subprocess.run([dvc, "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    command = [
        "env",
        f"PYTHONPATH={REPOSITORY}",
        sys.executable,
        "-m",
        "pipeline.driver",
    ]
    assert unread(command, tmp_path) == (0, "")
    assert (tmp_path / "two").read_text() == "1\n"
    assert (tmp_path / "dvc.lock").read_text().count("cmd:") == 2
