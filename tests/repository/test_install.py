"""tools/install.sh: which Python it takes, with what it installs, and which torch.

Python, uv and nvidia-smi are stand-ins that write down what they were given.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from repository import REPOSITORY

TOOLS = ("cat", "dirname", "grep", "ls", "readlink", "sed", "sh", "uname")
LOCK = "torch==2.13.0 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\nnumpy==1 --hash=sha256:c\n"
# Answers as a Python of VERSION; makes an environment that has a copy of itself.
PYTHON = """#!/bin/sh
case "$*" in
*sys.exit*) case VERSION in 3.11 | 3.12 | 3.13 | 3.14) exit 0 ;; esac; exit 1 ;;
*print*) echo VERSION ;;
*ensurepip*) [ ! -e "$0-has-no-venv" ]; exit ;;
*--version) exit 0 ;;
*) echo "$(basename "$0") $*" >>LOG ;;
esac
case "$*" in
"-m venv "*)
	for last; do :; done
	MAKE "$last"
	;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >>LOG
for last; do :; done
case "$*" in
"venv "*) MAKE "$last" ;;
*torch_cpu*) /bin/cat "$last" >>LOG; exit 1 ;;
esac
"""
MAKE = """#!/bin/sh
/bin/mkdir -p "$1/bin" "$1/lib/python3.13/site-packages"
/bin/cp "$(/usr/bin/dirname "$0")/python-of-environments" "$1/bin/python"
/bin/touch "$1/pyvenv.cfg"
"""


class Machine:
    """A folder with the script and a PATH of its own."""

    def __init__(self, root: Path):
        self.root, self.bin, self.log = root, root / "bin", root / "log"
        for folder in (self.bin, root / "tools"):
            folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / "tools/install.sh", root / "tools")
        (root / "requirements.txt").write_text(LOCK)
        (root / "requirements-cuda.txt").write_text("nvidia-cublas==1 --hash=sha256:d\n")
        for name in TOOLS:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.has("basename", "#!/bin/sh\necho ${1##*/}\n")
        self.has("make-environment", MAKE)
        self.has_python("3.13", "python-of-environments")

    def has(self, name: str, text: str) -> Path:
        path = self.bin / name
        made = text.replace("LOG", f"'{self.log}'").replace(
            "MAKE", f"'{self.bin}/make-environment'"
        )
        path.write_text(made)
        path.chmod(0o755)
        return path

    def has_python(self, version: str, name: str = "") -> Path:
        return self.has(name or f"python{version}", PYTHON.replace("VERSION", version))

    def install(self, *locks: str, python: str = "") -> subprocess.CompletedProcess:
        self.log.write_text("")
        return subprocess.run(
            ["tools/install.sh", ".venv", *(locks or ("requirements.txt",))],
            cwd=self.root,
            env={"PATH": str(self.bin), "PYTHON": python},
            text=True,
            capture_output=True,
        )

    def ran(self, *locks: str, python: str = "") -> list[str]:
        """Install; return what was run."""
        done = self.install(*locks, python=python)
        assert done.returncode == 0, done.stderr
        return self.log.read_text().splitlines()

    def fault(self, *locks: str, python: str = "") -> str:
        """Return the one line of an install that fails."""
        done = self.install(*locks, python=python)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        return line

    def needs_cuda(self) -> None:
        folder = self.root / ".venv/lib/python3.13/site-packages/torch-2.13.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Name: torch\nRequires-Dist: nvidia-cublas==1\n")


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path / "a machine")


def test_the_newest_python_that_fits_makes_the_environment(machine):
    for version in ("3.11", "3.13", "3.12"):
        machine.has_python(version)
    machine.has("python3.14", "#!/bin/sh\necho not to be had >&2; exit 127\n")
    first, *others = machine.ran()
    assert first == f"python3.13 -m venv --clear {machine.root}/.venv"
    assert others[-1].endswith("--no-deps --require-hashes -r requirements.txt")
    assert all(line.startswith("python -m pip install ") for line in others)


@pytest.mark.parametrize(("version", "fits"), [("3.11", True), ("3.10", False), ("3.15", False)])
def test_python3_is_taken_where_it_fits(machine, version, fits):
    machine.has_python(version, "python3")
    done = machine.install()
    assert (done.returncode == 0) == fits
    assert ("python3 -m venv" in machine.log.read_text()) == fits


def test_a_python_without_venv_is_taken_with_uv_only(machine):
    python = machine.has_python("3.13")
    (machine.bin / "python3.13-has-no-venv").touch()
    assert "(Debian: python3-venv)" in machine.fault()
    machine.has_python("3.12")
    assert machine.ran()[0].startswith("python3.12 -m venv")
    shutil.rmtree(machine.root / ".venv")
    machine.has("uv", UV)
    assert f" --python {python} " in machine.ran()[0]


def test_without_a_python_uv_brings_one(machine):
    machine.has("uv", UV)
    assert machine.ran()[0] == f"uv venv --quiet --clear --python >=3.11,<3.15 {machine.root}/.venv"


def test_without_a_python_and_uv_a_line_says_how_to_get_one(machine):
    assert machine.fault().startswith("error: set-up: no Python 3.11 to 3.14 with venv on PATH; ")
    assert not (machine.root / ".venv").exists()


def test_a_python_that_is_named_is_taken_or_refused(machine):
    old, other = machine.has_python("3.10"), machine.has_python("3.12")
    machine.has_python("3.13")
    line = "is not Python 3.11 to 3.14 with venv; run make PYTHON="
    assert line in machine.fault(python=str(old))
    assert machine.ran(python=str(other))[0].startswith("python3.12 -m venv")


def test_uv_gets_the_python_and_installs_with_hashes_and_nothing_that_no_lock_has(machine):
    machine.has("uv", UV)
    python = machine.has_python("3.13")
    first, *others = machine.ran()
    assert first == f"uv venv --quiet --clear --python {python} {machine.root}/.venv"
    assert others[-1] == (
        "uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes"
        " -r requirements.txt"
    )


def test_an_environment_that_works_is_kept_unless_another_version_is_asked_for(machine):
    machine.has_python("3.13")
    machine.ran()
    machine.has_python("3.14")
    assert not any("venv" in line.split()[2] for line in machine.ran())
    assert not any("-m venv" in line for line in machine.ran(python="python3.13"))
    assert machine.ran(python="python3.14")[0].startswith("python3.14 -m venv")


def test_an_environment_whose_python_is_gone_is_made_anew(machine):
    machine.has_python("3.13")
    machine.ran()
    (machine.root / ".venv/bin/python").unlink()
    assert machine.ran()[0].startswith("python3.13 -m venv --clear")


def test_an_environment_behind_a_link_stays_there(machine):
    machine.has_python("3.13")
    (machine.root / ".venv").symlink_to("elsewhere")
    assert machine.ran()[0].endswith(f" {machine.root}/elsewhere")
    assert (machine.root / ".venv").is_symlink()
    assert (machine.root / "elsewhere/bin/python").exists()


@pytest.mark.parametrize("has_uv", [False, True])
def test_a_folder_behind_a_link_is_not_emptied(machine, has_uv):
    machine.has_python("3.13")
    if has_uv:
        machine.has("uv", UV)
    (machine.root / "elsewhere").mkdir()
    (machine.root / ".venv").symlink_to("elsewhere")
    made = machine.ran()[0]
    assert "venv" in made
    assert "--clear" not in made


def test_an_environment_behind_a_link_is_not_made_anew(machine):
    machine.has_python("3.13")
    (machine.root / ".venv").symlink_to("elsewhere")
    machine.ran()
    assert not any("-m venv" in line for line in machine.ran())
    machine.has_python("3.14")
    assert ".venv is a link to an environment of another Python; remove the link" in (
        machine.fault(python="python3.14")
    )
    assert (machine.root / "elsewhere/bin/python").exists()


def test_the_cpu_build_of_torch_is_looked_for_where_there_is_no_gpu(machine):
    machine.has("uv", UV)
    done = machine.install()
    said = machine.log.read_text()
    assert [line for line in said.splitlines() if line.startswith("torch==")] == (
        ["torch==2.13.0+cpu \\"] * 2
    )
    assert said.count("--hash=sha256:a") == said.count("--hash=sha256:b") == 2
    assert said.count("--torch-backend=cpu") == 1, "after the index of the user's settings"
    [line] = done.stderr.splitlines()
    assert "no index offers the locked CPU build" in line
    assert said.splitlines()[-1].endswith("-r requirements.txt")
    machine.has("nvidia-smi", "#!/bin/sh\n")
    assert not any("torch_cpu" in line for line in machine.ran())


def test_a_cpu_build_that_is_there_is_not_looked_for_again(machine):
    machine.has("uv", UV.replace("exit 1", "exit 0"))
    assert len([line for line in machine.ran() if "torch_cpu" in line]) == 1
    packages = machine.root / ".venv/lib/python3.13/site-packages"
    (packages / "torch-2.13.0+cpu.dist-info").mkdir()
    assert not any("torch_cpu" in line for line in machine.ran())
    (packages / "torch-2.13.0+cpu.dist-info").rename(packages / "torch-2.12.0+cpu.dist-info")
    assert any("torch_cpu" in line for line in machine.ran()), "the lock has moved on"


def test_cuda_libraries_are_installed_for_a_torch_that_needs_them(machine):
    machine.has("uv", UV)
    locks = ("requirements.txt", "requirements-cuda.txt")
    assert not any("requirements-cuda.txt" in line for line in machine.ran(*locks))
    machine.needs_cuda()
    assert machine.ran(*locks)[-1].endswith("-r requirements-cuda.txt")


def test_the_script_takes_the_pythons_that_pyproject_declares():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    text = (REPOSITORY / "tools/install.sh").read_text()
    assert project["project"]["requires-python"] == ">=3.11,<3.15"
    assert ":->=3.11,<3.15}" in text
    assert re.search(r"\(3, 11\) <= sys\.version_info\[:2\] <= \(3, 14\)", text)
    assert project["tool"]["mypy"]["python_version"] == "3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"


def test_no_file_of_set_up_names_an_index():
    for path in [*REPOSITORY.glob("requirements*"), REPOSITORY / "tools/install.sh"]:
        assert not re.search(r"https?://|--(extra-)?index|--find-links", path.read_text()), path
