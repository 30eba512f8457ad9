"""The seal, from outside: a stage that reads, writes or connects beyond its declaration fails and
says what it touched.
"""

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from repository import REPOSITORY
from sealed_project import DVC_YAML, WANTED, error, native, project, run, signals  # noqa: F401

from model.numerics import processor
from pipeline.declared.settings import SETTINGS

pytestmark = pytest.mark.slow("each test starts a sealed process", minutes=0.8)

ALLOWED = {
    "a declared file": 'open("data/declared.txt").read()',
    "a file in a declared directory": 'Path("data/folder/inside.txt").read_text()',
    "listing a declared directory": 'assert os.listdir("data/folder") == ["inside.txt"]',
    "an output and its temporary sibling": (
        """\
        Path("data/.out.txt.partial").write_text("x")
        os.replace("data/.out.txt.partial", "data/out.txt")
        Path("out/.a.partial/b").mkdir(parents=True)
        Path("out/.a.partial/b/c").write_text("x")
        os.rename("out/.a.partial", "out/a")
        assert Path("out/a/b/c").read_text() == "x"
        Path("metrics/.probe.json.partial").write_text("{}")
        os.replace("metrics/.probe.json.partial", "metrics/probe.json")"""
    ),
    "removing a directory of outputs whose files are named as the repository's": (
        """\
        import shutil
        Path("out/.a.partial/data").mkdir(parents=True)
        Path("out/.a.partial/dvc.yaml").write_text("x")
        Path("out/.a.partial/data/secret.txt").write_text("x")
        shutil.rmtree("out/.a.partial")"""
    ),
    "a file that is not there": (
        """\
        try:
            open("data/nothing.txt")
        except FileNotFoundError:
            pass"""
    ),
    "looking for a folder that is not there": (
        """\
        import glob
        assert not glob.glob("nvidia/cublas/lib/libcublas.so.*[0-9]")
        for path in ("data/nothing", os.path.abspath("data/nothing")):
            try:
                os.listdir(path)
            except FileNotFoundError:
                pass"""
    ),
    "sizes of what is declared": (
        """\
        for path in ("data/declared.txt", "data/folder/inside.txt", "params.yaml", "stages/probe.py", "data", "/etc/passwd"):
            assert Path(path).stat() == os.stat(path) and os.path.exists(path)
        Path("out/.a.partial/b").mkdir(parents=True)
        Path("out/.a.partial/b/c").write_text("x")
        assert os.path.getsize("out/.a.partial/b/c") == 1 and not os.path.exists("data/nothing.txt")
        assert os.stat in os.supports_dir_fd and os.stat in os.supports_follow_symlinks"""  # noqa: E501
    ),
    "temporary files": (
        """\
        import tempfile
        with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory() as folder:
            file.write(b"x")
            Path(folder, "a").write_text("x")"""
    ),
    "a child process": (
        """\
        import subprocess
        assert subprocess.check_output(["cat", "data/declared.txt"])"""
    ),
    "worker processes": (
        """\
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            assert list(pool.map(len, ["a", "bc"])) == [1, 2]"""
    ),
    "a child process that is written to": (
        """\
        import subprocess
        assert subprocess.run(["cat"], input=b"x", capture_output=True).stdout"""
    ),
    "workers that are spawned": (
        """\
        import multiprocessing
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(len, ["ab"]) == [2]"""
    ),
    "a local socket": (
        """\
        import socket
        left, right = socket.socketpair()
        left.send(b"x")
        socket.send_fds(left, [b"x"], [0])"""
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_declared_is_allowed(project, name):
    done = run(project, textwrap.dedent(ALLOWED[name]))
    assert done.returncode == 0, done.stderr
    assert not list(project.rglob("*.partial")), "nothing is left of what was not used"
    assert [
        float(part) >= 0 for part in (project / ".dvc/tmp/durations/probe@a").read_text().split()
    ] == [True, True]


UNDECLARED = "{} {{}}, which dvc.yaml does not list under this stage's {}"
READ, WROTE = UNDECLARED.format("read", "deps"), UNDECLARED.format("wrote", "outs")
CHANGED, LISTED = UNDECLARED.format("changed", "outs"), UNDECLARED.format("listed", "deps")
ASKED = UNDECLARED.format("asked for the size of", "deps")
BROKEN = {
    "open": ('open("data/secret.txt")', READ.format("data/secret.txt")),
    "os.open": ('os.open("data/secret.txt", os.O_RDONLY)', READ.format("data/secret.txt")),
    "an absolute path": (
        'open(os.path.abspath("data/secret.txt"))',
        READ.format("data/secret.txt"),
    ),
    "a detour": ('open("data/folder/../secret.txt")', READ.format("data/secret.txt")),
    "numpy": ('__import__("numpy").fromfile("data/secret.txt")', READ.format("data/secret.txt")),
    "an undeclared import": ("import common.secret", READ.format("common/secret.py")),
    "dvc.lock": ('open("dvc.lock")', READ.format("dvc.lock")),
    "listing": ('os.listdir("data")', LISTED.format("data")),
    "scanning": ('list(Path("data/other").glob("*"))', LISTED.format("data/other")),
    "writing a new file": ('open("data/new.txt", "w")', WROTE.format("data/new.txt")),
    "appending to an input": ('open("data/declared.txt", "a")', WROTE.format("data/declared.txt")),
    "writing beside an output": ('Path("out/x").write_text("")', WROTE.format("out/x")),
    "removing": ('os.remove("data/secret.txt")', CHANGED.format("data/secret.txt")),
    "removing an input": ('os.remove("data/declared.txt")', CHANGED.format("data/declared.txt")),
    "removing a directory": (
        'import shutil\nshutil.rmtree("data/other")',
        LISTED.format("data/other"),
    ),
    "removing an empty directory": ('os.rmdir("out/b")', CHANGED.format("out/b")),
    "renaming a folder of outputs": ('os.rename("data", "elsewhere")', CHANGED.format("data")),
    "linking": ('os.link("data/declared.txt", "data/linked")', CHANGED.format("data/linked")),
    "renaming away": (
        'os.rename("data/secret.txt", "data/out.txt")',
        CHANGED.format("data/secret.txt"),
    ),
    "connecting": (
        'import socket\nsocket.create_connection(("127.0.0.1", 9))',
        "used the network ('127.0.0.1'); dvc.yaml has no meta: network: true for it",
    ),
    "looking up a name": (
        'import socket\nsocket.getaddrinfo("example.org", 80)',
        "used the network ('example.org'); dvc.yaml has no meta: network: true for it",
    ),
    "params.yaml past read_section": (
        '__import__("yaml").safe_load(open("params.yaml"))["other"]',
        READ.format("params.yaml"),
    ),
    "ending early": ("sys.exit(0)", "ended before run_stage reported success"),
    "ending early after a swallowed read": (
        'try:\n    open("data/secret.txt")\nexcept BaseException:\n    sys.exit(0)',
        "ended before run_stage reported success",
    ),
    "the size of a file": ('os.stat("data/secret.txt").st_size', ASKED.format("data/secret.txt")),
    "the size of a file, by path": (
        'Path("data/secret.txt").stat()',
        ASKED.format("data/secret.txt"),
    ),
    "the size of a file, by os.path": (
        'os.path.getsize("data/secret.txt")',
        ASKED.format("data/secret.txt"),
    ),
    "the time of a file": (
        'os.path.getmtime(b"data/../data/secret.txt")',
        ASKED.format("data/secret.txt"),
    ),
    "whether a file is there": (
        'Path("data/secret.txt").exists()',
        ASKED.format("data/secret.txt"),
    ),
    "a link's size": (
        'os.lstat(os.path.abspath("data/secret.txt"))',
        ASKED.format("data/secret.txt"),
    ),
    "the size of a file in an open folder": (
        'os.stat("secret.txt", dir_fd=os.open("data", os.O_RDONLY))',
        ASKED.format("data/secret.txt"),
    ),
    "the host's name": (
        "import socket\nsocket.gethostname()",
        "asked for the host's name, which DVC does not track as an input",
    ),
    "a section": (
        'read_section("other", int)',
        UNDECLARED.format("read", "params").format("other of params.yaml"),
    ),
    "what stands in a section's place": (
        (
            "from common.sections import Section, read_overridden\n"
            'read_overridden("wanted", "other", Section)'
        ),
        UNDECLARED.format("read", "params").format("other of params.yaml"),
    ),
    "swallowed by a library": (
        'try:\n    open("data/secret.txt")\nexcept Exception:\n    pass',
        READ.format("data/secret.txt"),
    ),
    "swallowed by everything": (
        'try:\n    open("data/secret.txt")\nexcept BaseException:\n    pass',
        READ.format("data/secret.txt"),
    ),
    "in a worker process": (
        (
            "from concurrent.futures import ProcessPoolExecutor\n"
            'with ProcessPoolExecutor(1) as pool:\n    list(pool.map(open, ["data/secret.txt"]))'
        ),
        READ.format("data/secret.txt"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_declared_stops_the_stage_and_is_named(project, name):
    (project / "dvc.lock").write_text("")
    (project / "out/b").mkdir()
    body, what = BROKEN[name]
    done = run(project, body)
    assert error(done) == f"error: seal: probe@a {what}"
    assert (project / ".dvc/tmp/durations/probe@a").read_text() == "", (
        "a failed run has no duration"
    )
    assert not list(project.rglob("*.partial"))
    assert (project / "data/secret.txt").exists()


PYARROW = "import pyarrow as pa\nwith pa.{call} as file:\n    file.{use}"
NATIVE = {
    "safetensors, which calls a refusal a missing file": (
        'from safetensors import safe_open\nsafe_open("data/secret.txt", framework="np")'
    ),
    "reading": PYARROW.format(call='OSFile("data/secret.txt")', use="read()"),
    "mapping": PYARROW.format(call='memory_map("data/secret.txt")', use="read()"),
    "writing": PYARROW.format(call='OSFile("data/new.txt", "w")', use='write(b"x")'),
    "appending to an input": PYARROW.format(
        call='OSFile("data/declared.txt", "a")', use='write(b"x")'
    ),
    "another instance's output": PYARROW.format(call='OSFile("out/b/c", "w")', use='write(b"x")'),
    "a child process": 'import subprocess\nsubprocess.run(["cat", "data/secret.txt"], check=True)',
}


@native
@pytest.mark.parametrize("name", NATIVE)
def test_native_code_and_children_are_held_too(project, name):
    (project / "out/b").mkdir()
    (project / "out/b/c").write_text("old")
    done = run(project, NATIVE[name])
    assert done.returncode != 0
    touched = {
        "another instance's output": "out/b/c",
        "writing": "data/new.txt",
        "appending to an input": None,
    }
    if name != "a child process":
        what = touched.get(name, "data/secret.txt") or "a file, or the network,"
        # pyarrow asks for the size of some before it opens them.
        lines = (
            f"opened {what} that dvc.yaml does not give it",
            f"asked for the size of {what}, which dvc.yaml does not list",
        )
        assert error(done).startswith(tuple(f"error: seal: probe@a {line}" for line in lines))
    assert (project / "out/b/c").read_text() == "old"
    assert "SECRET" not in done.stdout


@native
def test_an_output_is_written_through_its_temporary_sibling_or_not_at_all(project):
    (project / "data/out.txt").write_text("old")
    assert "opened a file" in error(run(project, 'Path("data/out.txt").write_text("half")'))
    assert (project / "data/out.txt").read_text() == "old"


@native
def test_native_code_may_use_what_is_declared(project):
    body = PYARROW.format(call='OSFile("data/declared.txt")', use="read()") + "\n"
    body += PYARROW.format(call='OSFile("data/.out.txt.partial", "w")', use='write(b"x")') + "\n"
    body += 'os.replace("data/.out.txt.partial", "data/out.txt")'
    done = run(project, body)
    assert done.returncode == 0, done.stderr
    assert (project / "data/out.txt").read_text() == "x"


def test_a_file_that_the_stages_own_parameters_pin_is_declared_by_its_content(project):
    pinned = (
        "{source: {files: [{path: data/secret.txt, sha256: abc}, {path: data/other/secret.txt}]}}"
    )
    (project / "params.yaml").write_text(f"names: [a, b]\nwanted: {pinned}\n")
    wanted = 'read_section("wanted", dict)'
    read = (
        'open("data/secret.txt").read()\nimport pyarrow as pa\npa.OSFile("data/secret.txt").read()'
    )
    assert run(project, read, wanted=wanted).returncode == 0
    unpinned = error(run(project, 'open("data/other/secret.txt")', wanted=wanted))
    assert unpinned == f"error: seal: probe@a {READ.format('data/other/secret.txt')}"


def test_all_of_params_yaml_may_be_read_where_the_file_is_a_dependency(project):
    """And nothing else: the files that parameters name are still inputs."""
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(
        text.replace("deps: [data/declared.txt,", "deps: [params.yaml, data/declared.txt,", 1)
    )
    assert run(project, 'assert read_section("other", int) == 4').returncode == 0
    unknown = error(run(project, 'os.stat("data/secret.txt").st_size'))
    assert unknown == f"error: seal: probe@a {ASKED.format('data/secret.txt')}"


@native
def test_children_reach_no_network(project):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        done = run(
            project,
            f'import subprocess\nsubprocess.run([sys.executable, "-c", {connect!r}], check=True)',
        )
    assert "Permission denied" in done.stderr


def test_fetch_may_use_the_network(project):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        body = f'import socket\nsocket.create_connection(("127.0.0.1", {port})).close()'
        (project / "dvc.yaml").write_text(
            DVC_YAML.replace(
                "deps: [common/__init__.py, common/errors",
                "deps: [common/sections.py, common/yaml_file.py, common/__init__.py, common/errors",
            )
        )
        done = run(project, body, stage="fetch", wanted="pass")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("body", ["pass", "import model.lazy.a"])
def test_a_folder_of_code_may_be_imported_and_need_not_be(project, body):
    """Code is known by what is imported anywhere in it; a run may not come by there."""
    (project / "model/lazy").mkdir()
    (project / "model/lazy/a.py").write_text("A = 1\n")
    text = (project / "dvc.yaml").read_text()
    with_folder = text.replace("deps: [data/declared.txt,", "deps: [data/declared.txt, model/lazy,")
    if body != "pass":
        assert LISTED.format("model") in error(run(project, body))
    (project / "dvc.yaml").write_text(with_folder)
    assert with_folder != text
    done = run(project, body)
    assert done.returncode == 0, done.stderr


def test_a_declared_section_that_is_never_read_stops_the_stage(project):
    assert (
        error(run(project, wanted="pass"))
        == "error: seal: probe@a never read wanted of params.yaml, which dvc.yaml declares"
    )


def test_a_stage_refuses_another_version_than_the_declared_one(project):
    (project / "libraries.yaml").write_text('probe: {numpy: "1.0.0"}\n')
    done = run(project, 'Path("data/out.txt").write_text("x")')
    assert "installed, libraries.yaml declares 1.0.0; run make setup" in error(done)
    assert not (project / "data/out.txt").exists()


@pytest.mark.parametrize("declared", [">=3.9,<3.11", ">=3.99", "< 3.11.0", ">=3.11,<3.11.1"])
def test_a_stage_refuses_a_python_that_the_project_does_not_declare(project, declared):
    path = project / "pyproject.toml"
    path.write_text(path.read_text().replace(">=3.11,<3.15", declared))
    done = run(project, 'Path("data/out.txt").write_text("x")')
    running = ".".join(map(str, sys.version_info[:3]))
    said = f"error: this is Python {running}, pyproject.toml declares {declared}; run make setup"
    assert error(done) == said
    assert not (project / "data/out.txt").exists()


@pytest.mark.parametrize("declared", ["", ">=3.11", "<4", "~=3.11"])
def test_a_project_may_declare_one_bound_or_none(project, declared):
    path = project / "pyproject.toml"
    path.write_text(path.read_text().replace(">=3.11,<3.15", declared))
    assert run(project).returncode == 0


def test_a_stage_refuses_a_row_of_libraries_that_is_not_there(project):
    (project / "libraries.yaml").write_text('other: {numpy: "1"}\n')
    done = run(project)
    assert error(done) == "error: probe@a: libraries.yaml has no probe; run make libraries"


CHANGES = {
    "code": ("common/sections.py", "# An edit.\n", "common/sections.py"),
    "data": ("data/folder/inside.txt", "more", "data/folder"),
    "a parameter": ("params.yaml", "wanted: 5\n", "wanted of params.yaml"),
    "a file that no longer parses": ("params.yaml", "]", None),
    "a version": ("libraries.yaml", 'probe: {numpy: "9"}\n', "probe of libraries.yaml"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_input_edited_while_the_stage_runs_stops_it(project, signals, name):
    """DVC hashes dependencies after the run: without this the old result is recorded as made from
    the new code.
    """
    path, text, what = CHANGES[name]
    ready, go = signals / "ready", signals / "go"
    body = (
        f"import time\nPath({str(ready)!r}).touch()\n"
        f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\nprint('finished')"
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, project, body)
        while not ready.exists():
            assert not running.done(), running.result().stderr
            time.sleep(0.01)
        key = text.partition(":")[0]
        lines = (project / path).read_text().splitlines(keepends=True)
        (project / path).write_text(
            "".join(line for line in lines if not line.startswith(f"{key}:")) + text
        )
        go.touch()
        done = running.result()
    assert done.stdout == "finished\n"
    told = (
        f"{what} changed, and DVC would record the new one"
        if what
        else "an input became unreadable"
    )
    assert error(done).startswith(f"error: seal: probe@a ran while {told}")
    assert (project / ".dvc/tmp/durations/probe@a").read_text() == ""


@pytest.mark.parametrize("changed", [False, True])
def test_a_file_that_an_editor_or_git_replaces_is_judged_by_what_is_in_it(
    project, signals, changed
):
    """The kernel's rule is on the file that was there: the new one is read by a process outside the
    confinement.
    """
    body = (
        f"import time\nPath({str(signals / 'ready')!r}).touch()\n"
        f"while not os.path.exists({str(signals / 'go')!r}):\n    time.sleep(0.01)"
    )
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, project, body)
        while not (signals / "ready").exists():
            assert not running.done(), running.result().stderr
            time.sleep(0.01)
        for name in ("params.yaml", "common/sections.py"):
            (project.parent / "new").write_text(
                (project / name).read_text() + ("# An edit.\n" if changed else "")
            )
            (project.parent / "new").replace(project / name)
        (signals / "go").touch()
        done = running.result()
    if changed:
        assert error(done).startswith("error: seal: probe@a ran while common/sections.py changed")
    else:
        assert done.returncode == 0, done.stderr


def test_a_declared_input_that_is_never_read_stops_the_stage(project):
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(
        text.replace("deps: [data/declared.txt,", "deps: [data/declared.txt, data/other,")
    )
    assert (
        error(run(project))
        == "error: seal: probe@a never read data/other, which dvc.yaml gives it as deps"
    )


def test_switches_in_the_environment_do_not_reach_the_stage(project):
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "colorsys.py").write_text("raise SystemExit('shadowed')")
    (elsewhere / "shadow.py").write_text("")
    switches = {
        "PYTHONPATH": str(elsewhere),
        "ATEN_CPU_CAPABILITY": "default",
        "OMP_NUM_THREADS": "7",
        "NPY_DISABLE_CPU_FEATURES": "AVX512_ICL",
        "OPENBLAS_CORETYPE": "Nehalem",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MATPLOTLIBRC": "/x",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "PMI_SIZE": "2",
        "OMPI_COMM_WORLD_SIZE": "2",
        "MV2_COMM_WORLD_SIZE": "2",
    }
    body = (
        "import importlib.util\nassert importlib.util.find_spec('shadow') is None\nassert not"
        f" {switches!r}.items() & dict(os.environ).items()\nassert os.environ['HF_HUB_OFFLINE'] =="
        " '1'\nprint('clean')"
    )
    done = run(project, body, environment={**os.environ, **switches})
    assert done.stdout == "clean\n", done.stderr


PRINT_VARIABLES = """
import json
print(json.dumps({name: value for name, value in os.environ.items()
    if name.startswith(("ATEN_", "MKL_", "NPY_", "OMP_", "OPENBLAS_", "PIPELINE_THREADS"))}))
"""
EVERYWHERE = {name: value for name, value in SETTINGS.variables.items() if isinstance(value, str)}
OWN = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "9",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_L2_SIZE": "1024",
    "OPENBLAS_NUM_THREADS": "9",
    "PIPELINE_THREADS": "3",
}
FITS = pytest.mark.skipif(processor.lacks() is not None, reason=processor.lacks() or "")


def variables_of(project: Path, kernels: str | None) -> dict[str, str]:
    """Return what a stage has of the variables that choose kernels; None: it does not ask."""
    wanted = WANTED
    if kernels:
        (project / "params.yaml").write_text(
            f"names: [a, b]\nwanted: 3\nother: 4\nnumerics: {{kernels: {kernels}}}\n"
        )
        text = (project / "dvc.yaml").read_text()
        (project / "dvc.yaml").write_text(text.replace("[wanted,", "[wanted, numerics,"))
        wanted += '; read_section("numerics", dict)'
    done = run(project, PRINT_VARIABLES, wanted=wanted, environment={**os.environ, **OWN})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@FITS
@pytest.mark.parametrize(
    ("kernels", "capability"),
    [
        (None, {}),
        ("native", {}),
        ("portable", {"ATEN_CPU_CAPABILITY": "avx2"}),
    ],
)
def test_libraries_variables_are_the_projects_for_the_kernels_that_the_stage_declares(
    project, kernels, capability
):
    assert variables_of(project, kernels) == {**EVERYWHERE, **capability, "PIPELINE_THREADS": "3"}


def test_a_processor_that_cannot_compute_so_gets_no_variable(project):
    settings = project / "pyproject.toml"
    text = settings.read_text()
    assert "variables_need = [" in text
    settings.write_text(text.replace("variables_need = [", 'variables_need = ["no_such_flag", '))
    assert variables_of(project, "portable") == {"PIPELINE_THREADS": "3"}


@pytest.mark.parametrize("stage", ["probe c", "probe", "probe a b"])
def test_a_command_that_dvc_yaml_does_not_have_is_refused(project, stage):
    assert (
        error(run(project, stage=stage))
        == f"error: dvc.yaml has no stage whose command is 'python -m stages.{stage}'; dvc stage"
        " list names them"
    )


def test_bytecode_that_looks_fresh_is_not_believed(project):
    """An edit within the second of the last run, of the same length, leaves a .pyc that Python
    takes for current.
    """
    assert run(project, 'print("old figure")').stdout == "old figure\n"
    path = project / "stages/probe.py"
    subprocess.run([sys.executable, "-m", "compileall", "-q", "stages"], cwd=project, check=True)
    before = path.stat()
    path.write_text(path.read_text().replace("old figure", "new figure"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    command = [sys.executable, "-m", "stages.probe", "a"]
    assert subprocess.check_output(command, cwd=project, text=True) == "new figure\n"


@pytest.mark.parametrize("path", [".", "../project", "/"])
def test_a_pythonpath_with_the_repository_in_it_does_no_harm(project, path):
    done = run(project, environment={**os.environ, "PYTHONPATH": f"{path}:{project}"})
    assert done.returncode == 0, done.stderr


def test_another_spelling_of_the_command_is_the_same_command(project):
    run(project)
    command = [sys.executable, "-X", "utf8", "-mstages.probe", "a"]
    subprocess.run(command, cwd=project, check=True)


def test_missing_libraries_are_one_line(project):
    (project / "libraries.yaml").unlink()
    assert "error: libraries.yaml cannot be read" in error(run(project))


def test_what_a_killed_run_left_is_not_in_the_way(project):
    (project / "out/.a.partial/old").mkdir(parents=True)
    (project / "data/.out.txt.partial").write_text("old")
    assert run(project).returncode == 0
    assert not list(project.rglob("*.partial"))


def test_importing_a_stage_seals_nothing():
    command = [sys.executable, "-c", "import stages.items; open('README.md').read()"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
