"""pipeline/ and common/ in another project: three stages of its own, none of this project's code.

A CSV is made, a line is fitted to it with numpy, and the fit is drawn (docs/architecture.md).
Slow because DVC runs the stages several times, each in a process of its own: about half a minute.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from repository import REPOSITORY

from pipeline.seal import landlock

PYPROJECT = """
[tool.pipeline]
code = ["common", "shapes", "steps"]
stages = "steps"
"""
# As a person writes it first: data, params and outputs, no code and no libraries.
DVC_YAML = """
stages:
  measure:
    cmd: python -m steps.measure
    deps:
      - data/offset.txt
    params:
      - measure
    outs:
      - data/points.csv
  # This comment stays where it is.
  fit:
    cmd: python -m steps.fit
    deps:
      - data/points.csv
    params:
      - fit
    outs:
      - metrics/fit.json:
          cache: false
  draw:
    cmd: python -m steps.draw
    deps:
      - data/points.csv
      - metrics/fit.json
    outs:
      - plots/fit.svg:
          cache: false
"""
FILES = {
    "pyproject.toml": PYPROJECT,
    "dvc.yaml": DVC_YAML,
    "params.yaml": "measure:\n  count: 20\nfit:\n  degree: 1\n",
    "requirements.txt": f"numpy=={np.__version__}\npydantic==2\npyyaml==6\n",
    ".dvcignore": "__pycache__\n.*.partial\n",
    ".gitignore": "__pycache__\n",
    "data/offset.txt": "5\n",
    "data/secret.txt": "7\n",
    "steps/__init__.py": (REPOSITORY / "stages/__init__.py").read_text(),
    "shapes/line.py": '''
def points(count, offset):
    return [(x, 2 * x + offset) for x in range(count)]
''',
    "shapes/picture.py": '''
def dots(rows):
    circles = "".join(f'<circle cx="{x}" cy="{y}" r="1"/>' for x, y in rows)
    return f'<svg xmlns="http://www.w3.org/2000/svg">{circles}</svg>'
''',
    "steps/measure.py": '''"""Measure points on a line."""

from pathlib import Path

from common.errors import run_stage
from common.files import write_bytes
from common.sections import Section, read_section
from shapes.line import points


class Measure(Section):
    count: int


def main():
    rows = points(read_section("measure", Measure).count, int(Path("data/offset.txt").read_text()))
    write_bytes(Path("data/points.csv"), "".join(f"{x},{y}\\n" for x, y in rows).encode())


if __name__ == "__main__":
    run_stage(main)
''',
    "steps/fit.py": '''"""Fit a polynomial to the points."""

from pathlib import Path

import numpy as np

from common.errors import run_stage
from common.files import write_json
from common.sections import Section, read_section


class Fit(Section):
    degree: int


def main():
    x, y = np.loadtxt("data/points.csv", delimiter=",").T
    coefficients = np.polyfit(x, y, read_section("fit", Fit).degree)
    write_json(Path("metrics/fit.json"), {"coefficients": [round(c, 6) for c in coefficients]})


if __name__ == "__main__":
    run_stage(main)
''',
    "steps/draw.py": '''"""Draw the points, and say how steep the fitted line is."""

import ast
import json
from pathlib import Path

from common.errors import run_stage
from common.files import write_bytes
from shapes.picture import dots


def main():
    rows = [line.split(",") for line in Path("data/points.csv").read_text().splitlines()]
    slope = json.loads(Path("metrics/fit.json").read_text())["coefficients"][0]
    write_bytes(Path("plots/fit.svg"), dots(rows).encode())
    print(f"draw: the slope is {slope}")


if __name__ == "__main__":
    run_stage(main)
''',
}  # fmt: skip
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(root: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True)


def python(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    return run(root, sys.executable, "-m", *arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The project with what `check --fix` writes into dvc.yaml, after a plain `dvc repro`."""
    root = tmp_path_factory.mktemp("foreign")
    for name in ("pipeline", "common"):
        without_bytecode = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, root / name, ignore=without_bytecode)
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    for command in ("git init -q", "dvc init -q"):
        assert run(root, *command.split()).returncode == 0
    done = python(root, "pipeline.dvc_support.record", "libraries")
    assert done.returncode == 0, done.stderr
    done = python(root, "pipeline.check", "--fix")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(root, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "draw: the slope is 2.0" in done.stdout
    return root


@pytest.fixture
def project(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project", symlinks=True))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_fix_writes_what_the_code_needs_and_keeps_the_comment(made):
    text = (made / "dvc.yaml").read_text()
    assert "  # This comment stays where it is.\n" in text
    stages = yaml.safe_load(text)["stages"]
    code = {name: {dep for dep in stage["deps"] if "/" not in dep or dep.endswith(".py")}
            for name, stage in stages.items()}  # fmt: skip
    assert code["measure"] >= {"common", "shapes/line.py", "steps/__init__.py", "steps/measure.py"}
    assert not {dep for dep in code["measure"] if "picture" in dep or "fit" in dep}
    assert code["draw"] >= {"shapes/picture.py", "common/errors.py", "common/files.py"}
    libraries = yaml.safe_load((made / "libraries.yaml").read_text())
    assert set(libraries["fit"]) == {"numpy"}
    assert "measure" not in libraries
    assert {"libraries.yaml": ["fit"]} in stages["fit"]["params"]


def test_what_was_made_passes_the_check_and_reruns_nothing(made):
    done = python(made, "pipeline.check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("check: 3 stages are declared and recorded")
    assert "Data and pipelines are up to date." in run(made, "dvc", "repro").stdout


def test_an_undeclared_import_is_found_by_the_check_and_stops_the_stage(project):
    (project / "shapes/curve.py").write_text("BEND = 0\n")
    line = "from shapes.line import points\n"
    edit(project / "steps/measure.py", line, f"from shapes.curve import BEND\n{line}")
    done = python(project, "pipeline.check")
    assert done.returncode == 1
    assert done.stdout == "dvc.yaml: measure: deps: add the line      - shapes/curve.py\n"
    done = python(project, "steps.measure")
    assert done.returncode == 1
    why = "read shapes/curve.py, which dvc.yaml does not list under this stage's deps"
    assert f"error: seal: measure {why}" in done.stderr
    assert python(project, "pipeline.check", "--fix").returncode == 0
    assert python(project, "steps.measure").returncode == 0


@pytest.mark.parametrize(
    "reads",
    [
        'open("data/secret.txt").read()',
        pytest.param(
            'import subprocess; subprocess.run(["cat", "data/secret.txt"], check=True)',
            marks=pytest.mark.skipif(landlock.available() < 1, reason="the kernel has no Landlock"),
        ),
    ],
)
def test_an_undeclared_read_stops_the_stage(project, reads):
    edit(project / "steps/measure.py", "def main():\n", f"def main():\n    {reads}\n")
    before = (project / "data/points.csv").read_bytes()
    done = python(project, "steps.measure")
    assert done.returncode != 0
    assert "secret" in done.stderr
    assert "7" not in done.stdout
    assert (project / "data/points.csv").read_bytes() == before


def test_an_undeclared_section_of_params_stops_the_stage(project):
    edit(project / "steps/fit.py", 'read_section("fit", Fit)', 'read_section("measure", dict)')
    done = python(project, "steps.fit")
    assert done.returncode == 1
    assert "error: seal: fit read measure of params.yaml" in done.stderr


def test_impact_names_what_an_edit_reruns(project):
    edit(project / "shapes/picture.py", 'r="1"', 'r="2"')
    done = run(project, "git", "add", "-A")
    identity = ("-c", "user.name=x", "-c", "user.email=x@y.z")
    assert run(project, "git", *identity, "commit", "-qm", "x").returncode == 0
    done = python(project, "pipeline.impact")
    assert done.returncode == 0, done.stderr
    assert "  draw: shapes/picture.py has changed" in done.stdout
    assert "measure" not in done.stdout
    edit(project / "params.yaml", "degree: 1", "degree: 2")
    told = python(project, "pipeline.impact").stdout
    assert "  fit: params.yaml: fit has changed" in told
    assert "  metrics/fit.json: 2" in told
    done = run(project, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stage 'measure' didn't change, skipping" in done.stdout
    assert len(json.loads((project / "metrics/fit.json").read_text())["coefficients"]) == 3
    assert python(project, "pipeline.check").returncode == 0


def test_a_key_that_pipeline_does_not_know_is_refused(project):
    edit(project / "pyproject.toml", "stages =", "stage =")
    done = python(project, "pipeline.check")
    assert done.returncode == 1
    assert done.stderr == (
        "error: pyproject.toml: tool.pipeline: got an unexpected keyword argument 'stage'\n"
    )


def project_names(source: str) -> set[str]:
    """Return the names of this project's stages and folders of code among a module's strings."""
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    words = {*stages, "model"} - {"params", "fetch"}  # also DVC's and git's words
    strings = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return {text for text in strings if text in words}


def test_pipeline_names_no_stage_of_this_project():
    assert project_names('TIMED = {"pretrain"}\nCODE = ("model", "stages")') == {
        "pretrain",
        "model",
    }
    modules = sorted((REPOSITORY / "pipeline").rglob("*.py"))
    found = {str(path): names for path in modules if (names := project_names(path.read_text()))}
    assert found == {}
