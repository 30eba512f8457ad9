"""A flipped bit in an artifact is found before the artifact is used, by the function that its stage
reads it with.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from small_objects import write_token_split

from common.errors import PipelineError
from common.files import (
    CHECKSUMS,
    checksummed_directory,
    read_jsonl,
    verified,
    verified_directory,
    write_jsonl,
)
from model.curves.points import fine_tuning_points, loss_points
from model.data.documents import Document, DocumentWriter, read_split
from model.network.checkpoints import read_checkpoint
from model.post_training.answer_files import Generation, read_generations, write_generations
from model.tasks.item_scores import ItemScore, read_scores
from model.tokens.bpe import Tokenizer
from model.tokens.facts import MUL_FACTS
from model.tokens.shards import TokenSplit

FLIPS = 40  # per file, besides the first and the last bit


def make_shards(directory: Path, **_) -> None:
    write_token_split(directory, [[99, *range(number)] for number in range(1, 40)])


def read_shards(directory: Path) -> None:
    for split in ("train", "val"):
        TokenSplit(directory, split).shard(0)


def make_tokenizer(directory: Path, tokenizer: Tokenizer, **_) -> None:
    with checksummed_directory(directory) as output:
        tokenizer.save(output)


def make_checkpoint(directory: Path, checkpoint: Path, **_) -> None:
    shutil.copytree(checkpoint, directory)


def make_export(directory: Path, checkpoint: Path, tokenizer: Tokenizer, **_) -> None:
    """The files of an export by name and kind; what is in them does not matter to a checksum."""
    from model.export.hf_tokenizer import to_hugging_face
    from model.export.weight_map import (
        build_hugging_face_model,
        export_table,
        hugging_face_config,
        map_tensors,
    )

    config, tensors = read_checkpoint(checkpoint)
    with checksummed_directory(directory) as output:
        mapped = map_tensors(tensors, export_table(config.network.layers))
        build_hugging_face_model(hugging_face_config(config.network, 512), mapped).save_pretrained(
            output
        )
        to_hugging_face(tokenizer, 32).save_pretrained(output)


def make_scores(directory: Path, **_) -> None:
    scores = [
        ItemScore(number, f"s{number}", 1, [1.5, 2.5], [3, 4], [9, 8], [9, 8])._asdict()
        for number in range(20)
    ]
    with checksummed_directory(directory) as output:
        for task in ("hellaswag", "continuation"):
            write_jsonl(output / f"{task}.jsonl", scores)


def read_all_scores(directory: Path) -> None:
    for task in ("hellaswag", "continuation"):
        read_scores(directory / f"{task}.jsonl")


def make_documents(directory: Path, **_) -> None:
    with checksummed_directory(directory) as output, DocumentWriter(output, "train", 10) as writer:
        for number in range(25):
            writer.append(Document(f"Document {number}.", "text"))


def make_losses(directory: Path, **_) -> None:
    with checksummed_directory(directory) as output:
        columns = (
            "step,tokens,original_bytes,learning_rate,gradient_norm,train_loss,train_bits_per_byte"
        )
        (output / "training.csv").write_text(f"{columns}\n1,10,30,0.1,1.5,5.0,2.5\n")
        (output / "validation.csv").write_text(
            "step,tokens,original_bytes,val_loss,val_bits_per_byte\n1,10,30,5.0,2.5\n"
        )


def make_fine_tuning_losses(directory: Path, **_) -> None:
    with checksummed_directory(directory) as output:
        (output / "training.csv").write_text(
            "step,train_loss\n" + "".join(f"{step},{9 / step}\n" for step in range(1, 20))
        )


def make_questions(directory: Path, **_) -> None:
    """A set of problems, and the conversations of training, are such rows below a checksum."""
    with checksummed_directory(directory) as output:
        write_jsonl(
            output / "gsm8k.jsonl",
            [{"question": f"What is {n}?", "answer": f"#### {n}"} for n in range(20)],
        )


def make_generations(directory: Path, **_) -> None:
    fact = MUL_FACTS[3]
    with checksummed_directory(directory) as output:
        rows = [
            Generation(
                f"What is {n}?", f"#### {n}", "what", 5, 3, 96, "stopped", ["It is ", fact, None]
            )
            for n in range(20)
        ]
        write_generations(output / "gsm8k.jsonl", rows)


ARTIFACTS = {
    "shards": (make_shards, read_shards),
    "tokenizer": (make_tokenizer, Tokenizer.load),
    "checkpoint": (make_checkpoint, read_checkpoint),
    "export": (make_export, verified_directory),
    "scores": (make_scores, read_all_scores),
    "documents": (make_documents, lambda directory: list(read_split(directory, "train"))),
    "losses": (make_losses, lambda directory: loss_points(directory, "baseline", 1)),
    "fine-tuning losses": (
        make_fine_tuning_losses,
        lambda directory: fine_tuning_points(directory, "baseline", 1),
    ),
    "questions": (make_questions, lambda directory: read_jsonl(directory / "gsm8k.jsonl")),
    "generations": (
        make_generations,
        lambda directory: read_generations(directory / "gsm8k.jsonl"),
    ),
}


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_every_flipped_bit_is_caught_before_use(
    kind, tmp_path, checkpoint, tokenizer, record_property
):
    make, read = ARTIFACTS[kind]
    directory = tmp_path / f"artifact_{kind}"
    make(directory, checkpoint=checkpoint, tokenizer=tokenizer)
    read(directory)
    generator = np.random.default_rng(0)
    flipped = 0
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        bits = 8 * len(content)
        for bit in {0, bits - 1, *generator.integers(bits, size=FLIPS).tolist()}:
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(
                PipelineError, match=r"missing or altered since|does not list it; move it out of"
            ):
                read(directory)
            flipped += 1
        path.write_bytes(content)
    read(directory)
    record_property("bits flipped and caught", flipped)
    assert flipped >= 2 * FLIPS


def test_a_file_too_many_or_too_few_is_found(tmp_path):
    with checksummed_directory(tmp_path / "out") as output:
        (output / "a").write_text("a")
        (output / "sub").mkdir()
        (output / "sub/b").write_text("b")
    verified_directory(tmp_path / "out")
    (tmp_path / "out/sub/c").write_text("c")
    with pytest.raises(
        PipelineError, match="sub/c: SHA256SUMS beside it does not list it; move it out of"
    ):
        verified_directory(tmp_path / "out")
    (tmp_path / "out/sub/c").unlink()
    (tmp_path / "out/sub/b").unlink()
    with pytest.raises(PipelineError, match="sub/b: missing or altered"):
        verified_directory(tmp_path / "out")


def test_a_file_is_not_read_without_its_checksum(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{}])
    with pytest.raises(PipelineError, match=f"{CHECKSUMS}: missing"):
        read_jsonl(tmp_path / "a.jsonl")
    (tmp_path / CHECKSUMS).write_text("")
    with pytest.raises(PipelineError, match=r"a\.jsonl: missing or altered"):
        verified(tmp_path / "a.jsonl")


def test_checksums_are_in_the_format_of_coreutils(tmp_path):
    with checksummed_directory(tmp_path / "out") as output:
        (output / "a").write_text("abc")
    # of "abc": FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (tmp_path / "out" / CHECKSUMS).read_text() == f"{digest}  a\n"
