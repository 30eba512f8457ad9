"""GitHub's workflows: what they may do, what they run, and their schemas (docs/operations.md)."""

import os
import re
import shutil
import subprocess

import pytest
from repository import REPOSITORY

from pipeline.declared.dvc_yaml import load_yaml

WORKFLOWS = {
    path.name: path.read_text() for path in sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
}
MAY = {"ci.yml": set(), "comment.yml": {"pull-requests"}}
STARTED_BY = {
    "ci.yml": {"push", "pull_request"},
    "comment.yml": {"workflow_run"},
}  # the latter from the default branch


def faults(name: str, text: str) -> list[str]:
    """Return what of a workflow is against docs/operations.md."""
    flow = load_yaml(text.encode())
    found = [] if set(flow["on"]) == STARTED_BY[name] else ["started by something else"]
    for job in flow["jobs"].values():
        rights = job.get("permissions", flow.get("permissions", {"everything": "write"}))
        if {right for right, level in rights.items() if level != "read"} != MAY[name]:
            found.append("other rights")
        if "timeout-minutes" not in job:
            found.append("no limit of time")
        for step in job["steps"]:
            found += _faults_of_step(name, text, step)
    return found


def _faults_of_step(name: str, text: str, step: dict) -> list[str]:
    found = ["text of others becomes shell"] if "${{" in step.get("run", "") else []
    if "uses" in step:
        action, _, version = step["uses"].partition("@")
        if not (
            re.fullmatch("[0-9a-f]{40}", version)
            and re.search(rf"{version} # v\d+\.\d+\.\d+\n", text)
        ):
            found.append("an action that is not pinned, or a person does not see to which version")
        if (
            action == "actions/checkout"
            and step.get("with", {}).get("persist-credentials") is not False
        ):
            found.append("the token stays in the checkout")
        if action == "actions/checkout" and name == "comment.yml" and "ref" in step["with"]:
            found.append("code that is not the default branch's")
    return found


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_and_runs_no_more_than_is_said(name):
    assert faults(name, WORKFLOWS[name]) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("ci.yml", "  pull_request:", "  pull_request_target:", "started by something else"),
        ("ci.yml", "  contents: read", "  contents: write", "other rights"),
        ("ci.yml", "permissions:\n  contents: read\n", "", "other rights"),
        ("comment.yml", "contents: read", "contents: write", "other rights"),
        ("ci.yml", "    timeout-minutes: 120\n", "", "no limit of time"),
        (
            "ci.yml",
            "run: .ci/run",
            "run: echo ${{ github.head_ref }}",
            "text of others becomes shell",
        ),
        (
            "comment.yml",
            "d3f86a106a0bac45b974a628896c90dbdf5c8093 # v4.3.0",
            "v4",
            "an action that is not pinned",
        ),
        ("comment.yml", " # v4.3.0", "", "an action that is not pinned"),
        (
            "comment.yml",
            "          persist-credentials: false",
            "          fetch-depth: 0",
            "the token stays",
        ),
        (
            "comment.yml",
            "persist-credentials: false",
            "persist-credentials: false\n          ref: x",
            "code that is not",
        ),
    ],
    ids=lambda value: re.sub(r"\W+", " ", value).strip()[:30],
)
def test_a_workflow_that_does_more_would_be_seen(name, old, new, fault):
    assert WORKFLOWS[name].count(old) == 1
    assert [
        found
        for found in faults(name, WORKFLOWS[name].replace(old, new))
        if found.startswith(fault)
    ]


def steps() -> list[dict]:
    return [
        step
        for text in WORKFLOWS.values()
        for job in load_yaml(text.encode())["jobs"].values()
        for step in job["steps"]
    ]


def test_the_comment_comes_after_the_workflow_that_makes_its_text():
    made, read = (load_yaml(WORKFLOWS[name].encode()) for name in ("ci.yml", "comment.yml"))
    assert read["on"]["workflow_run"]["workflows"] == [made["name"]]
    names = [step["with"]["name"] for step in steps() if "-artifact@" in step.get("uses", "")]
    assert names == ["report", "figures", "figures"]


def test_every_step_is_a_script_of_this_repository_that_can_be_run():
    commands = [step["run"] for step in steps() if "run" in step]
    others = ("python -m pip ", "sudo sysctl --write ")
    scripts = [
        re.search(r"\.ci/[\w.]+", command)[0]
        for command in commands
        if not command.startswith(others)
    ]
    assert ".ci/run" in scripts
    for script in scripts:
        assert (REPOSITORY / script).is_file()
        assert script.endswith(".py") or os.access(REPOSITORY / script, os.X_OK)


def test_a_user_may_mount_a_small_disk_before_the_tests_that_require_one():
    [commands] = [
        [step["run"] for step in job["steps"] if "run" in step]
        for job in load_yaml(WORKFLOWS["ci.yml"].encode())["jobs"].values()
        if any(step.get("run") == ".ci/long" for step in job["steps"])
    ]
    assert commands == [
        "sudo sysctl --write kernel.apparmor_restrict_unprivileged_userns=0",
        ".ci/long",
    ]
    assert "REQUIRE_SMALL_DISK=1" in (REPOSITORY / ".ci/long").read_text()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (".github/workflows/comment.yml", "timeout-minutes"),
        (".github/ISSUE_TEMPLATE/failure.yml", "attributes"),
    ],
)
def test_workflows_templates_and_citation_are_what_their_schemas_allow(tmp_path, path, key):
    if not shutil.which("check-jsonschema"):
        pytest.skip("no check-jsonschema: pip install check-jsonschema; CI's job schemas has it")
    subprocess.run([".ci/check_schemas"], cwd=REPOSITORY, check=True)
    for name in (".ci", ".github"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "CITATION.cff", tmp_path)
    text = (tmp_path / path).read_text()
    (tmp_path / path).write_text(text.replace(key, "no-such-key", 1))
    done = subprocess.run([".ci/check_schemas"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no-such-key" in done.stdout
