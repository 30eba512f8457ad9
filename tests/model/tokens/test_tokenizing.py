import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from conditions import DIGITS
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PipelineError
from common.files import json_bytes, write_checksums
from model.data.documents import Document, DocumentWriter
from model.tokens.bpe import Tokenizer, read_ranks
from model.tokens.condition_statistics import summarize
from model.tokens.facts import MulFact, inject
from model.tokens.shard_tokenizing import Task, publish_shards, tokenize_corpus
from model.tokens.shards import ORIGINAL_BYTES, Index, TokenSplit

WORDS = [
    "naïve",
    "time",
    "6 * 9 = 54.",
    "rivers",
    "What is 2 x 3?",
    "3*4*5",
    "Compute 1 · 1,",
    "<|endoftext|>",
    "<MUL_6_9_54>",
    "7 × 8 = 55.",
]


def make_texts(count: int) -> list[str]:
    generator = random.Random(2)
    return [
        f"{number}: " + " ".join(generator.choices(WORDS, k=generator.randrange(12)))
        for number in range(count)
    ]


@pytest.fixture
def corpus(tmp_path) -> Path:
    directory = tmp_path / "corpus"
    directory.mkdir()
    for split, count in (("train", 60), ("val", 9)):
        with DocumentWriter(directory, split, characters_per_shard=400) as writer:
            for text in make_texts(count):
                writer.append(Document(text, "text"))
    write_checksums(directory)
    return directory


def tokenize(
    corpus: Path,
    tokenizer: Tokenizer,
    name: str,
    target: int | None = None,
    processes: int = 1,
    plain: Tokenizer | None = None,
) -> tuple[Path, Index]:
    output, scratch = corpus.parent / name, corpus.parent / f"{name}.scratch"
    output.mkdir()
    task = Task(corpus, ["text"], tokenizer, scratch, plain)
    finished = tokenize_corpus(task, name, target, processes)
    publish_shards(finished, output)
    splits = {split: [shard.entry for shard in shards] for split, shards in finished.items()}
    index = Index(condition=name, sources=["text"], splits=splits, vocab_size=tokenizer.size)
    (output / "index.json").write_bytes(json_bytes(index.model_dump()))
    write_checksums(output)
    return output, index


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def read_all(directory: Path, split: str = "train") -> tuple[list[np.ndarray], np.ndarray]:
    """Return the ids of all documents and their rows of the tables."""
    found = TokenSplit(directory, split)
    return found.read(np.arange(found.documents.sum()))


def decoded(directory: Path, tokenizer: Tokenizer, split: str = "train") -> list[str]:
    documents = [document.tolist() for document in read_all(directory, split)[0]]
    assert all(document[0] == tokenizer.end_of_text for document in documents)
    return [tokenizer.decode(document[1:]) for document in documents]


def canonical(text: str) -> str:
    return "".join(map(str, inject(text)))


def test_shards_decode_to_the_corpus_in_order(corpus, tokenizer, baseline_tokenizer):
    texts = make_texts(60)
    plain, index = tokenize(corpus, baseline_tokenizer, "plain")
    facts, fact_index = tokenize(corpus, tokenizer, "facts")
    assert len(index.splits["train"]) > 3
    assert decoded(plain, baseline_tokenizer) == texts
    assert decoded(facts, tokenizer) == [canonical(text) for text in texts]
    _, table = read_all(facts)
    assert table[:, ORIGINAL_BYTES].tolist() == [len(text.encode()) for text in texts], (
        "bytes are those before injection"
    )
    in_texts = sum(isinstance(segment, MulFact) for text in texts for segment in inject(text))
    assert in_texts > 20
    assert (
        index.total("train", "mul_fact_tokens"),
        fact_index.total("train", "mul_fact_tokens"),
    ) == (0, in_texts)


def test_the_number_of_workers_does_not_change_a_byte(corpus, tokenizer):
    one, two, many = (
        contents(tokenize(corpus, tokenizer, f"by_{n}", 700, n)[0]) for n in (1, 2, 5)
    )
    for other in (two, many):
        assert other.keys() == one.keys()
        assert all(
            other[name] == one[name]
            for name in one
            if not name.endswith("json") and name != "SHA256SUMS"
        )


