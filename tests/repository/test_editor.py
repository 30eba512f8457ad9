"""VS Code: its settings lead to what is there, and what DVC's extension asks of a repository has no
errors in this one.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from committed import committed_text
from committed_clone import committed_clone
from micro_graph import ENVIRONMENT, edit, shell
from repository import REPOSITORY

PARAMS = yaml.safe_load(committed_text("params.yaml"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The tree, with an edit that is not committed."""
    directory = committed_clone(tmp_path_factory.mktemp("editor") / "tree")
    edit(directory / "params.yaml", "  learning_rate: 2.0e-3", "  learning_rate: 4.0e-3")
    # As make's set-up does.
    shell([sys.executable, "-m", "tools.generated.dvc_plots"], directory)
    return directory


def ask(tree: Path, *arguments: str) -> Any:
    """Return what dvc answers, asked as the extension asks: by the path that is set, relative to
    the repository.
    """
    dvc = json.loads((tree / ".vscode/settings.json").read_text())["dvc.dvcPath"]
    command = [dvc, *arguments, "--json"]
    done = subprocess.run(command, cwd=tree, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def errors(answer: Any) -> list[dict]:
    if isinstance(answer, dict):
        own = (
            [answer["error"]]
            if isinstance(answer.get("error"), dict)
            else list(answer.get("errors", []))
        )
        return own + [error for value in answer.values() for error in errors(value)]
    return (
        [error for value in answer for error in errors(value)] if isinstance(answer, list) else []
    )


def unexplained(tree: Path, answer: Any) -> list[dict]:
    """Return the errors that are not of a metric or plot that the tree lacks, as it does until make
    repro has run.
    """
    missing = {
        name
        for name in shell(["git", "ls-files", "-z", "metrics", "plots"], tree).split("\0")
        if name
    }
    told = [(error["type"], error["msg"].split("'")[-2]) for error in errors(answer)]
    return [error for error in told if error[0] != "FileNotFoundError" or error[1] in missing]


def test_the_settings_lead_to_the_environment():
    settings = json.loads((REPOSITORY / ".vscode/settings.json").read_text())
    for key in ("dvc.dvcPath", "dvc.pythonPath", "python.defaultInterpreterPath"):
        path = settings[key].removeprefix("${workspaceFolder}/")
        folder, name = path.rsplit("/", 1)
        assert folder == ".venv/bin"
        assert Path(sys.prefix, "bin", name).exists()
    wanted = json.loads((REPOSITORY / ".vscode/extensions.json").read_text())["recommendations"]
    assert "lakeFS.lakefs-dvc" in wanted
    assert "iterative.dvc" not in wanted, "the name until January 2026, which gets no update"


def test_the_experiments_table_has_parameters_and_metrics(tree):
    answer = ask(tree, "exp", "show", "-n", "2")
    assert unexplained(tree, answer) == []
    workspace, committed = (
        {entry["rev"]: entry for entry in answer}[rev]["data"]
        for rev in ("workspace", answer[1]["rev"])
    )
    rates = [
        data["params"]["params.yaml"]["data"]["pretrain"]["learning_rate"]
        for data in (workspace, committed)
    ]
    assert rates == [4.0e-3, 2.0e-3]
    run = f"{next(iter(PARAMS['conditions']))}/seed_{PARAMS['seeds'][0]}"
    metrics = json.loads((tree / f"metrics/{run}/pretrain.json").read_text())
    assert committed["metrics"][f"metrics/{run}/pretrain.json"]["data"] == metrics


def test_the_plots_are_data_and_images(tree):
    answer = ask(tree, "plots", "diff", "HEAD", "--split", "-o", ".dvc/tmp/plots")
    assert unexplained(tree, answer) == []
    shown = {
        name: [plot["type"] for plot in plots] for name, plots in answer["data"].items() if plots
    }
    assert set(shown["plots/curves/loss.csv"]) == {"vega"}
    assert set(shown["plots/figures/combined.png"]) == {"image"}
    for plots in answer["data"].values():
        for plot in plots:
            if plot["type"] == "vega":
                assert "vega-lite" in plot["content"]["$schema"]


def test_data_that_is_not_here_is_told_as_that_and_differences_are_found(tree):
    status = ask(tree, "data", "status", "--granular", "--unchanged")
    assert "checkpoints/baseline/seed_1337/" in status["not_in_cache"]
    assert errors(status) == []
    changed = ask(tree, "params", "diff")
    assert changed == {
        "params.yaml": {"pretrain.learning_rate": {"old": 2.0e-3, "new": 4.0e-3, "diff": 2.0e-3}}
    }


def test_an_error_of_the_extensions_commands_would_be_seen(tree):
    damaged = tree / "plots/curves/loss.csv"
    text = damaged.read_text()
    try:
        damaged.unlink()
        answer = ask(tree, "plots", "diff", "HEAD", "--split", "-o", ".dvc/tmp/plots")
        assert {*unexplained(tree, answer)} == {("FileNotFoundError", "plots/curves/loss.csv")}
    finally:
        damaged.write_text(text)
