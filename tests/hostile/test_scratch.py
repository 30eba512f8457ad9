"""The scratch folder of a sealed stage and its lock, from outside: see
pipeline/seal/scratch_folder.py.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import REPOSITORY
from sealed_project import DVC_YAML, STAGE, error, native, project  # noqa: F401

from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.seal.scratch_folder import fingerprint

FETCH_DEPS = (
    "deps: [common/__init__.py, common/errors.py, common/share.py, stages/__init__.py,"
    " stages/fetch.py]"
)
DEPS = """deps: [data/declared.txt, data/folder, common, model/__init__.py,
      model/runtime, stages/__init__.py, stages/fetch.py]
    params: [wanted, {libraries.yaml: [probe]}]"""
# Fails after its first piece, as long as `stop` is there.
BODY = """
    read_section("wanted", int); open("data/declared.txt"); open("data/folder/inside.txt")
    from common.errors import PipelineError
    from common.files import checksummed_directory
    from model.runtime.resumable import piece, publish, scratch_directory
    with scratch_directory(Path("data/fetched")) as scratch, checksummed_directory(Path("data/fetched")) as output:
        for name in ("one", "two"):
            def make(directory):
                print("made", name)
                (directory / "a").write_text(name)
            publish(piece(scratch, name, make) / "a", output / name)
            if os.path.exists({stop!r}):
                raise PipelineError("stopped")
"""  # noqa: E501
COMMAND = [sys.executable, "-m", "stages.fetch"]


@pytest.fixture
def resumable(project) -> Path:
    assert FETCH_DEPS in DVC_YAML
    (project / "dvc.yaml").write_text(DVC_YAML.replace(FETCH_DEPS, DEPS))
    for name in ("common/files.py", "model/runtime/resumable.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text((REPOSITORY / name).read_text())
    write_stage(project, BODY.format(stop=str(project.parent / "stop")))
    (project.parent / "stop").touch()
    return project


def write_stage(project: Path, body: str) -> None:
    (project / "stages/fetch.py").write_text(STAGE.format(wanted="pass", body=body.strip()))


def fetch(project: Path, environment: dict | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        COMMAND,
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def scratches(project: Path) -> list[str]:
    return [path.name for path in (project / "data").glob(".fetched.scratch/*")]


def test_the_next_run_goes_on_from_what_a_failed_one_has_finished(resumable):
    failed = fetch(resumable)
    assert (failed.stdout, error(failed)) == ("made one\n", "error: stopped"), failed.stderr
    [name] = scratches(resumable)
    assert re.fullmatch("[0-9a-f]{64}", name)
    (resumable.parent / "stop").unlink()
    done = fetch(resumable)
    assert done.stdout == "made two\n", done.stderr
    assert sorted(path.name for path in (resumable / "data/fetched").iterdir()) == [
        "SHA256SUMS",
        "one",
        "two",
    ]
    assert not list((resumable / "data").glob(".*"))


def replace(path: str, old: str, new: str):
    def edit(project: Path) -> None:
        text = (project / path).read_text()
        assert old in text
        (project / path).write_text(text.replace(old, new))

    return edit


def edit_unseen(path: Path, old: str, new: str) -> None:
    """Change a file and keep its size and times."""
    before, text = path.stat(), path.read_text()
    assert old in text
    assert len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


OTHER_WORK = {
    "a parameter": replace("params.yaml", "wanted: 3", "wanted: 4"),
    "code": lambda root: append(root / "common/sections.py", "# An edit.\n"),
    "code, with the same size and time": lambda root: edit_unseen(
        root / "common/sections.py", "Typed sections", "Typed Sections"
    ),
    "the stage itself": lambda root: append(root / "stages/fetch.py", "# An edit.\n"),
    "an input": replace("data/declared.txt", "SECRET", "CHANGED"),
    "a file in an input": replace("data/folder/inside.txt", "SECRET", "CHANGED"),
    "the checksums of an input": (
        lambda root: (root / "data/folder/SHA256SUMS").write_text("0  inside.txt\n")
    ),
    "the list of inputs": replace("dvc.yaml", "params: [wanted,", "params: [wanted, other,"),
}


@pytest.mark.parametrize("name", OTHER_WORK)
def test_pieces_of_other_work_are_neither_used_nor_kept(resumable, name):
    fetch(resumable)
    [before] = scratches(resumable)
    OTHER_WORK[name](resumable)
    assert fetch(resumable).stdout == "made one\n"
    [after] = scratches(resumable)
    assert after != before


def test_a_library_is_a_part_of_what_the_work_depends_on(resumable):
    [instance] = [
        one for one in read_instances(WorkingTree(resumable)).values() if one.stage == "fetch"
    ]
    before = fingerprint(resumable, instance)
    assert fingerprint(resumable, instance) == before
    replace("libraries.yaml", 'numpy: "', 'numpy: "9.')(resumable)
    assert fingerprint(resumable, instance) != before


@pytest.mark.parametrize(
    ("old", "new", "is_other"),
    [
        ("count: 5", "count: 6", False),
        ("kind: hub, sha256: null", "kind: hub, sha256: ab", False),
        ("kind: hub, sha256: null", "kind: tree, sha256: null", True),
        ("kind: tree, sha256: ab", "kind: tree, sha256: cd", True),
        ("revision: a", "revision: b", True),
        ("characters_per_shard: 9", "characters_per_shard: 8", True),
    ],
)
def test_what_only_judges_a_finished_input_is_no_part_of_what_the_work_depends_on(
    resumable, old, new, is_other
):
    """A download is not thrown away for a count or a checksum that is corrected."""
    kind = "tree, sha256: ab" if "tree, sha256: ab" in old else "hub, sha256: null"
    wanted = f"wanted: {{count: 5, characters_per_shard: 9, source: {{kind: {kind}, revision: a}}}}"
    replace("params.yaml", "wanted: 3", wanted)(resumable)
    [instance] = [
        one for one in read_instances(WorkingTree(resumable)).values() if one.stage == "fetch"
    ]
    before = fingerprint(resumable, instance)
    replace("params.yaml", old, new)(resumable)
    assert (fingerprint(resumable, instance) != before) == is_other


EDITED = """
    read_section("wanted", int); open("data/declared.txt"); open("data/folder/inside.txt")
    import time
    from model.runtime.resumable import piece, scratch_directory
    with scratch_directory(Path("data/fetched")) as scratch:
        def make(directory):
            print("ready", flush=True)
            while not os.path.exists({edited!r}):
                time.sleep(0.01)
            (directory / "a").write_text("of the edit")
        piece(scratch, "one", make)
        os.kill(os.getpid(), 9)
