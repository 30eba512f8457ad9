"""`make lock` with a stand-in for uv: what is kept, what is left out, and where the CPU builds of
torch come from.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.lock import CUDA, DEV, MAIN, entries, write_lock

# Answers by what it is asked for, and writes down its arguments and the pins it is given.
UV = """#!{python}
import json, sys
from pathlib import Path
asked = sys.stdin.read().strip()
options = dict(word[2:].split("=", 1) for word in sys.argv if "=" in word)
lock = Path(options["output-file"])
given = dict(asked=asked, pins=lock.read_text(), held=Path(options["constraint"]).read_text())
with open({log!r}, "a") as log:
    print(json.dumps({{**given, "options": sys.argv[1:]}}), file=log)
answers = json.loads(Path({answers!r}).read_text())
if asked not in answers:
    sys.exit("out of reach")
lock.write_text(answers[asked])
"""


def entry(name: str, *hashes: str, version: str = "1.0", marker: str = "") -> str:
    lines = [f"{name}=={version}{marker}", *(f"    --hash=sha256:{each}" for each in hashes)]
    return " \\\n".join(lines) + "\n"


PIPELINE = (
    entry("numpy", "n")
    + entry("nvidia-cublas", "c", marker=" ; sys_platform == 'linux'")
    + entry("torch", "t")
    + entry("triton", "r")
)


class Project:
    def __init__(self, root: Path):
        self.root, self.log, self.answers = root, root / "log", root / "answers.json"
        (root / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.11,<3.15"\n')
        (root / "requirements.in").write_text("torch\n")
        (root / "requirements-dev.in").write_text("pytest\n")
        text = UV.format(python=sys.executable, log=str(self.log), answers=str(self.answers))
        (root / "bin").mkdir()
        (root / "bin/uv").write_text(text)
        (root / "bin/uv").chmod(0o755)

    def lock(self, name: str, *upgrade: str, **answers: str) -> list[dict]:
        """Write a lock; return what uv was asked."""
        self.answers.write_text(
            json.dumps({key.replace("_cpu", "+cpu"): answers[key] for key in answers})
        )
        self.log.write_text("")
        write_lock(self.root, name, *upgrade)
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def text(self, name: str) -> str:
        return (self.root / name).read_text()


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return Project(tmp_path)


def hashes_of_torch(project: Project) -> set[str]:
    return next(each for each in entries(project.text(MAIN)) if each.name == "torch").hashes()


def test_what_only_the_cuda_build_needs_has_a_lock_of_its_own(project):
    project.lock(MAIN, torch=PIPELINE)
    assert [each.name for each in entries(project.text(MAIN))] == ["numpy", "torch"]
    assert [each.name for each in entries(project.text(CUDA))] == ["nvidia-cublas", "triton"]
    assert "nvidia-cublas==1.0 ; sys_platform == 'linux' \\\n" in project.text(CUDA)


def test_uv_locks_hashes_for_every_platform_from_the_oldest_python_on(project):
    [asked, _] = project.lock(MAIN, "--upgrade", torch=PIPELINE)
    wanted = {"--universal", "--generate-hashes", "--python-version=3.11", "--upgrade"}
    assert wanted <= set(asked["options"])
    assert not any("index" in option for option in asked["options"])


def test_present_versions_are_given_to_uv_without_their_hashes(project):
    project.lock(MAIN, torch=PIPELINE)
    [asked, _] = project.lock(MAIN, torch=PIPELINE)
    assert asked["pins"] == "numpy==1.0\ntorch==1.0\nnvidia-cublas==1.0\ntriton==1.0\n"
    assert asked["held"] == ""


def test_a_lock_holds_to_the_one_below_it_and_pins_nothing_of_that(project):
    project.lock(MAIN, torch=PIPELINE)
    [asked] = project.lock(DEV, pytest=PIPELINE + entry("pytest", "p"))
    assert asked["held"] == "numpy==1.0\ntorch==1.0\nnvidia-cublas==1.0\ntriton==1.0\n"
    assert [each.name for each in entries(project.text(DEV))] == ["pytest"]


def test_the_hashes_of_cpu_builds_come_from_pytorchs_index(project):
    cpu = entry("torch", "x86", "arm", version="1.0+cpu")
    asked = project.lock(MAIN, **{"torch": PIPELINE, "torch==1.0_cpu": cpu})
    assert "--torch-backend=cpu" in asked[1]["options"]
    assert hashes_of_torch(project) == {"sha256:t", "sha256:x86", "sha256:arm"}
    assert "+cpu" not in project.text(MAIN)


def test_the_hashes_of_cpu_builds_stay_where_that_index_is_out_of_reach(project, capsys):
    cpu = entry("torch", "x86", version="1.0+cpu")
    project.lock(MAIN, **{"torch": PIPELINE, "torch==1.0_cpu": cpu})
    project.lock(MAIN, torch=PIPELINE)
    assert hashes_of_torch(project) == {"sha256:t", "sha256:x86"}
    assert "1 hashes of CPU builds kept for torch 1.0" in capsys.readouterr().err
    project.lock(MAIN, torch=PIPELINE.replace("torch==1.0", "torch==2.0"))
    assert hashes_of_torch(project) == {"sha256:t"}, "another version's are of no use"


def test_a_lock_that_uv_cannot_make_stays_as_it_was(project):
    project.lock(MAIN, torch=PIPELINE)
    before = project.text(MAIN)
    with pytest.raises(subprocess.CalledProcessError):
        project.lock(MAIN)
    assert project.text(MAIN) == before
