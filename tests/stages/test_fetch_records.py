"""What `fetch` makes of records: which it refuses, and which it leaves out and counts."""

import json
from pathlib import Path

from fetch_project import ITEM, OTHER, fails, pinned, project  # noqa: F401

from common.files import read_jsonl


def put(path: Path, *records: dict) -> dict:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return pinned(path)


def test_items_of_one_source_are_refused_before_anything_is_trained(project, tmp_path):
    """An interval resamples sources; `compare` would stop on one of them after all training."""
    items = [{**ITEM, "ctx": f"Cook {number}"} for number in range(20)]
    source = put(tmp_path / "one_source.jsonl", *items)
    fails(
        project,
        "hellaswag",
        r"fetch\.tasks\.hellaswag: 20 items of one source \('wikihow~1'\); .* at least two",
        source=source,
        count=20,
    )
    assert (
        len(
            read_jsonl(
                project("hellaswag", source=put(tmp_path / "two.jsonl", ITEM, OTHER), count=2)
                / "hellaswag.jsonl"
            )
        )
        == 2
    )


def test_items_that_repeat_anothers_text_are_counted(project, tmp_path, capsys):
    source = put(tmp_path / "items.jsonl", ITEM, {**ITEM, "source_id": "wikihow~2"}, OTHER)
    project("hellaswag", source=source, count=3)
    assert "3 items of hellaswag, 1 of which repeat another's text\n" in capsys.readouterr().out


def test_test_problems_are_held_to_one_answer_and_to_two_solutions(project, tmp_path):
    one = {"question": "How many?", "answer": "3 + 4 = 7\n#### 7"}
    bad = {"question": "How much?", "answer": "3 + 4 = 7\n#### $7"}
    fails(
        project,
        "gsm8k",
        r"a\.jsonl: record 1: answer: has ' \$7'",
        source=put(tmp_path / "a.jsonl", one, bad),
        count=2,
    )
    same = {**one, "question": "How many are they?"}
    fails(
        project,
        "gsm8k",
        "fetch.gsm8k: 2 questions with one solution",
        source=put(tmp_path / "b.jsonl", one, same),
        count=2,
    )


def test_chats_without_text_are_left_out_counted_and_recorded(project, tmp_path, capsys):
    def chat(answer: str) -> dict:
        return {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": answer},
            ]
        }

    mine = put(tmp_path / "mine.jsonl", chat("Hi."), chat("   "), chat("Ho."), chat("\u200b"))
    whole = put(tmp_path / "whole.jsonl", chat("Hi."))
    common = {"format": "chat"}
    output = project(
        "conversations",
        mine={"count": 4, "source": mine, **common},
        whole={"count": 1, "source": whole, **common},
    )
    printed = capsys.readouterr().out
    assert (
        printed
        == "fetch conversations: 3 conversations of 2 sources, 2 of mine left out without text\n"
    )
    assert json.loads((output / "left_out.json").read_text()) == {"mine": 2, "whole": 0}
    assert [row["messages"][1]["content"] for row in read_jsonl(output / "mine.jsonl")] == [
        "Hi.",
        "Ho.",
    ]