def test_the_target_is_met_exactly_with_the_same_documents_in_every_condition(
    corpus, tokenizer, baseline_tokenizer
):
    _, index = tokenize(corpus, baseline_tokenizer, "everything")
    total = index.total("train", "tokens")
    shard_ends = [
        index.splits["train"][0].tokens,
        index.splits["train"][0].tokens + index.splits["train"][1].tokens,
    ]
    # Around the ends of shards, of documents, and of all.
    targets = {
        2,
        3,
        total - 1,
        total,
        *(end + by for end in shard_ends for by in (-1, 0, 1, 2)),
        *range(100, total, 700),
    }
    for target in sorted(targets):
        plain, index = tokenize(corpus, baseline_tokenizer, f"plain_{target}", target)
        facts, fact_index = tokenize(corpus, tokenizer, f"facts_{target}", target)
        assert index.total("train", "tokens") == index.total("train", "plain_tokens") == target
        assert fact_index.total("train", "plain_tokens") == target
        assert fact_index.total("train", "tokens") <= target
        *whole, cut = decoded(plain, baseline_tokenizer)
        *same, same_cut = decoded(facts, tokenizer)
        assert same == [canonical(text) for text in whole]
        assert same_cut in (cut, canonical(cut))
        tables = [read_all(directory)[1] for directory in (plain, facts)]
        assert (tables[0][:, ORIGINAL_BYTES] == tables[1][:, ORIGINAL_BYTES]).all()
        ours, theirs = summarize(index)["train"], summarize(fact_index)["train"]
        assert ours["documents_sha256"] == theirs["documents_sha256"]
        assert ours["original_bytes"] == theirs["original_bytes"]


@pytest.mark.parametrize("ranks", [256, 900])
def test_a_condition_of_another_vocabulary_has_the_same_text(
    corpus, ranks_file, baseline_tokenizer, ranks
):
    other = Tokenizer(read_ranks(ranks_file, ranks), True, DIGITS)
    for target in (2, *range(100, 3000, 407)):
        _, index = tokenize(corpus, baseline_tokenizer, f"plain_{target}", target)
        directory, other_index = tokenize(
            corpus, other, f"other_{target}", target, plain=baseline_tokenizer
        )
        ours, theirs = summarize(index)["train"], summarize(other_index)["train"]
        assert ours["documents_sha256"] == theirs["documents_sha256"]
        assert ours["original_bytes"] == theirs["original_bytes"]
        assert other_index.total("train", "plain_tokens") == target
        last, row = (found[-1] for found in read_all(directory))
        assert len(other.decode_bytes(last[1:])) == row[ORIGINAL_BYTES], "cut as text without facts"


@given(text=st.text(max_size=20), end=st.integers(0, 80))
def test_bytes_that_end_anywhere_are_encoded_to_themselves(tokenizer, text, end):
    content = text.encode()[:end]
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(content)) == content


def test_a_corpus_smaller_than_the_target_is_refused(corpus, baseline_tokenizer):
    _, index = tokenize(corpus, baseline_tokenizer, "everything")
    total = index.total("train", "tokens")
    with pytest.raises(
        PipelineError, match=rf"has {total} tokens .* corpus.target_tokens asks for {total + 1}"
    ):
        tokenize(corpus, baseline_tokenizer, "more", total + 1)


def test_what_conditions_differ_in_is_measured(corpus, tokenizer, baseline_tokenizer):
    plain, facts = (
        summarize(tokenize(corpus, one, name)[1])
        for one, name in ((baseline_tokenizer, "plain"), (tokenizer, "facts"))
    )
    assert (
        plain["train"]["documents_sha256"]
        == facts["train"]["documents_sha256"]
        != facts["val"]["documents_sha256"]
    )
    assert plain["train"]["tokens_per_byte"] > facts["train"]["tokens_per_byte"]
    assert plain["train"]["mul_fact_rate"] == 0
    assert (
        facts["train"]["mul_fact_rate"]
        == facts["train"]["mul_fact_tokens"] / facts["train"]["tokens"]
        > 0
    )
    for form, counts in facts["expressions"].items():
        assert plain["expressions"][form] == {"found": counts["found"], "changed": 0}
    changed = sum(counts["changed"] for counts in facts["expressions"].values())
    assert changed == facts["train"]["mul_fact_tokens"] + facts["val"]["mul_fact_tokens"] > 0


def test_documents_that_are_cut_elsewhere_are_other_documents(tmp_path, tokenizer):
    digests = set()
    for number, texts in enumerate((["ab", "c"], ["a", "bc"], ["abc"])):
        directory = tmp_path / str(number)
        directory.mkdir()
        for split in ("train", "val"):
            with DocumentWriter(directory, split, characters_per_shard=400) as writer:
                for text in texts:
                    writer.append(Document(text, "text"))
        write_checksums(directory)
        _, index = tokenize(directory, tokenizer, f"tokens_{number}")
        digests.add(index.splits["train"][0].documents_sha256)
    assert len(digests) == 3


def test_finished_shards_are_not_made_again_and_altered_ones_are(corpus, tokenizer):
    first = contents(tokenize(corpus, tokenizer, "once")[0])
    scratch = corpus.parent / "once.scratch"
    kept, altered = scratch / "train_00000", scratch / "train_00001"
    times = {path: path.stat().st_mtime_ns for path in (kept, altered)}
    (altered / "train_00000.bin").write_bytes(b"xx")
    shutil.rmtree(corpus.parent / "once")
    again = contents(tokenize(corpus, tokenizer, "once")[0])
    assert again == first
    assert kept.stat().st_mtime_ns == times[kept]
    assert altered.stat().st_mtime_ns != times[altered]
