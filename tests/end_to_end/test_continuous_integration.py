"""The scripts that the workflows run for a pull request: on a small repository, and against a
stand-in for `gh`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from committed_clone import committed_clone
from micro_graph import AUTHOR, ENVIRONMENT, edit, shell
from outcome_sample import outcomes
from repository import REPOSITORY

from model.comparison.outcomes_file import Key, outcome_lines

pytestmark = pytest.mark.slow("dvc compares two revisions and draws their plots", minutes=0.2)

FOUND = {Key("baseline", 1, "step 5", "one"): outcomes([n % 2 for n in range(200)])}
BETTER = {Key("baseline", 1, "step 5", "one"): outcomes([n % 2 or n % 5 == 0 for n in range(200)])}


def test_the_figures_of_a_pull_request_are_against_its_base(tmp_path):
    tree = committed_clone(tmp_path / "tree")

    def commit(found: dict, rate: float) -> None:
        (tree / "metrics/outcomes.jsonl").write_text(outcome_lines(found))
        (tree / "metrics/comparison.json").write_text(json.dumps({"rate": rate}))
        shell(["git", "add", "-A"], tree)
        shell(["git", *AUTHOR, "commit", "-qm", "results"], tree)

    commit(FOUND, 0.25)
    base = shell(["git", "rev-parse", "HEAD"], tree).strip()
    edit(tree / "params.yaml", "  learning_rate: 2.0e-3", "  learning_rate: 4.0e-3")
    commit(BETTER, 0.75)
    shell([".ci/pull_request_figures", base, str(tmp_path / "figures")], tree)
    text = (tmp_path / "figures/figures.txt").read_text()
    assert f"$ make --no-print-directory verdict REV={base[:7]}" in text
    assert (
        f"differs from {base[:7]} by more than other items explain in 1 of 1 figures, an accuracy."
        in text
    )
    assert re.search(r"pretrain.learning_rate +0.002 +0.004", text)
    assert re.search(r"rate +0.25 +0.75 +0.5", text)
    assert "check: " in text
    assert "exit status 2" in text, "the check's, of results that are none"
    assert "vega" in (tmp_path / "figures/plots/index.html").read_text()
    assert shell(["git", "status", "--porcelain"], tree) == ""
    done = subprocess.run(
        [".ci/pull_request_figures", "nowhere", "out"],
        cwd=tree,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "error: nowhere: no commit of this repository\n")


# Keeps a repository in state.json beside it, and answers as GitHub does; anything else is an error.
GH = """#!{python}
import json, re, sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

state_file = Path(__file__).with_name("state.json")
state = json.loads(state_file.read_text())
_, api, option, method, path, *rest = sys.argv
body = json.loads(sys.stdin.read())["body"] if rest == ["--input", "-"] else None
where, query = urlsplit(path).path, {{key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}}
comments = state["comments"]
if (method, where) == ("GET", "repos/o/r/pulls") and query["state"] == "open":
    answer = [{{"number": 7, "head": {{"sha": state["sha"]}}}}] if query["head"] == state["head"] else []
elif (method, where) == ("GET", "repos/o/r/issues/7/comments"):
    first = (int(query["page"]) - 1) * int(query["per_page"])
    answer = comments[first : first + int(query["per_page"])]
elif (method, where) == ("POST", "repos/o/r/issues/7/comments"):
    answer = {{"id": len(comments), "user": {{"login": "github-actions[bot]"}}, "body": body}}
    comments.append(answer)
elif method == "PATCH" and (found := re.fullmatch(r"repos/o/r/issues/comments/(\\d+)", where)):
    answer = comments[int(found[1])]
    answer["body"] = body
else:
    sys.exit("HTTP 404: Not Found")
state_file.write_text(json.dumps(state))
print(json.dumps(answer))
"""  # noqa: E501
HEAD, SHA = "someone:fix/a&b", "a" * 40


@pytest.fixture
def gh(tmp_path) -> Path:
    """A folder with a `gh` whose pull request 7 has 130 comments of others, one of them with our
    marker.
    """
    folder = tmp_path / "gh"
    folder.mkdir()
    (folder / "gh").write_text(GH.format(python=sys.executable))
    (folder / "gh").chmod(0o755)
    others = [
        {"id": n, "user": {"login": "someone"}, "body": "<!-- figures of this pull request -->"}
        for n in range(130)
    ]
    (folder / "state.json").write_text(json.dumps({"head": HEAD, "sha": SHA, "comments": others}))
    return folder


def comment(gh: Path, figures: str | None, **changes: str) -> subprocess.CompletedProcess:
    path = gh / "figures.txt"
    path.unlink(missing_ok=True)
    if figures is not None:
        path.write_text(figures)
    owner, branch = HEAD.split(":")
    said = {
        "REPOSITORY": "o/r",
        "HEAD_OWNER": owner,
        "HEAD_BRANCH": branch,
        "HEAD_SHA": SHA,
        "CONCLUSION": "success",
    }
    environment = {
        "PATH": f"{gh}:{os.environ['PATH']}",
        "RUN_URL": "https://example.org/run",
        **said,
        **changes,
    }
    command = [sys.executable, REPOSITORY / ".ci/pull_request_comment.py", path]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def comments(gh: Path) -> list[str]:
    return [of["body"] for of in json.loads((gh / "state.json").read_text())["comments"][130:]]


def test_one_comment_is_posted_and_then_brought_up_to_date(gh):
    assert comment(gh, "first\n").stdout == "comment: posted under pull request 7\n"
    assert (
        comment(gh, "second\n", CONCLUSION="failure").stdout
        == "comment: brought up to date under pull request 7\n"
    )
    [body] = comments(gh)
    assert body.endswith("\n```text\nsecond\n```")
    assert "CI of aaaaaaaaaaaa: **failure**. [Its run](https://example.org/run)" in body


def test_text_of_a_pull_request_stays_text(gh):
    comment(gh, "````\n@everyone <img src=x> [a](b)\u202e\x1b[31m\n```\n")
    [body] = comments(gh)
    *_, opening, first, second, third, closing = body.split("\n")
    assert (opening, closing) == (
        "`````text",
        "`````",
    ), "longer than any in it, which so cannot end the block"
    assert (first, second, third) == ("````", "@everyone <img src=x> [a](b)[31m", "```")
    comment(gh, "x" * 200_000)
    [body] = comments(gh)
    assert len(body) < 65_536
    assert "… 145000 characters more are in the artifact." in body


@pytest.mark.parametrize(
    "changes", [{"HEAD_SHA": "b" * 40}, {"HEAD_BRANCH": "other"}], ids=["gone on since", "closed"]
)
def test_a_pull_request_that_is_not_at_that_commit_gets_no_comment(gh, changes):
    done = comment(gh, "text", **changes)
    assert done.returncode == 0
    assert "nothing to say" in done.stdout
    assert comments(gh) == []


def test_where_there_are_no_figures_the_comment_says_so_and_failures_are_a_line(gh):
    comment(gh, None, CONCLUSION="failure")
    [body] = comments(gh)
    assert body.endswith("It made no figures to show; its log says why.")
    done = comment(gh, "text", REPOSITORY="o/other")
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: gh api GET repos/o/other/pulls\S+: HTTP 404: Not Found\n", done.stderr
    )
    assert comment(gh, "text", RUN_URL="").stderr.startswith(
        "error: RUN_URL: not in the environment"
    )
