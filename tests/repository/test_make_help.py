"""`make help`: every target with a line, from the comment above it in the Makefile."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from makefile import MAKEFILE, PHONY
from repository import REPOSITORY

VERDICT = (
    "# Show which differences from another revision's figures are more than noise (REV=main).\n"
)


def make(folder: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"]
    }  # nothing of a terminal, nor of a make that runs the tests
    return subprocess.check_output(["make", *arguments], cwd=folder, text=True, env=environment)


def listed(text: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\S+) +(.*)$", text, flags=re.MULTILINE))


def with_makefile(folder: Path, text: str) -> Path:
    (folder / "Makefile").write_text(text)
    return folder


def test_every_target_has_a_line_and_every_line_a_target():
    lines = listed(make(REPOSITORY, "help"))
    assert sorted(lines) == sorted(PHONY)
    assert all(lines.values())


def test_make_alone_is_make_help_and_sets_nothing_up(tmp_path):
    alone = make(with_makefile(tmp_path, MAKEFILE))
    assert alone == make(REPOSITORY, "help")
    assert os.listdir(tmp_path) == ["Makefile"]
    assert "\033" not in alone, "no colours where there is no terminal"


def test_a_target_without_a_comment_has_no_line(tmp_path):
    assert MAKEFILE.count(VERDICT) == 1
    lines = listed(make(with_makefile(tmp_path, MAKEFILE.replace(VERDICT, ""))))
    assert sorted(lines) == sorted({*PHONY} - {"verdict"})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# Send it. Somewhere far.\npost:\n\t@true\n", "Send it"),
        (
            "# Send it: v1.2, to s3.\n# More of it.\nJOBS ?= 1\npost: help\n\t@true\n",
            "Send it: v1.2, to s3",
        ),
        ("# Not of post.\n\npost:\n\t@true\n", None),
        ("# Not of post.\nhidden=1\n\nother: help\n\t@true # not either\npost:\n\t@true\n", None),
    ],
    ids=[
        "its first sentence",
        "past other lines",
        "an empty line between",
        "another target between",
    ],
)
def test_a_comment_above_a_target_is_all_that_it_takes(tmp_path, text, line):
    lines = listed(make(with_makefile(tmp_path, f"{MAKEFILE}\n##@ Run\n\n{text}")))
    assert lines.get("post") == line
    titles = re.findall(r"^(\S.*)$", make(tmp_path), flags=re.MULTILINE)
    assert len(set(titles)) == len(titles), "a group that is begun again goes on"