"""


def edit_while_a_piece_is_made(project: Path, edit) -> tuple[int, str]:
    """Return the stage's status and what it says; it kills itself when the piece is kept."""
    edited = project.parent / "edited"
    write_stage(project, EDITED.format(edited=str(edited)))
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, cwd=project, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout.readline() == "ready\n"
        try:
            edit(project)
        finally:
            edited.touch()  # or the stage would wait for it
        _, said = running.communicate()
    return running.returncode, said


EDITED_INPUTS = {
    "a parameter": "wanted of params.yaml",
    "code": "common/sections.py",
    "code, with the same size and time": "common/sections.py",
    "the stage itself": "stages/fetch.py",
    "an input": "data/declared.txt",
    "a file in an input": "data/folder",
    "the checksums of an input": "data/folder",
}


@pytest.mark.parametrize("name", EDITED_INPUTS)
def test_no_piece_is_kept_of_an_input_that_has_changed_meanwhile(resumable, name):
    """The edit may be undone before the next run, which would go on from it."""
    status, said = edit_while_a_piece_is_made(resumable, OTHER_WORK[name])
    assert status == 1, said
    assert (
        f"error: seal: fetch ran while {EDITED_INPUTS[name]} changed, so its result belongs"
        " to neither version; run it again" in said
    )
    assert not list((resumable / "data").glob(".fetched.scratch/*/one"))


def by_rename(path: str, old: str = "", new: str = ""):
    """Replace a file as sed -i and git do, the new one with `new` in the place of `old`."""

    def edit(project: Path) -> None:
        beside = project / f"{path}.new"
        beside.write_text((project / path).read_text().replace(old, new))
        assert beside.read_text().count(new) > 0
        beside.replace(project / path)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        by_rename("params.yaml", "other: 4", "other: 5"),
        by_rename("data/declared.txt"),
        by_rename("common/sections.py"),
    ],
    ids=["a parameter of others", "the same data", "the same code"],
)
def test_a_piece_is_kept_where_no_input_says_anything_else(resumable, edit):
    status, said = edit_while_a_piece_is_made(resumable, edit)
    assert (status, said) == (-signal.SIGKILL, "")
    assert list((resumable / "data").glob(".fetched.scratch/*/one"))


