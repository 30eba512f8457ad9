"""What stages and the commands for people say of themselves, and with which status everything exits
(docs/commands.md).
"""

import argparse
import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from command_names import COMMANDS
from repository import REPOSITORY
from sealed_project import project, run  # noqa: F401
from signals import as_in_a_terminal, as_in_the_background, as_nobody_should

from pipeline.declared.dvc_yaml import read_instances, read_stages
from pipeline.declared.file_trees import WorkingTree

INSTANCES = read_instances(WorkingTree(REPOSITORY))
STAGES = list(read_stages(WorkingTree(REPOSITORY)))
SECONDS = {
    "torch",
    "transformers",
    "scipy",
    "statsmodels",
    "datasets",
}  # what takes that long to import


def call(*arguments: object, folder: Path = REPOSITORY) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def docstring(module: str) -> str:
    place = REPOSITORY / module.replace(".", "/")
    file = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.get_docstring(ast.parse(file.read_text()))


def examples(text: str) -> list[list[str]]:
    """Return the indented lines that are commands, without what is said of them."""
    lines = re.findall(r"^ +((?:python|torchrun|dvc) .*)$", text, flags=re.MULTILINE)
    return [shlex.split(re.split(r" {2,}", line)[0]) for line in lines]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_explains_itself_before_it_imports_anything(stage):
    done = call("-X", "importtime", "-m", f"stages.{stage}", "--help")
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, flags=re.MULTILINE))
    assert done.returncode == 0
    assert not imported & SECONDS
    said = done.stdout
    first, *_ = said.splitlines()
    assert re.fullmatch(rf"usage: python -m stages\.{stage}( [A-Z]+)*", first)
    assert docstring(f"stages.{stage}") in said
    assert re.search(r"\bReads\b", said)
    assert re.search(r"\bWrites\b", said)
    by_hand, with_dvc = examples(said)
    assert shlex.join(by_hand) in {instance.command for instance in INSTANCES.values()}
    assert with_dvc[:2] == ["dvc", "repro"]
    assert INSTANCES[with_dvc[2]].command == shlex.join(by_hand)
    for name in first.split()[4:]:
        values = re.search(rf"^  {name} +(.*)$", said, flags=re.MULTILINE)[1].split(", ")
        assert len(by_hand) == len(first.split()) - 1
        assert by_hand[first.split().index(name) - 1] in values


def test_the_package_lists_its_stages():
    done = call("-m", "stages", "--help")
    assert done.returncode == 0
    assert re.findall(r"^  (\w+) +\S", done.stdout, flags=re.MULTILINE) == STAGES
    for stage in STAGES:
        assert docstring(f"stages.{stage}").splitlines()[0] in done.stdout


def test_to_explain_itself_a_stage_changes_nothing_and_needs_no_parameters(project):
    (project / "stages/probe.py").write_text('"""Probe."""\nraise RuntimeError("imported")\n')

    def help_and_files() -> tuple[str, list[Path]]:
        done = call("-B", "-m", "stages.probe", "-h", folder=project)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout, sorted(project.rglob("*"))

    before = sorted(project.rglob("*"))
    said, files = help_and_files()
    assert said.startswith("usage: python -m stages.probe WHICH\n\nProbe.\n")
    assert "\n  WHICH       a, b\n" in said
    assert files == before
    (project / "params.yaml").write_text("names: [")
    said, _ = help_and_files()
    assert said == "usage: python -m stages.probe WHICH\n\nProbe.\n"


@pytest.mark.parametrize("command", ["probe c", "probe", "nothing"])
def test_a_stage_with_wrong_arguments_says_what_it_takes(project, command):
    done = run(project, stage=command)
    taken = "probe WHICH" if command.startswith("probe") else "NAME …; NAME is one of probe, fetch"
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"usage: python -m stages.{taken}",
        (
            f"error: dvc.yaml has no stage whose command is 'python -m stages.{command}'; dvc stage"
            " list names them"
        ),
    ]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_explains_itself_without_seconds_of_imports(module):
    done = call("-X", "importtime", "-m", module, "--help")
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, flags=re.MULTILINE))
    assert done.returncode == 0
    assert not imported & SECONDS
    assert done.stdout.startswith(f"usage: python -m {module} ")
    assert docstring(module) in done.stdout
    assert re.search(r"\b[Rr]eads\b", done.stdout)
    assert re.search(r"\b[Ww]rites\b", done.stdout)
    assert examples(docstring(module))


