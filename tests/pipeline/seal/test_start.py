"""What reaches a stage from outside: other modules, variables, files, sockets. See
pipeline/seal/start.py.
"""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from sealed_project import error, native, project, run  # noqa: F401

from pipeline.seal.environment import library_variables

pytestmark = pytest.mark.slow("each test starts a sealed process", minutes=0.5)

CHANGES_RANDOM = "import random\nrandom.random = lambda: 0.5\nprint('imported by somebody else')\n"
DRAW = "import random\nprint(random.Random(1).random(), random.random() == 0.5)"
DRAWN = "0.13436424411240122 False\n"
FONT_INDEX = sorted(Path("/var/cache/fontconfig").glob("*.cache-?"))


@pytest.fixture
def elsewhere(project) -> Path:
    (project.parent / "elsewhere").mkdir()
    return project.parent / "elsewhere"


def drawn(project: Path, **environment: str) -> str:
    done = run(project, DRAW, environment={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.removeprefix(
        "imported by somebody else\n"
    )  # by the process that is replaced


@pytest.mark.parametrize(
    "name", ["sitecustomize", "usercustomize", "random", "json", "yaml", "typing", "apex"]
)
def test_a_module_on_pythonpath_reaches_no_stage(project, elsewhere, name):
    text = CHANGES_RANDOM if name.endswith("customize") else "raise SystemExit('shadowed')"
    (elsewhere / f"{name}.py").write_text(text)
    assert drawn(project, PYTHONPATH=str(elsewhere)) == DRAWN


@pytest.mark.parametrize(
    "name", ["sitecustomize", "usercustomize", "random", "apex", "encodings_of_mine"]
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_module_in_the_repositorys_root_is_none_of_a_stage(project, elsewhere, name, linked):
    text = CHANGES_RANDOM if name.endswith("customize") else "raise SystemExit('shadowed')"
    path = (elsewhere if linked else project) / f"{name}.py"
    path.write_text(text)
    if linked:
        (project / f"{name}.py").symlink_to(path)
    body = (
        f"import importlib.util\nassert not importlib.util.find_spec({name!r}) or {name!r} =="
        " 'random'\n"
    )
    done = run(project, body + DRAW)
    assert done.stdout.endswith(DRAWN), done.stderr


@pytest.mark.parametrize("name", ["sitecustomize.py", "lines.pth", "folder.pth"])
def test_what_site_packages_runs_at_every_start_reaches_no_stage(project, elsewhere, name):
    """In an environment of its own, with copies of what the seal and the stage import."""
    environment = elsewhere / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name.startswith(("yaml", "_yaml", "numpy-", "pydantic", "typing", "annotated")):
            (
                shutil.copytree(path, packages / path.name)
                if path.is_dir()
                else shutil.copy(path, packages)
            )
    (elsewhere / "added.py").write_text("")
    if name == "folder.pth":
        (packages / name).write_text(str(elsewhere))
    else:
        lines = [line for line in CHANGES_RANDOM.splitlines() if "print" not in line]
        (packages / name).write_text(
            "\n".join(lines)
            if name.endswith(".py")
            else "; ".join(lines).replace("import", "import", 1)
        )
    python = str(environment / "bin/python")
    says = [python, "-c", "import random; print(random.random() == 0.5)"]
    if name != "folder.pth":
        assert subprocess.check_output(says, text=True) == "True\n", (
            "a Python of that environment runs it"
        )
    body = f"import importlib.util\nassert importlib.util.find_spec('added') is None\n{DRAW}"
    run(project)
    text = (project / "stages/probe.py").read_text()
    (project / "stages/probe.py").write_text(
        text.replace("    pass", textwrap.indent(body, "    "))
    )
    done = subprocess.run(
        [python, "-m", "stages.probe", "a"], cwd=project, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == (DRAWN, 0), done.stderr


def test_the_users_own_site_packages_reach_no_stage(project, elsewhere):
    packages = elsewhere / f"lib/python3.{sys.version_info[1]}/site-packages"
    packages.mkdir(parents=True)
    (packages / "usercustomize.py").write_text(CHANGES_RANDOM)
    (packages / "apex.py").write_text("raise SystemExit('shadowed')")
    assert drawn(project, PYTHONUSERBASE=str(elsewhere), HOME=str(elsewhere)) == DRAWN


SWITCHES_OF_PYTHON = {
    "PYTHONOPTIMIZE": "2",
    "PYTHONHASHSEED": "7",
    "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1",
    "PYTHONBREAKPOINT": "os.getpid",
    "PYTHONDEVMODE": "1",
    "PYTHONUTF8": "0",
    "PYTHONNOUSERSITE": "",
    "PYTHONIOENCODING": "latin-1",
    "PYTHONPYCACHEPREFIX": "/dev/shm/x",
    "PYTHONINTMAXSTRDIGITS": "640",
    "PYTHONMALLOC": "debug",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONCASEOK": "1",
    "LC_ALL": "de_DE.ISO-8859-1",
    "LANG": "tr_TR",
    "TZ": "Asia/Tokyo",
    "BASH_ENV": "/dev/null",
}
STATE = """
import locale, time
assert not sys.flags.optimize and not sys.flags.dev_mode and not sys.flags.inspect and not sys.warnoptions
assert sys.flags.utf8_mode and sys.get_int_max_str_digits() == 4300
assert hash("a") == hash("a") and time.tzname == ("UTC", "UTC")
with open("data/declared.txt") as file:
    print(hash("the same for everybody"), file.encoding, sys.stdout.encoding, sys.pycache_prefix, locale.getlocale())
"""  # noqa: E501


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ([], SWITCHES_OF_PYTHON),
        (["-OO", "-W", "error", "-X", "dev", "-X", "utf8=0"], {}),
        (["-B", "-u", "-v"], {}),
    ],
)
def test_python_runs_a_stage_in_one_way(project, flags, environment):
    expected = run(project, STATE)
    assert expected.returncode == 0, expected.stderr
    command = [sys.executable, *flags, "-m", "stages.probe", "a"]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert (done.stdout, done.returncode) == (expected.stdout, 0), done.stderr


def test_no_variable_reaches_a_stage_but_those_that_are_listed(project):
    names = [
        "MPLCONFIGDIR",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "HF_HOME",
        "HF_MODULES_CACHE",
        "TIKTOKEN_CACHE_DIR",
        "RAYON_NUM_THREADS",
        "GLIBC_TUNABLES",
        "MALLOC_ARENA_MAX",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "CONDA_PREFIX",
        "CXX",
        "NUMEXPR_MAX_THREADS",
        "DEBUG",
        "NCCL_ALGO",
        "RANK",
        "SLURM_JOB_ID",
        "HF_TOKEN",
        "https_proxy",
        "A_LIBRARY_OF_NEXT_YEAR",
    ]
    kept = {"CUDA_VISIBLE_DEVICES": "3", "COLUMNS": "77", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    body = (
        "print(*sorted(os.environ))\nprint(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['HOME']"
        " == os.environ['TMPDIR'])"
    )
    done = run(
        project, body, environment={"PATH": os.environ["PATH"], **kept, **dict.fromkeys(names, "")}
    )
    made = {
        *library_variables({}),
        "PIPELINE_MADE",
        "GLIBC_TUNABLES",
        "HF_HUB_OFFLINE",
        "HOME",
        "LC_ALL",
        "LOGNAME",
        "PYTHONHASHSEED",
        "PYTHONNOUSERSITE",
        "PYTHONSAFEPATH",
        "PYTHONUTF8",
        "TMPDIR",
        "TZ",
        "USER",
    }
    library_path = {"LD_LIBRARY_PATH"} if sysconfig.get_config_var("Py_ENABLE_SHARED") else set()
    first, second = done.stdout.splitlines()
    assert set(first.split()) - library_path == {"PATH", *kept, *made}, done.stderr
    assert second == "3 True"


def test_glibc_has_its_variable_when_the_interpreter_starts(project):
    done = run(project, "print(open('/proc/self/environ').read().split(chr(0)))")
    assert "'GLIBC_TUNABLES=glibc.malloc.hugetlb=1'" in done.stdout, done.stderr


def test_a_stage_has_an_empty_home_that_is_gone_afterwards(project, elsewhere):
    (elsewhere / ".config/matplotlib").mkdir(parents=True)
    (elsewhere / ".config/matplotlib/matplotlibrc").write_text("lines.linewidth: 9\n")
    body = (
        "print(os.listdir(Path.home()), Path.home())\n(Path.home() /"
        " 'x').write_text('x')\n(Path.home() / 'y').mkdir()"
    )
    done = run(project, body, environment={**os.environ, "HOME": str(elsewhere)})
    said, home = done.stdout.split()
    assert said == "[]"
    assert not Path(home).exists()


@pytest.mark.skipif(not FONT_INDEX, reason="fontconfig has no index of fonts here")
def test_children_may_read_the_index_of_fonts(project):
    """Otherwise fc-list, which matplotlib calls, reads every font anew and leaves empty files
    beside the index.
    """
    done = run(
        project,
        f"import subprocess\nsubprocess.run(['cat', {str(FONT_INDEX[0])!r}], check=True,"
        " stdout=-3)",
    )
    assert done.returncode == 0, done.stderr


def test_a_library_that_ld_preload_names_is_not_in_a_stage(project, elsewhere):
    compiler = shutil.which("cc") or pytest.skip("there is no C compiler")
    (elsewhere / "mine.c").write_text("long random(void) { return 4; }\n")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", "mine.so", "mine.c"], cwd=elsewhere, check=True
    )
    body = (
        "import ctypes\nprint(ctypes.CDLL(None).random() == 4, 'mine.so' in"
        " open('/proc/self/maps').read())"
    )
    done = run(project, body, environment={**os.environ, "LD_PRELOAD": str(elsewhere / "mine.so")})
    assert done.stdout == "False False\n", done.stderr


def test_processes_that_a_stage_starts_are_clean_too(project, elsewhere):
    (elsewhere / "random.py").write_text("raise SystemExit('shadowed')")
    (elsewhere / "sitecustomize.py").write_text("import math\nmath.log = None\n")
    (project / "random.py").write_text("raise SystemExit('shadowed')")
    body = """
import multiprocessing, random, subprocess
code = "import random, os; print(random.Random(1).random(), 'PYTHONPATH' in os.environ)"
print(subprocess.check_output([sys.executable, "-c", code], text=True), end="")
for method in ("fork", "spawn"):
    with multiprocessing.get_context(method).Pool(1) as pool:
        print(pool.map(abs, [-1]), pool.apply(random.Random(1).random))
"""
    done = run(project, body, environment={**os.environ, "PYTHONPATH": str(elsewhere)})
    assert done.stdout.splitlines() == [
        "0.13436424411240122 False",
        *["[1] 0.13436424411240122"] * 2,
    ], done.stderr


@native
@pytest.mark.parametrize("way", ["open", "native code", "a child"])
def test_a_hard_link_outside_the_repository_opens_no_file_of_it(project, elsewhere, way):
    link = elsewhere / "linked.txt"
    os.link(project / "data/secret.txt", link)
    body = {
        "open": f"print(open({str(link)!r}).read())",
        "native code": f"import pyarrow as pa\nprint(pa.OSFile({str(link)!r}).read())",
        "a child": f"import subprocess\nsubprocess.run(['cat', {str(link)!r}], check=True)",
    }[way]
    done = run(project, body)
    assert done.returncode == 1
    assert "ermission denied" in done.stderr
    assert "SECRET" not in done.stdout


@native
def test_a_stage_writes_nothing_outside_the_repository_and_its_temporary_folder(project, elsewhere):
    assert "ermission denied" in error(
        run(project, f"open({str(elsewhere / 'x')!r}, 'w').write('x')")
    )
    assert (elsewhere / "x").read_bytes() == b"" if (elsewhere / "x").exists() else True


@native
@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_STREAM", "SOCK_RAW"])
@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_children_and_native_code_open_no_socket_that_leads_off_the_machine(project, family, kind):
    code = f"import socket\nsocket.socket(socket.{family}, socket.{kind})"
    done = run(
        project, f"import subprocess\nsubprocess.run([sys.executable, '-c', {code!r}], check=True)"
    )
    assert done.returncode == 1
    assert "PermissionError: [Errno 13] Permission denied" in done.stderr


@native
def test_a_child_that_sends_a_datagram_is_refused(project):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.2)
        send = (
            "import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'x',"
            f" {receiver.getsockname()!r})"
        )
        body = f"import subprocess\nsubprocess.run([sys.executable, '-c', {send!r}])"
        assert run(project, body).returncode == 0
        with pytest.raises(TimeoutError):
            receiver.recv(1)


# What is taken away, and the test's body that sees it. Without this a guard might be none.
MUTATIONS = {
    "*.pth and sitecustomize are not run": (
        "pipeline/seal/start.py",
        '"-S", ',
        "",
    ),
    "variables are listed": (
        "pipeline/seal/environment.py",
        "if _reaches(name, network=True, several=True)",
        "if True",
    ),
    "variables of another kind of stage": (
        "pipeline/seal/environment.py",
        "        del os.environ[name]\n",
        "        pass\n",
    ),
    "the root is no folder of modules": (
        "pipeline/seal/confinement.py",
        "_Nothing() if path == str(root) else finder(path)",
        "finder(path)",
    ),
    "sockets are refused": (
        "pipeline/seal/confinement.py",
        "        seccomp.refuse_sockets()\n",
        "        pass\n",
    ),
    "what is outside is not opened": (
        "pipeline/seal/confinement.py",
        "if path.parts[1] in _SYSTEM:",
        "if True:",
    ),
    "home is another": (
        "pipeline/seal/confinement.py",
        '        os.environ["HOME"] = str(directory)\n',
        "",
    ),
}
SEEN = {
    "*.pth and sitecustomize are not run": "print(not sys.flags.no_site)",
    "variables are listed": "print('MPLCONFIGDIR' in open('/proc/self/environ').read())",
    "variables of another kind of stage": "print('HF_TOKEN' in os.environ)",
    "the root is no folder of modules": (
        "print(__import__('importlib.util').util.find_spec('apex') is not None)"
    ),
    "sockets are refused": (
        "import socket\ntry:\n    socket.socket()\n    print(True)\nexcept OSError:\n   "
        " print(False)"
    ),
    "what is outside is not opened": (
        "try:\n    open({secret!r})\n    print(True)\nexcept OSError:\n    print(False)"
    ),
    "home is another": "print(os.environ['HOME'] == {home!r})",
}


@native
@pytest.mark.parametrize("name", MUTATIONS)
def test_without_a_guard_its_fault_is_seen(project, elsewhere, name):
    path, guard, nothing = MUTATIONS[name]
    (elsewhere / "secret.txt").write_text("x")
    (project / "apex.py").write_text("")
    body = SEEN[name].format(secret=str(elsewhere / "secret.txt"), home=str(elsewhere))
    environment = {**os.environ, "MPLCONFIGDIR": "x", "HF_TOKEN": "x", "HOME": str(elsewhere)}
    assert run(project, body, environment=environment).stdout == "False\n"
    text = (project / path).read_text()
    assert text.count(guard) == 1
    (project / path).write_text(text.replace(guard, nothing))
    done = run(project, body, environment=environment)
    assert done.stdout == "True\n", done.stderr