@pytest.mark.parametrize("stray", ["file", "folder"])
def test_what_else_lies_in_the_scratch_folder_is_removed(resumable, stray):
    path = resumable / "data/.fetched.scratch/stray"
    path.parent.mkdir(parents=True)
    path.touch() if stray == "file" else path.mkdir()
    assert fetch(resumable).stdout == "made one\n"
    assert not path.exists()


def test_what_the_work_does_not_depend_on_keeps_its_pieces(resumable):
    (resumable / "data/folder/SHA256SUMS").write_text("0  inside.txt\n")
    fetch(resumable)
    replace("params.yaml", "other: 4", "other: 5")(resumable)
    os.utime(resumable / "data/folder/inside.txt")
    os.utime(resumable / "common/sections.py")
    assert fetch(resumable, {"PIPELINE_SCRATCH": str(resumable.parent)}).stdout == ""


def test_a_stage_that_makes_no_piece_leaves_no_folder(resumable):
    write_stage(resumable, "sys.exit('no')")
    assert error(fetch(resumable)) == "no"
    assert not list((resumable / "data").glob(".*"))


@native
def test_native_code_may_write_a_piece_and_nothing_beside_it(resumable):
    opened = "pa.OSFile(os.environ['PIPELINE_SCRATCH'] + '{}', 'w')"
    body = f"import pyarrow as pa\n    with {opened} as file:\n        file.write(b'x')"
    write_stage(resumable, body.format("/a") + "\n    sys.exit('written')")
    assert error(fetch(resumable)) == "written"
    write_stage(resumable, body.format("/../../a"))
    assert error(fetch(resumable)).startswith("error: seal: fetch opened data/")


def test_other_stages_get_no_scratch_folder(project):
    body = "assert 'PIPELINE_SCRATCH' not in os.environ\n    sys.exit('none')"
    (project / "stages/probe.py").write_text(STAGE.format(wanted="pass", body=body))
    command = [sys.executable, "-m", "stages.probe", "a"]
    environment = {**os.environ, "PIPELINE_SCRATCH": "/tmp"}
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment)
    assert error(done) == "none"


SLEEPING = """
    {first}
    import time
    Path({ready!r}).touch()
    time.sleep(60)
"""
WORKERS = """
    from concurrent.futures import ProcessPoolExecutor
    pool = ProcessPoolExecutor(2)
    list(pool.map(len, ["a", "bc"]))
"""


@pytest.fixture
def running(resumable):
    """Starts the stage with `first` in it, and returns its process once it has got past that."""
    processes = []
    (resumable.parent / "signals").mkdir()

    def start(first: str = "pass") -> subprocess.Popen:
        ready = resumable.parent / "signals/ready"
        write_stage(resumable, SLEEPING.format(first=first.strip(), ready=str(ready)))
        processes.append(
            subprocess.Popen(COMMAND, cwd=resumable, stderr=subprocess.PIPE, text=True)
        )
        while not ready.exists():
            assert processes[-1].poll() is None, processes[-1].stderr.read()
            time.sleep(0.01)
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_two_processes_never_run_one_stage_at_once(resumable, running):
    first = running()
    told = error(fetch(resumable))
    named = re.fullmatch(
        r"error: seal: fetch is already run by another process \(([\d ]+)\), as a killed dvc leaves"
        r" one; "
        r"wait until it ends, or kill ([\d ]+)",
        told,
    )
    assert named, told
    assert named[1] == named[2]
    assert str(first.pid) in named[1].split()
    assert first.poll() is None
    for process in named[1].split():  # as told
        os.kill(int(process), signal.SIGTERM)
    first.wait(10)
    write_stage(resumable, BODY.format(stop=str(resumable.parent / "stop")))
    assert error(fetch(resumable)) == "error: stopped"


def test_the_workers_of_a_killed_stage_end_with_it(resumable, running):
    first = running(WORKERS)
    first.kill()
    first.wait()
    write_stage(resumable, BODY.format(stop=str(resumable.parent / "stop")))
    deadline = time.monotonic() + 10
    while "already run" in (told := error(fetch(resumable))):
        assert time.monotonic() < deadline, told
    assert told == "error: stopped"


@native
def test_the_hubs_cache_may_be_named_beside_the_repository_before_it_is_there(resumable):
    write_stage(resumable, "(Path(os.environ['HF_HOME']) / 'hub').mkdir()\n    sys.exit('written')")
    assert error(fetch(resumable, {"HF_HOME": str(resumable.parent / "absent/home")})) == "written"
