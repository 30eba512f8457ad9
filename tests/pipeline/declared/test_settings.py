"""pyproject.toml's table [tool.pipeline]: what it may say, and what is refused."""

import os
import subprocess
import sys

import pytest
from repository import REPOSITORY

from pipeline.declared.settings import read

WRONG = {
    "nothing = 1": (
        "error: pyproject.toml: tool.pipeline: got an unexpected keyword argument 'nothing'"
    ),
    'code = "model"': (
        "error: pyproject.toml: tool.pipeline: code: must be a list of text, not 'model'"
    ),
    "commands = []": "error: pyproject.toml: tool.pipeline: commands: must be a table, not []",
    'environment = {network = "HF_*"}': (
        "error: pyproject.toml: tool.pipeline: environment.network: must be a list of text, not"
        " 'HF_*'"
    ),
    'offline = {MKL_CBWR = "AVX2"}': (
        "error: pyproject.toml: tool.pipeline: offline.MKL_CBWR: must be a name that ends in"
        " _OFFLINE"
    ),
    "variables = {A = 1}": (
        "error: pyproject.toml: tool.pipeline: variables.A: must be text, or a table KEY = {VALUE"
        " = text}"
    ),
    'variables = {A = {"numerics.kernels" = {portable = 2}}}': (
        "error: pyproject.toml: tool.pipeline: variables.A: must be text, or a table KEY = {VALUE"
        " = text}"
    ),
    'variables = {A = {a = {b = "1"}, c = {d = "2"}}}': (
        "error: pyproject.toml: tool.pipeline: variables.A: must be text, or a table KEY = {VALUE"
        " = text}"
    ),
    'variables_need = "avx2"': (
        "error: pyproject.toml: tool.pipeline: variables_need: must be a list of text, not 'avx2'"
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_setting_of_another_kind_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(f"[tool.pipeline]\n{text}\n")
    with pytest.raises(SystemExit) as refused:
        read(str(tmp_path))
    assert str(refused.value) == WRONG[text]


def test_this_projects_settings_are_read():
    assert read(str(REPOSITORY)).code == ["common", "model", "stages"]


def test_code_of_another_project_on_the_path_is_not_imported(tmp_path):
    """model/ has no __init__.py, so Python alone would take another project's model.py."""
    (tmp_path / "model.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "tools.score", "--help"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