@pytest.mark.parametrize("module", COMMANDS)
def test_a_commands_examples_are_what_it_takes(module, monkeypatch):
    class Taken(Exception):
        pass

    def only(parse):
        def parse_only(parser):
            parse(parser)
            raise Taken

        return parse_only

    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, only(parse))
    for example in examples(docstring(module)):
        place = example.index(module)
        assert example[place - 1] == "-m"
        monkeypatch.setattr(sys, "argv", example[place:])
        with pytest.raises(Taken):
            runnable = (REPOSITORY / module.replace(".", "/")).is_dir()
            import_module(f"{module}.__main__" if runnable else module).main()


@pytest.mark.parametrize("module", COMMANDS)
def test_a_command_with_wrong_arguments_says_what_it_takes(module):
    done = call("-m", module, "--no-such-option")
    usage_line, *_, error = done.stderr.splitlines()
    assert done.returncode == 2
    assert done.stdout == ""
    assert usage_line.startswith(f"usage: python -m {module} ")
    assert "error: " in error, "argparse's own has the program before it"


def test_a_range_with_one_end_and_an_empty_revision_are_wrong_arguments():
    for arguments in (("pipeline.impact", "main.."), ("tools.verdict", "")):
        done = call("-m", *arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: a")


@pytest.mark.parametrize(
    "command",
    [
        "pipeline.check",
        "pipeline.check --staged",
        "pipeline.impact",
        "tools.stale_report",
        "pipeline.dvc_support.record lock",
        "pipeline.leftover.prune",
        "tools.generated.doc_tables",
        "tools.verdict main",
        "tools.fault_panels main",
    ],
)
def test_a_command_in_the_wrong_folder_is_refused_in_a_line(command, tmp_path):
    done = call("-m", *command.split(), folder=tmp_path)
    assert done.returncode == 1
    assert len((done.stdout + done.stderr).splitlines()) <= 2
    assert "Traceback" not in done.stderr


FAILURES = {
    "done": ("pass", 0, ""),
    "refused": (
        'from common.errors import PipelineError; raise PipelineError("why")',
        1,
        "error: why",
    ),
    "beyond its declaration": (
        'open("data/secret.txt")',
        1,
        "error: seal: probe@a read data/secret.txt, which dvc.yaml does not list",
    ),
    "a fault of the code": ("1 / 0", 1, "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_stage_exits_with_0_if_and_only_if_it_is_done(project, name):
    body, status, said = FAILURES[name]
    done = run(project, body)
    assert done.returncode == status
    assert done.stderr.strip().split("\n")[-1].startswith(said)


@pytest.fixture
def waiting(project):
    """Starts a stage that waits, in a process that `prepare` prepares; the function returns it once
    the stage waits.
    """
    started = []

    def start(prepare: Callable[[], None], body: str = "pass") -> subprocess.Popen:
        run(project)  # writes the stage
        path = project / "stages/probe.py"
        path.write_text(
            path.read_text().replace(
                "    pass", f'    {body}; print("ready", flush=True); import time; time.sleep(60)'
            )
        )
        command = [sys.executable, "-m", "stages.probe", "a"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=project, preexec_fn=prepare, **pipes))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_a_stage_with_the_status_that_shells_know(project, waiting, number, status):
    process = waiting(as_in_a_terminal)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert status == (process.returncode if process.returncode > 0 else 128 - process.returncode)
    lines = (
        ["error: probe@a: interrupted; what is finished is kept, dvc repro goes on"]
        if number == signal.SIGINT
        else []
    )
    assert said.splitlines() == lines
    assert run(project).returncode == 0


POOL = (
    "from concurrent.futures import ProcessPoolExecutor; pool = ProcessPoolExecutor(1);"
    " pool.submit(len, 'a').result()"
)


@pytest.mark.parametrize("prepare", [as_in_the_background, as_nobody_should])
@pytest.mark.parametrize("body", ["pass", POOL], ids=["alone", "with a worker"])
def test_a_stage_in_the_background_ignores_ctrl_c_and_hangups_and_ends_by_sigterm(
    project,
    waiting,
    prepare,
    body,
):
    process = waiting(prepare, body)
    for number in (signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (-signal.SIGTERM, "")
    assert run(project).returncode == 0, "no worker is left, which would hold its lock"


def test_dvc_and_make_have_statuses_of_their_own(tmp_path):
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "tools/install.sh"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("requirements.txt", "requirements-cuda.txt", "requirements-data.txt"):
        (tmp_path / name).touch()
    made = subprocess.run(
        ["make", "setup", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode == 2
    assert "error: set-up: false is not Python 3.11 to 3.14 with venv" in made.stderr
    (tmp_path / "dvc.yaml").write_text("stages: {fails: {cmd: exit 1}}\n")
    dvc = [str(Path(sys.executable).with_name("dvc"))]
    subprocess.run([*dvc, "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    assert subprocess.run([*dvc, "repro"], cwd=tmp_path, capture_output=True).returncode == 255
