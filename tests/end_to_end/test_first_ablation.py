"""Follow docs/first_ablation.md to the letter in a clone of the repository: run its commands, make
its edits, compare what it shows with what is printed.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from committed_clone import committed_clone
from micro_graph import shell
from repository import REPOSITORY

from pipeline.check import check
from pipeline.declared.file_trees import WorkingTree

pytestmark = pytest.mark.slow(
    "six small networks go through the whole graph, then three", minutes=5
)

TEXT = (REPOSITORY / "docs/first_ablation.md").read_text()


class Block(NamedTuple):
    """A fenced block: a command (`sh`), an edit (`yaml`), or what was printed (no language)."""

    language: str
    text: str


BLOCKS = [
    Block(*found)
    for found in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
]


def with_edit(text: str, block: str) -> str:
    """Return the text of a params file in which the keys of `block` have its values.

    A key of the file is the one with the same name and the same indentation.
    """
    indent = re.match(" *", block)[0]
    for entry in re.findall(rf"^{indent}\w+:.*\n(?:{indent} +.*\n)*", block, flags=re.MULTILINE):
        key = entry.partition(":")[0]
        text, count = re.subn(
            rf"^{key}:.*\n(?:{indent} +.*\n)*", lambda _, e=entry: e, text, flags=re.MULTILINE
        )
        assert count == 1, f"params.yaml has {key!r} {count} times"
    return text


class Followed(NamedTuple):
    clone: Path
    # What each command block printed, by its text; a block that stands twice has its last output.
    said: dict[str, list[str]]
    # Each block of output with what the command before it printed.
    shown: list[tuple[str, str]]
    # What git and make check say on main, before the return to the branch.
    on_main: tuple[str, list[str]]


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Followed:
    clone = committed_clone(tmp_path_factory.mktemp("first_ablation") / "clone")
    for name in ("user.name", "user.email"):
        shell(["git", "config", name, "t@example.org"], clone)
    params, numbers, shown, last = clone / "params.yaml", {}, [], ""
    said: dict[str, list[str]] = {}
    on_main = ("not on main", [])
    for language, text in BLOCKS:
        if language == "sh":
            last = shell(["bash", "-ec", text], clone)
            said.setdefault(text, []).append(last)
            if counted := re.match(r"(\d+) passages.jsonl\n([0-9a-f]{64}) ", last):
                numbers = {"COUNT": counted[1], "SHA256": counted[2]}
            if "git switch main" in text:
                on_main = shell(["git", "status", "--short"], clone), check(WorkingTree(clone))
        elif language == "yaml":
            for name, number in numbers.items():
                text = text.replace(name, number)
            params.write_text(with_edit(params.read_text(), text))
        else:
            shown.append((text, last))
    return Followed(clone, said, shown, on_main)


def test_every_block_is_a_command_an_edit_or_an_output():
    assert {block.language for block in BLOCKS} == {"sh", "yaml", ""}
    assert [block.text for block in BLOCKS if block.text.startswith("make repro")] == []
    assert sum("make repro\n" in block.text for block in BLOCKS) == 2


VERDICT = r"new_rate (does not differ significantly|differs) from baseline"


def without_seconds(line: str) -> str:
    return re.sub(r", [\d.]+ s: ", ": ", line)


def without_numbers(line: str) -> str:
    line = re.sub(VERDICT, "VERDICT", without_seconds(line))
    return re.sub(r"[0-9a-f]{64}|[+-]?\d[\d.,]*", "#", line)


def test_the_page_shows_what_is_printed(followed):
    """To the digit if Python's manual is that of the page, since numerics are portable. Elsewhere
    in form.
    """
    counted, printed = followed.shown[0]
    same_text = counted == printed
    plain: Callable[[str], str] = without_seconds if same_text else without_numbers
    for shown, printed in followed.shown:
        lines = {plain(line) for line in printed.splitlines()}
        for line in shown.splitlines():
            if same_text or re.match(rf"{VERDICT}|done |\d+ passages", line):
                assert plain(line) in lines


def test_the_page_reads_its_verdicts_right():
    verdicts = [
        line
        for block in BLOCKS
        if not block.language
        for line in block.text.splitlines()
        if re.match(VERDICT, line)
    ]
    found, unknown = verdicts
    [difference, p] = re.search(r": ([+-][\d.]+) \(.*\), p ([\d.]+),", found).groups()
    assert found.startswith("new_rate differs from baseline")
    assert f"- **{difference}** is the difference, new_rate minus baseline. It is positive" in TEXT
    assert float(difference) > 0
    assert float(p) < 0.05
    assert unknown.startswith("new_rate does not differ significantly from baseline")


def test_the_second_question_reruns_its_own_condition_alone(followed):
    [[impact, repro]] = [
        (text, said[-1]) for text, said in followed.said.items() if "make impact" in text
    ]
    assert "make repro" in impact
    started = set(re.findall(r"^start +(\S+)$", repro, flags=re.MULTILINE))
    assert {name for name in started if name.startswith("pretrain@")} == {
        f"pretrain@new_rate-{seed}" for seed in (1, 2, 3)
    }
    assert {name for name in started if "baseline" in name or "tokenize" in name} == set()
    listed = repro.split("until then")[0]
    assert "  pretrain@new_rate-1, pretrain@new_rate-2, pretrain@new_rate-3: " in listed
    assert "tokenize" not in listed


def test_main_is_as_it_was_and_the_branch_comes_back_whole(followed):
    assert followed.on_main == ("", [])
    assert shell(["git", "branch", "--show-current"], followed.clone) == "my-ablation\n"
    assert (followed.clone / "exports/new_rate/seed_1/step_200/model.safetensors").is_file()
    assert check(WorkingTree(followed.clone)) == []
    assert "up to date" in shell(["dvc", "status"], followed.clone)
