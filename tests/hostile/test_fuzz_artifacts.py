"""Artifacts that somebody has changed, checksums and all: a reader takes them or says in a line
what is wrong.

FUZZ=20 makes twenty times as many examples, other ones each time.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from demo_charts import TASKS
from gpt2_directories import save_gpt2
from hypothesis import given
from hypothesis import strategies as st
from mutations import (
    ODD_TEXTS,
    VALUES,
    changed_bytes,
    changed_value,
    fuzz,
    reads_or_says_why,
    within,
)
from small_objects import checkpoint_config, random_gpt, save_checkpoint, write_token_split

from common.files import CHECKSUMS, read_jsonl, verified_directory, write_checksums, write_jsonl
from common.sections import read_json
from model.comparison.outcomes import Outcomes
from model.comparison.outcomes_file import Key, outcome_lines, parse_outcomes
from model.curves.points import evaluation_points, fine_tuning_points, loss_points
from model.data.documents import CorpusIndex, Document, DocumentWriter, PassagesIndex, read_split
from model.hugging_face.directory import read_hugging_face_directory
from model.network.checkpoints import load_model, read_checkpoint
from model.network.gpt import GPTConfig
from model.post_training.answer_files import Generation, read_generations, write_generations
from model.post_training.arithmetic_probes import Answer, read_answers
from model.post_training.sample_files import Sample, read_samples, write_samples
from model.tasks.item_scores import ItemScore, read_scores
from model.tokens.bpe import Tokenizer
from model.tokens.shards import TokenSplit
from tools.hf_import import read_gpt2


@pytest.fixture(autouse=True)
def bounded():
    with within(seconds=1200, gigabytes=3):
        yield


def make_shards(directory: Path, _) -> None:
    write_token_split(directory, [[99, *range(number)] for number in range(1, 20)])


def use_shards(directory: Path) -> None:
    for name in ("train", "val"):
        split = TokenSplit(directory, name)
        for number in range(len(split.documents)):
            split.shard(number)
        documents, table = split.read(np.arange(split.documents.sum()))
        for document, length in zip(documents, table[:, 0], strict=True):
            assert len(document) == length > 0
        assert table[:, 2].max(initial=0) < len(split.index.sources)


def make_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(directory)


def use_tokenizer(directory: Path) -> None:
    Tokenizer.load(directory).encode_document("any text: 6 × 9 = 54 é\0")


def make_checkpoint(directory: Path, tokenizer: Tokenizer) -> None:
    network = GPTConfig(layers=1, heads=2, width=8, context=8, vocab_size=tokenizer.size)
    save_checkpoint(directory, random_gpt(network), checkpoint_config(network))


def make_gpt2(directory: Path, tokenizer: Tokenizer) -> None:
    save_gpt2(directory, tokenizer, layers=1, heads=2, width=8, context=16)


def make_documents(directory: Path, _) -> None:
    with DocumentWriter(directory, "train", 200) as writer:
        for number in range(25):
            writer.append(Document(f"Document {number}.", "text"))
    index = CorpusIndex(
        characters={"train": {"text": 1}},
        documents={"train": {"text": 1}},
        passages={},
        shuffle_seed=0,
    )
    (directory / "index.json").write_text(index.model_dump_json())


def make_losses(directory: Path, _) -> None:
    columns = (
        "step,tokens,original_bytes,learning_rate,gradient_norm,train_loss,train_bits_per_byte"
    )
    (directory / "training.csv").write_text(
        f"{columns}\n1,10,30,0.1,1.5,5.0,2.5\n2,20,60,0.1,1.5,4.0,2.4\n"
    )
    (directory / "validation.csv").write_text(
        "step,tokens,original_bytes,val_loss,val_bits_per_byte\n1,10,30,5.0,2.5\n"
    )


def make_rows(directory: Path, _) -> None:
    write_jsonl(
        directory / "items.jsonl",
        [{"question": f"What is {n}?", "answer": f"#### {n}"} for n in range(5)],
    )


def make_scores(directory: Path, _) -> None:
    rows = [
        ItemScore(number, f"s{number}", 1, [1.5, 2.5], [3, 4], [9, 8], [9, 8])._asdict()
        for number in range(5)
    ]
    write_jsonl(directory / "items.jsonl", rows)


def make_answers(directory: Path, _) -> None:
    rows = [
        Answer(6, 9, "form", "seen", False, "6 × 9 =", 54, None, " 54")._asdict() for _ in range(5)
    ]
    write_jsonl(directory / "items.jsonl", rows)


def make_generations(directory: Path, _) -> None:
    rows = [
        Generation(f"What is {n}?", f"#### {n}", "what", 5, 3, 96, "stopped", ["It is ", None])
        for n in range(5)
    ]
    write_generations(directory / "items.jsonl", rows)


def make_samples(directory: Path, _) -> None:
    answer = ["It is ", [6, 9], None]
    sample = Sample(prompt="6 × 9 =", answer=answer, prompt_tokens=5, new_tokens=3, ended="cut")
    write_samples(directory, [sample] * 5)


ARTIFACTS: dict[str, tuple[Callable, Callable]] = {
    "shards": (make_shards, use_shards),
    "tokenizer": (make_tokenizer, use_tokenizer),
    "checkpoint": (make_checkpoint, lambda directory: load_model(*read_checkpoint(directory))),
    "export": (make_gpt2, read_hugging_face_directory),
    "another's GPT-2": (make_gpt2, read_gpt2),
    "documents": (make_documents, lambda directory: list(read_split(directory, "train"))),
    "corpus index": (
        make_documents,
        lambda directory: read_json(directory / "index.json", CorpusIndex).sources(),
    ),
    "losses": (make_losses, lambda directory: loss_points(directory, "baseline", 1)),
    "fine-tuning losses": (
        make_losses,
        lambda directory: fine_tuning_points(directory, "baseline", 1),
    ),
    "rows": (make_rows, lambda directory: read_jsonl(directory / "items.jsonl")),
    "scores": (make_scores, lambda directory: read_scores(directory / "items.jsonl")),
    "answers": (make_answers, lambda directory: read_answers(directory / "items.jsonl")),
    "generations": (
        make_generations,
        lambda directory: read_generations(directory / "items.jsonl"),
    ),
    "samples": (make_samples, read_samples),
}
EXAMPLES = {"export": 15, "another's GPT-2": 15}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tokenizer) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    for kind, (make, _) in ARTIFACTS.items():
        (root / kind).mkdir()
        make(root / kind, tokenizer)
        write_checksums(root / kind)
    return root


def damaged(data: st.DataObject, good: Path, directory: Path) -> None:
    """Make `directory` a copy of `good` with one file changed, and checksums that say so or are
    changed themselves.
    """
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(good, directory)
    path = directory / data.draw(st.sampled_from(sorted(path.name for path in good.iterdir())))
    content = path.read_bytes()
    ways = {".json": ["value"] * 4, ".jsonl": ["line"] * 4}.get(path.suffix, [])
    match data.draw(st.sampled_from(["bytes", "bytes", "missing", "empty", *ways])):
        case "bytes":
            # Headers decide how the rest is read.
            head = data.draw(st.sampled_from((200, 2000, len(content))))
            path.write_bytes(data.draw(changed_bytes(content[:head])) + content[head:])
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "value" if len(content) < 5000:
            path.write_text(json.dumps(data.draw(changed_value(json.loads(content)))))
        case "line":
            first, *rest = content.decode().splitlines(keepends=True)
            path.write_text(
                "".join([json.dumps(data.draw(changed_value(json.loads(first)))) + "\n", *rest])
            )
    if path.name != CHECKSUMS:
        write_checksums(directory)


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_a_changed_artifact_is_read_or_named(made, tmp_path, kind):
    _, use = ARTIFACTS[kind]
    use(made / kind)

    @fuzz(EXAMPLES.get(kind, 40))
    @given(data=st.data())
    def check(data) -> None:
        damaged(data, made / kind, tmp_path / kind)
        reads_or_says_why(lambda: use(tmp_path / kind), kind, lines=1000)

    check()


INTEGERS = "{'descr': '<i4', 'fortran_order': False, 'shape': "
HEADERS = (
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
    INTEGERS + "(10000000000, 3)}",
    INTEGERS + "(-1, 3)}",
    INTEGERS + "()}",
    INTEGERS + "(1, 3.5)}",
    "{'descr': '<i4', 'shape': (3,)}",
    "[" * 5000,
    "{'descr': (((",
    "'''",
    "\\\n",
    "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (3,)}",
    "{'descr': 'x9', 'fortran_order': False, 'shape': (3,)}",
)


@pytest.mark.parametrize(
    "header", HEADERS, ids=[f"header {number}" for number in range(len(HEADERS))]
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_table_with_an_odd_header_is_named(made, tmp_path, header, version):
    shutil.copytree(made / "shards", tmp_path / "artifact")
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    content = b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + b"\n" + bytes(12 * 19)
    (tmp_path / "artifact/train_00000.documents.npy").write_bytes(content)
    write_checksums(tmp_path / "artifact")
    assert not reads_or_says_why(
        lambda: TokenSplit(tmp_path / "artifact", "train").shard(0), "artifact"
    )


@pytest.mark.parametrize("change", ["longer", "shorter", "negative", "source", "index", "fraction"])
def test_a_table_that_does_not_fit_its_shard_is_named(made, tmp_path, change):
    directory = tmp_path / "artifact"
    shutil.copytree(made / "shards", directory)
    path = directory / "train_00000.documents.npy"
    table = np.load(path, allow_pickle=False)
    if change in ("longer", "shorter"):
        table[-1, 0] += 1 if change == "longer" else -1
    elif change == "negative":
        table[0, 0], table[1, 0] = -table[0, 0], table[1, 0] + 2 * table[0, 0]
    elif change == "source":
        table[3, 2] = 7
    elif change == "index":
        table = table[:-1]
    np.save(path, table.astype(float) if change == "fraction" else table, allow_pickle=False)
    write_checksums(directory)
    assert not reads_or_says_why(lambda: TokenSplit(directory, "train").shard(0), "train_00000")


SIZES = [("checkpoint", key) for key in ("layers", "width", "context", "vocab_size")] + [
    (kind, key)
    for kind in ("export", "another's GPT-2")
    for key in ("n_layer", "n_embd", "n_positions", "vocab_size", "n_inner")
]


@pytest.mark.parametrize(("kind", "key"), SIZES)
def test_a_network_of_any_size_that_is_not_its_tensors_costs_no_memory(made, tmp_path, kind, key):
    shutil.copytree(made / kind, tmp_path / kind)
    path = tmp_path / kind / "config.json"
    config = json.loads(path.read_text())
    part = config["network"] if kind == "checkpoint" else config
    assert key in part
    part[key] = 2**40
    path.write_text(json.dumps(config))
    write_checksums(tmp_path / kind)
    with within(seconds=20, gigabytes=2):
        assert not reads_or_says_why(lambda: ARTIFACTS[kind][1](tmp_path / kind), kind)


NO_CONFIGS = (
    "[]",
    "null",
    "1",
    '"gpt2"',
    "{}",
    '{"model_type": []}',
    '{"model_type": "gpt2", "n_layer": 1e400}',
)


@pytest.mark.parametrize("content", NO_CONFIGS)
@pytest.mark.parametrize("kind", ["export", "another's GPT-2"])
def test_a_config_that_is_no_gpt2s_is_one_line_without_talk_of_profiles(
    made, tmp_path, kind, content
):
    shutil.copytree(made / kind, tmp_path / "artifact")
    (tmp_path / "artifact/config.json").write_text(content)
    with pytest.raises(Exception, match=r"config\.json") as caught:
        ARTIFACTS[kind][1](tmp_path / "artifact")
    assert type(caught.value).__name__ == "PipelineError"
    assert "\n" not in str(caught.value)
    assert "profiles" not in str(caught.value)


def outcomes_text() -> str:
    answers = Outcomes(np.array([1.0, 0.0, 1.0]), np.ones(3), ["a", "a", "b"], "0" * 64, True)
    values = Outcomes(np.array([1.5, 0.25]), np.array([3.0, 4.0]), ["a", "b"], "1" * 64, False)
    return outcome_lines(
        {Key("baseline", 1, "step 5", "acc"): answers, Key("baseline", 1, "step 5", "bits"): values}
    )


@fuzz(150)
@given(data=st.data())
def test_changed_outcomes_are_read_or_named(data):
    lines = outcomes_text().splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    odd = st.sampled_from(("[" * 100_000, "[]", '"figure"', "1", "")) | VALUES.map(json.dumps)
    lines[place] = data.draw(changed_value(json.loads(lines[place])).map(json.dumps) | odd)

    def use() -> None:
        for key, outcomes in parse_outcomes("\n".join(lines), "outcomes.jsonl at main").items():
            assert isinstance(hash(key), int)
            assert [type(part) for part in key] == [str, int, str, str]
            assert np.isfinite(outcomes.values).all()
            assert np.isfinite(outcomes.weights).all()

    reads_or_says_why(use, "outcomes.jsonl at main")


@fuzz(60)
@given(data=st.data())
def test_odd_metrics_are_read_or_named(made, tmp_path_factory, data):
    path = made / "evaluation.json"
    rate = {"rate": 0.5, "interval_95": [0.4, 0.6], "total": 10, "correct": 5}
    metrics = {
        task.name: {"acc_norm": rate, "chance": 0.25, "gold_bits_per_byte": 2.5} for task in TASKS
    }
    path.write_text(json.dumps(data.draw(changed_value(metrics))))
    reads_or_says_why(
        lambda: evaluation_points(path, TASKS, "baseline", 1, (5, 10, 20)), "evaluation.json"
    )
    reads_or_says_why(lambda: read_json(path, PassagesIndex).total(), "evaluation.json", lines=9)


@pytest.mark.parametrize(
    "name",
    [name for name in ODD_TEXTS if "\n" not in name],
    ids=lambda name: ascii(name[:20]).strip("'"),
)
def test_checksums_of_a_file_that_lies_elsewhere_are_refused(tmp_path, name):
    directory = tmp_path / "artifact"
    directory.mkdir()
    (directory / "a").write_text("a")
    write_checksums(directory)
    with open(directory / CHECKSUMS, "a", encoding="utf-8", errors="surrogatepass") as file:
        file.write(f"{'0' * 64}  {name}\n")
    assert not reads_or_says_why(lambda: verified_directory(directory), str(directory))
