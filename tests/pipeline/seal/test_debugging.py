"""docs/architecture.md, "Debug a stage": breakpoints under the seal, and the table of errors."""

import ast
import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from repository import REPOSITORY
from sealed_project import STAGE, USE_DEPS, WANTED, project  # noqa: F401

from pipeline.seal import fault_messages

pytestmark = pytest.mark.slow("each test starts a sealed process", minutes=0.2)

SECTION = (
    (REPOSITORY / "docs/architecture.md")
    .read_text()
    .split("\n## Debug a stage\n")[1]
    .split("\n## ")[0]
)


def debug(project: Path, *typed: str, terminal: bool = False) -> tuple[int, str]:
    """Run a stage that stops at a breakpoint, with lines typed into pdb.

    Return the exit status, and what it printed on stdout and stderr.
    """
    body = 'seconds = 41\nbreakpoint()\nprint("seconds:", seconds + 1)'
    (project / "stages/probe.py").write_text(
        STAGE.format(wanted=f"{WANTED}; {USE_DEPS}", body=textwrap.indent(body, "    ").strip())
    )
    command = [sys.executable, "-m", "stages.probe", "a"]
    text = "".join(f"{line}\n" for line in typed)
    if not terminal:
        done = subprocess.run(command, cwd=project, input=text, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=project, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, text.encode())
    said = b""
    # Linux raises an error when the last process has closed its end.
    while part := _read_or_nothing(ours):
        said += part
    os.close(ours)
    return process.wait(), said.decode()


def _read_or_nothing(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


@pytest.mark.parametrize("terminal", [False, True], ids=["a pipe", "a terminal"])
def test_a_breakpoint_stops_a_sealed_stage_and_continue_ends_it(project, terminal):
    typed = ("p seconds * 2", "where", "list", "continue")
    status, said = debug(project, *typed, terminal=terminal)
    assert status == 0, said
    assert "stages/probe.py" in said
    assert re.search(r"^(\(Pdb\) )?82\r?$", said, flags=re.MULTILINE)
    assert "pipeline/seal/start.py" in said, "the stage is sealed"
    assert "seconds: 42" in said


def test_what_is_typed_into_pdb_is_sealed_too(project):
    status, said = debug(project, 'open("data/secret.txt").read()', "continue")
    assert status == 1
    assert "SECRET" not in said
    assert "SealBroken" in said
    assert "seconds: 42" in said
    assert "error: seal: probe@a read data/secret.txt, which dvc.yaml does not list" in said


def test_quit_and_the_end_of_input_fail_the_stage(project):
    for typed in (["quit"], []):
        status, said = debug(project, *typed)
        assert status == 1
        assert "seconds: 42" not in said


def test_a_pdbrc_in_the_root_stops_the_stage(project):
    (project / ".pdbrc").write_text("continue\n")
    status, said = debug(project, "continue")
    assert status == 1
    assert "error: seal: probe@a read .pdbrc, which dvc.yaml does not list" in said


def test_an_edit_during_the_breakpoint_stops_the_stage(project):
    assert debug(project, "continue")[0] == 0
    stage = project / "stages/probe.py"
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.probe", "a"],
        cwd=project,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    assert "stages/probe.py" in first
    stage.write_text(stage.read_text().replace("    breakpoint()\n", ""))
    _, said = process.communicate("continue\n")
    assert process.returncode == 1
    assert "error: seal: probe@a ran while stages/probe.py changed" in said


def test_the_transcript_shows_lines_of_the_stage():
    shown = re.findall(r"^-> (.+)$", SECTION, flags=re.MULTILINE)
    lines = [line.strip() for line in (REPOSITORY / "stages/items.py").read_text().splitlines()]
    places = [lines.index(line) for line in shown]
    assert len(places) == 2
    # The breakpoint is a line above the first one, and lines count from 1.
    assert re.findall(r"^> stages/items\.py\((\d+)\)", SECTION, flags=re.MULTILINE) == [
        str(place + 2) for place in places
    ]


def _text(node: ast.expr, constants: dict[str, str]) -> str:
    """Return a message with `…` for each value that the code fills in."""
    if isinstance(node, ast.Name):
        return constants.get(node.id, "…")
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)


def messages(source: str) -> set[str]:
    """Return the messages of the seal in a module, without `error: seal: STAGE`."""
    tree = ast.parse(source)
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._break":
            found.add(_text(node.args[0], constants))
        elif isinstance(node, ast.JoinedStr):
            text = _text(node, constants)
            if text.startswith("error: seal: … "):
                found.add(text.removeprefix("error: seal: … "))
    return found


def unmatched(table: list[str], code: set[str]) -> list[str]:
    """Return the rows and messages that do not belong to exactly one of the other side."""
    pairs = [
        (row, text)
        for row in table
        for text in code
        if re.fullmatch(re.escape(text).replace("…", ".+"), row)
    ]
    rows, texts = [row for row, _ in pairs], [text for _, text in pairs]
    alone = [row for row in table if rows.count(row) != 1]
    return alone + sorted(text for text in code if texts.count(text) != 1)


def test_every_message_of_the_seal_has_its_row():
    sources = (REPOSITORY / "pipeline/seal").glob("*.py")
    code = set().union(*(messages(path.read_text()) for path in sources))
    table = SECTION.split("\n### What the seal's errors mean\n")[1]
    table = table.split("\n\n| the line ends with")[0]
    rows = re.findall(r"^\| `(.+?)`.* \| .+ \| .+ \|$", table, flags=re.MULTILINE)
    assert len(code) > 12
    assert unmatched(rows, code) == []


def test_every_fault_of_the_machine_has_its_row():
    ways = {*fault_messages._WAYS_ON.values(), *(way for _, _, way in fault_messages._SAID)}
    told = [fault_messages.fault_line(KeyboardInterrupt(), "probe")]
    told += [fault_messages.set_up_line(OSError("odd"), "probe")]
    ways |= {re.split(r"error: probe: (?:odd; )?", line)[1] for line in told}
    table = SECTION.split("\n| the line ends with | cause |\n")[1]
    rows = re.findall(r"^\| `… (.+?)` \| .+ \|$", table, flags=re.MULTILINE)
    assert sorted(rows) == sorted(ways)


def test_a_message_without_a_row_and_a_row_without_a_message_would_be_seen():
    source = '_GONE = "is gone"\ndef f(self, a):\n    self._break(f"read {a}, yes")\n'
    source += '    self._break(_GONE)\n    print(f"error: seal: {a} ended")\n'
    code = messages(source)
    assert code == {"read …, yes", "is gone", "ended"}
    assert unmatched(["read FILE, yes", "is gone", "ended"], code) == []
    assert unmatched(["read FILE, yes", "ended", "began"], code) == ["began", "is gone"]
