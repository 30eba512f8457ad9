"""The stage `samples` on a tiny export: what it keeps of each prompt, and what it refuses."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from gpt2_directories import save_gpt2

from common.errors import PipelineError
from common.files import write_checksums
from model.hugging_face.loading import load_hugging_face_model
from model.post_training.sample_files import FILE, read_samples
from model.tokens.facts import MUL_FACTS
from stages import samples

RUN = "mul_tokens/seed_3/step_5"
PROMPTS = ["", "6 × 9 =", "What is 6 × 9? It is", "A longer start of a text, which goes on"]


@pytest.fixture(scope="module")
def export(tmp_path_factory, tokenizer) -> Path:
    directory = tmp_path_factory.mktemp("export") / "step_5"
    write_checksums(save_gpt2(directory, tokenizer, layers=1, heads=1, width=16, context=64))
    return directory


@pytest.fixture
def project(tmp_path, monkeypatch, export) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["samples", "mul_tokens", "3", "5"])
    shutil.copytree(export, tmp_path / f"exports/{RUN}")
    return tmp_path


def run(prompts: list[str], new_tokens: int = 8) -> list[dict]:
    # Portable kernels would stay in the process for later tests.
    sections = {
        "numerics": {"kernels": "native", "threads": 1},
        "samples": {"prompts": prompts, "device": "cpu", "new_tokens": new_tokens},
    }
    Path("params.yaml").write_text(yaml.safe_dump(sections))
    samples.main()
    return [json.loads(line) for line in Path(f"samples/{RUN}/{FILE}").read_text().splitlines()]


def by_transformers(model, ids: list[int], new_tokens: int, end: int) -> list[int]:
    """Return what transformers' own loop makes of one prompt."""
    found = model.generate(
        torch.tensor([ids]), max_new_tokens=new_tokens, do_sample=False, pad_token_id=end
    )
    return found[0, len(ids) :].tolist()


def test_every_prompt_is_continued_as_alone_and_twice_to_the_same_bytes(project, tokenizer):
    found = run(PROMPTS)
    kept = Path(f"samples/{RUN}/{FILE}").read_bytes()
    assert [row["prompt"] for row in found] == PROMPTS
    model, end = load_hugging_face_model(project / f"exports/{RUN}"), tokenizer.end_of_text
    for row in found:
        ids = [end, *tokenizer.encode_document(row["prompt"]).tokens.tolist()]
        assert row["prompt_tokens"] == len(ids)
        answer = by_transformers(model, ids, 8, end)
        if end in answer:
            answer = answer[: answer.index(end)]
            assert row["ended"] == "stopped"
        else:
            assert (row["ended"], row["new_tokens"]) == ("cut", 8)
        assert row["new_tokens"] == len(answer)
    run(PROMPTS)
    assert Path(f"samples/{RUN}/{FILE}").read_bytes() == kept
    assert [sample.model_dump() for sample in read_samples(Path(f"samples/{RUN}"))] == found


def test_no_prompt_is_no_sample(project):
    assert run([]) == []
    assert read_samples(Path(f"samples/{RUN}")) == []


def test_a_prompt_without_room_is_named_with_the_way_out(project):
    with pytest.raises(PipelineError, match=r"^samples .*step_5: a prompt of .*lower new_tokens"):
        run(["word " * 60])
    assert not Path("samples").exists()


@pytest.mark.parametrize(
    "change", [{"ended": "tired"}, {"answer": [[0, 9]]}, {"answer": "text"}, {"prompt_tokens": 0}]
)
def test_a_row_that_is_no_sample_is_named(project, change):
    rows = run(["a", "b"])
    rows[1] |= change
    path = Path(f"samples/{RUN}/{FILE}")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_checksums(path.parent)
    with pytest.raises(PipelineError, match=r"samples\.jsonl: record 1 is no Sample"):
        read_samples(path.parent)


def test_fact_tokens_are_kept_as_numbers_and_other_ids_as_nothing():
    segments = [" is ", MUL_FACTS[-1], None]
    assert samples.written(segments) == [" is ", [9, 9], None]
