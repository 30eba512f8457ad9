"""python -m tools.score from outside: its results, and a line for whatever is wrong."""

import re
import subprocess
import sys

import pytest
from gpt2_directories import real_items
from repository import REPOSITORY
from scored_models import own_gpt2, score_command, trained_gpt2  # noqa: F401
from tricky_items import ITEMS

from common.files import write_checksums

pytestmark = pytest.mark.slow("each run of the command imports torch and transformers", minutes=1)


def test_two_processes_write_the_bytes_of_one(trained_gpt2, tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text("".join(item.model_dump_json() + "\n" for item in real_items(25)))
    arguments = (trained_gpt2, "--items", items, "--threads", "1", "--output")
    one = score_command(*arguments, tmp_path / "one")
    two = score_command(*arguments, tmp_path / "two", processes=2)
    assert one == two
    assert "lm_eval acc_norm 0." in one
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["evaluation.json", "lm_eval.jsonl", "reference.jsonl"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_model_that_cannot_be_had_is_one_line(tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text(ITEMS[0].model_dump_json())
    assert score_command("no/such-model", "--items", items).startswith(
        "error: no/such-model: no directory, and the Hugging Face hub"
    )
    assert score_command(tmp_path, "--items", tmp_path / "none").startswith(
        f"error: {tmp_path}/none: no items to be read"
    )
    assert score_command(tmp_path, "--items", items, "--count", "2").startswith(
        "error: --count: 2, where"
    )
    assert score_command(tmp_path, "--items", items).startswith(
        f"error: {tmp_path}: no config.json"
    )
    assert (
        score_command(tmp_path / "none", "--items", items)
        == f"error: {tmp_path}/none: no such directory\n"
    )
    assert "argument --threads: '0' is no whole number of at least 1" in score_command(
        tmp_path, "--threads", "0"
    )
    assert score_command(tmp_path, "--items", items, "--output", items).startswith(
        f"error: --output: {items} cannot be made"
    )
    for content, problem in (("", "no items to be read"), ("3\n", "record 0: is no JSON object")):
        items.write_text(content)
        assert score_command(tmp_path, "--items", items).startswith(f"error: {items}: {problem}")


def test_a_reader_that_stops_early_gives_no_traceback(trained_gpt2, tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text("".join(item.model_dump_json() + "\n" for item in ITEMS[:8]))
    command = (
        f"{sys.executable} -u -m tools.score {trained_gpt2} --items {items} | head -n 1; echo"
        " ${PIPESTATUS[0]}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, text=True, capture_output=True)
    assert re.fullmatch(r"reference acc .*\n(0|141)\n", done.stdout)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    command = (
        f"{sys.executable} -m tools.score {trained_gpt2} --items {items} | true; echo"
        " ${PIPESTATUS[0]}"
    )
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, text=True, capture_output=True)
    assert done.stdout in ("0\n", "141\n"), "it may have written all before its reader was gone"
    assert "BrokenPipe" not in done.stderr


def test_an_export_altered_since_it_was_written_is_not_scored(own_gpt2, tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text(ITEMS[0].model_dump_json())
    write_checksums(own_gpt2)
    assert "reference acc " in score_command(own_gpt2, "--items", items)
    weights = bytearray((own_gpt2 / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (own_gpt2 / "model.safetensors").write_bytes(weights)
    assert "model.safetensors: missing or altered since it was written" in score_command(
        own_gpt2, "--items", items
    )
