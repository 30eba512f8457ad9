"""Instances that warm interpreters start are what cold ones are, and see every edit."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from sealed_project import project  # noqa: F401

from pipeline.driver import warm_interpreters
from pipeline.driver.local import LocalPlace, environment_of
from pipeline.driver.place import Job, Machine, Outcome

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="warm interpreters need Linux's process descriptors"
)

STAGE = """
import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy

from common.errors import run_stage
from common.files import write_json
from common.sections import read_section

EDITED = 1


def main():
    read_section("wanted", int)
    open("data/declared.txt").read(), os.listdir("data/folder")
    state = {
        "argv": sys.argv[1:],
        "blocked": sorted(map(str, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "edited": EDITED,
        "environment": {k: v for k, v in os.environ.items() if k not in ("HOME", "TMPDIR")},
        "flags": str(sys.flags),
        "imported": sorted({name.split(".")[0] for name in sys.modules} & {"numpy", "torch"}),
        "input": sys.stdin.read(),
        "kernel": sorted(os.listdir("/proc/self/fd"))[:3],
        "meta": [type(each).__name__ for each in sys.meta_path],
        "path": sys.path,
        "session": [os.getsid(0), os.getpgrp()],
        "signals": [str(signal.getsignal(number)) for number in (2, 15, 17)],
        "terminal": sys.stdout.isatty() and sys.stderr.isatty(),
        "threads": threading.active_count(),
    }
    write_json(Path("out") / f"{sys.argv[1]}.json", state)
    print("wrote", sys.argv[1])


if __name__ == "__main__":
    run_stage(main)
"""


@pytest.fixture
def stages(project, monkeypatch) -> Path:
    """The project with a stage that writes what its process is, in three instances."""
    (project / "stages/probe.py").write_text(STAGE)
    text = (project / "dvc.yaml").read_text()
    text = text.replace("common/sections.py", "common/files.py, common/sections.py")
    text = text.replace('"out/${item.which}"', '"out/${item.which}.json"')
    (project / "dvc.yaml").write_text(text)
    (project / "params.yaml").write_text("names: [a, b, c]\nwanted: 3\n")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return project


@pytest.fixture
def place(stages):
    place = LocalPlace(stages, [f"probe@{name}" for name in "abc"], Machine(2, 2))
    yield place
    place.close()


def run(place: LocalPlace, name: str) -> Outcome:
    place.start(Job(f"probe@{name}", (f"python -m stages.probe {name}",), threads=1))
    limit = time.monotonic() + 60
    while not (found := place.finished(0.5)):
        assert time.monotonic() < limit
    [outcome] = found
    return outcome


def state(root: Path, name: str) -> dict:
    return json.loads((root / "out" / f"{name}.json").read_text())


def are_warm(place: LocalPlace) -> bool:
    return bool(place._warm.descriptors)


def test_a_warm_start_is_a_cold_start(stages, place):
    warm = [run(place, name) for name in "ab"]
    assert [outcome.status for outcome in warm] == [0, 0], warm
    assert [outcome.log for outcome in warm] == ["wrote a\n", "wrote b\n"]
    assert are_warm(place)
    one_only = LocalPlace(stages, ["probe@c"], Machine(2, 2))
    cold = run(one_only, "c")
    assert cold.status == 0, cold.log
    assert not are_warm(one_only)
    found, expected = state(stages, "a"), state(stages, "c")
    assert found.pop("argv") == ["a"]
    assert expected.pop("argv") == ["c"]
    for each in (found, expected):
        each["environment"].pop("DVC_STAGE")
        # The leader of a cold one may be its shell: dash does not become its last command.
        session, group = each.pop("session")
        assert session == group != os.getsid(0)
    assert found == expected
    assert found["terminal"]


def test_an_edit_of_code_is_seen_by_the_next_instance(stages, place):
    run(place, "a")
    (stages / "stages/probe.py").write_text(STAGE.replace("EDITED = 1", "EDITED = 2"))
    assert run(place, "b").status == 0
    assert [state(stages, name)["edited"] for name in "ab"] == [1, 2]
    errors = stages / "common/errors.py"
    errors.write_text(errors.read_text().replace("gc.freeze()", "print('another common')"))
    assert "another common" in run(place, "c").log


def test_the_seal_holds_in_a_warm_start(stages, place):
    text = STAGE.replace("EDITED = 1", "open('data/secret.txt').read()")
    (stages / "stages/probe.py").write_text(text)
    outcome = run(place, "a")
    assert outcome.status == 1
    assert "probe@a read data/secret.txt, which dvc.yaml does not list" in outcome.log


def test_an_edit_of_the_seal_ends_warm_starts(stages, place):
    run(place, "a")
    guard = stages / "pipeline/seal/audit_guard.py"
    guard.write_text(guard.read_text() + "print('another seal')\n")
    assert "another seal" in run(place, "b").log


def test_libraries_that_start_threads_are_imported_by_each_instance(stages, place):
    """Only the thread that forks lives on in the fork."""
    place._warm._libraries["probe"] = place._warm._libraries["probe"]._replace(
        modules=("numpy", "concurrent.futures.thread", "pipeline.seal.threaded")
    )
    (stages / "pipeline/seal/threaded.py").write_text(
        "import threading, time\nthreading.Timer(60, print).start()\n"
    )
    place._warm._seal = warm_interpreters._seen(stages)
    assert run(place, "a").status == 0
    assert not are_warm(place)
    assert run(place, "b").status == 0


def test_a_warm_interpreter_that_dies_ends_its_instances_and_others_start_without(stages, place):
    (stages / "stages/probe.py").write_text(
        STAGE.replace("    state = {", "    signal.pause()\n    state = {")
    )
    place.start(Job("probe@a", ("python -m stages.probe a",), threads=1))
    limit = time.monotonic() + 60
    while (process := place._group(place._running["probe@a"])) is None:
        assert time.monotonic() < limit
        assert place.finished(0.1) == []
    time.sleep(1)
    os.kill(int(Path(f"/proc/{process}/stat").read_text().split()[3]), signal.SIGKILL)
    [outcome] = place.finished(30)
    assert outcome.status == -signal.SIGTERM
    (stages / "stages/probe.py").write_text(STAGE)
    assert run(place, "b").status == 0
    assert not are_warm(place)


def test_a_signal_to_an_instance_is_its_status(stages, place):
    (stages / "stages/probe.py").write_text(
        STAGE.replace("    state = {", "    signal.pause()\n    state = {")
    )
    place.start(Job("probe@a", ("python -m stages.probe a",), threads=1))
    limit = time.monotonic() + 60
    while place._group(place._running["probe@a"]) is None:
        assert time.monotonic() < limit
        place.finished(0.1)
    place.stop(signal.SIGTERM)
    [outcome] = place.finished(30)
    assert outcome.status == -signal.SIGTERM


def test_an_interpreter_has_the_libraries_of_its_stage_and_the_variables_for_them(stages):
    """torch is imported by no stage here, and OPENBLAS_NUM_THREADS is pyproject.toml's."""
    place = LocalPlace(stages, ["probe@a", "probe@b"], Machine(2, 2))
    assert run(place, "a").status == 0
    found = state(stages, "a")
    assert "numpy" in found["imported"]
    assert not [name for name in found["imported"] if name.startswith("torch")]
    assert found["environment"]["OPENBLAS_NUM_THREADS"] == "1"
    [process] = place._warm._processes
    variables = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    assert b"OPENBLAS_NUM_THREADS=1" in variables
    assert b"HOME=/nonexistent" in variables
    place.close()


def test_a_python_that_is_another_in_a_shell_starts_every_instance_anew(
    stages, monkeypatch, tmp_path
):
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    place = LocalPlace(stages, ["probe@a", "probe@b"], Machine(2, 2))
    assert run(place, "a").status == 0
    assert not are_warm(place)


def test_a_job_gets_its_share_and_its_name(stages):
    job = Job("probe@a", ("true",), threads=3, devices=("1", "4"))
    variables = environment_of(stages, job)
    assert variables["PIPELINE_THREADS"] == "3"
    assert variables["CUDA_VISIBLE_DEVICES"] == "1,4"
    assert (variables["DVC_STAGE"], variables["DVC_ROOT"]) == ("probe@a", str(stages))
