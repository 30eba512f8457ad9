"""Post the figures of a pull request as a comment, or update the comment that is there.

    GH_TOKEN=… REPOSITORY=owner/name HEAD_OWNER=… HEAD_BRANCH=… HEAD_SHA=… CONCLUSION=… RUN_URL=… \
        python3 .ci/pull_request_comment.py figures/figures.txt

Runs with a token that may write, so it trusts nothing that comes from the pull request. GitHub, not
a file, tells which pull request it is. The figures stand in a code block that they cannot end, so
they can hold no link, mention or HTML. Reads the file. Writes one comment through `gh`, which needs
GH_TOKEN. Uses only Python's standard library.
"""

import json
import os
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

MARKER = "<!-- figures of this pull request -->"
AUTHOR = "github-actions[bot]"
MOST = 55_000  # characters of figures; GitHub accepts 65,536 for the whole comment
PAGE = 100


def api(path: str, method: str = "GET", body: dict | None = None) -> Any:
    command = ["gh", "api", "--method", method, path, *(["--input", "-"] if body else [])]
    done = subprocess.run(
        command, input=json.dumps(body) if body else None, text=True, capture_output=True
    )
    if done.returncode != 0:
        sys.exit(f"error: gh api {method} {path}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def pull_request(repository: str, owner: str, branch: str, sha: str) -> int | None:
    """Return the number of the open pull request whose last commit is `sha`.

    None if it is closed, or has newer commits.
    """
    head = urllib.parse.quote(f"{owner}:{branch}", safe="")
    found = [
        pull["number"]
        for pull in api(f"repos/{repository}/pulls?state=open&head={head}")
        if pull["head"]["sha"] == sha
    ]
    return found[0] if found else None


def earlier_comment(repository: str, number: int) -> int | None:
    page = 1
    while True:
        comments = api(f"repos/{repository}/issues/{number}/comments?per_page={PAGE}&page={page}")
        for comment in comments:
            if comment["user"]["login"] == AUTHOR and comment["body"].startswith(MARKER):
                return comment["id"]
        if len(comments) < PAGE:
            return None
        page += 1


def comment_text(figures: str | None, sha: str, conclusion: str, run_url: str) -> str:
    """Return the comment in Markdown; `figures` is untrusted text."""
    lines = [
        MARKER,
        (
            f"CI of {sha[:12]}: **{conclusion}**. [Its run]({run_url}) has report and plots as"
            " artifacts."
        ),
        "",
    ]
    if figures is None:
        return "\n".join([*lines, "It made no figures to show; its log says why."])
    text = "".join(
        character for character in figures if character.isprintable() or character == "\n"
    )
    if len(text) > MOST:
        text = f"{text[:MOST]}\n… {len(text) - MOST} characters more are in the artifact."
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return "\n".join(
        [
            *lines,
            "The committed figures against the base's:",
            "",
            f"{fence}text",
            text.rstrip("\n"),
            fence,
        ]
    )


def main() -> None:
    if len(sys.argv) != 2:
        print("usage: python3 .ci/pull_request_comment.py FILE", file=sys.stderr)
        sys.exit(2)
    names = ("REPOSITORY", "HEAD_OWNER", "HEAD_BRANCH", "HEAD_SHA", "CONCLUSION", "RUN_URL")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        sys.exit(
            f"error: {', '.join(missing)}: not in the environment; .github/workflows/comment.yml"
            " sets them"
        )
    repository, owner, branch, sha, conclusion, run_url = (os.environ[name] for name in names)
    number = pull_request(repository, owner, branch, sha)
    if number is None:
        print(f"comment: no open pull request ends with {sha}; nothing to say")
        return
    path = Path(sys.argv[1])
    figures = (
        path.read_text(encoding="utf-8", errors="replace")
        if path.is_file() and not path.is_symlink()
        else None
    )
    body = {"body": comment_text(figures, sha, conclusion, run_url)}
    earlier = earlier_comment(repository, number)
    if earlier is None:
        api(f"repos/{repository}/issues/{number}/comments", "POST", body)
    else:
        api(f"repos/{repository}/issues/comments/{earlier}", "PATCH", body)
    print(
        f"comment: {'posted' if earlier is None else 'brought up to date'} under pull request"
        f" {number}"
    )


if __name__ == "__main__":
    main()
