import random
from collections import Counter
from pathlib import Path

import pytest
import yaml

from model.contamination import Benchmark
from model.corpus import is_validation, select_documents
from model.documents import Document, DocumentWriter, document_shards, read_documents, read_split
from model.errors import PipelineError
from model.files import read_jsonl, write_checksums, write_jsonl
from model.items import Item
from model.params.corpus import CorpusParams
from model.source_names import DRILL_SOURCE
from stages import corpus

PARAMS = CorpusParams(val_fraction=0.2, drill_fraction=0.1, drill_seed=0, contamination_words=8, documents_per_shard=50)
NOTHING = Benchmark([], 8)
ITEM = Item(
    ind=0,
    activity_label="Roofing",
    ctx_a="A man is sitting on a roof and he",
    ctx_b="",
    ctx="A man is sitting on a roof and he",
    endings=["starts pulling up the old shingles by hand", "sings", "falls", "waits for the rain"],
    label=0,
    source_id="roof",
)


def passages(count: int) -> list[Document]:
    generator = random.Random(1)
    words = ["time", "river", "stone", "light", "under", "grows", "quiet", "seven", "never", "house"]
    return [Document(f"{number} " + " ".join(generator.choices(words, k=40)), "text") for number in range(count)]


def test_exact_duplicates_are_dropped_whatever_space_is_around_them():
    documents = [Document("One text here", "a"), Document("  One text here\n", "b"), Document("Another", "a")]
    counts = Counter()
    kept = list(select_documents(documents, NOTHING, PARAMS.model_copy(update={"drill_fraction": 0.0}), counts))
    assert kept == [Document("One text here", "a"), Document("Another", "a")]
    assert counts == {"read": 3, "duplicate": 1, "contaminated": 0}


def test_passages_may_not_pass_for_drills():
    with pytest.raises(PipelineError, match="may not be named drills"):
        list(select_documents([Document("One", DRILL_SOURCE)], NOTHING, PARAMS, Counter()))


def test_the_split_depends_on_the_text_alone():
    documents = passages(2000)
    in_val = {document for document in documents if is_validation(document, 0.2)}
    assert in_val == {document for document in reversed(documents) if is_validation(document._replace(source="x"), 0.2)}
    assert 320 < len(in_val) < 480
    assert in_val < {document for document in documents if is_validation(document, 0.3)}, "a larger split keeps the smaller"


def test_drills_have_the_stated_share_in_both_splits():
    characters = {True: Counter(), False: Counter()}
    for document in select_documents(passages(4000), NOTHING, PARAMS, Counter()):
        characters[is_validation(document, 0.2)][document.source] += len(document.text)
    for split in characters.values():
        assert split[DRILL_SOURCE] / split.total() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    "text",
    [
        "Yesterday: a MAN is sitting on a roof, and then it rained.",
        "It says he starts pulling up the old shingles by hand.",
        "sitting on a roof and he waits for the rain",
    ],
)
def test_text_of_an_item_or_any_of_its_endings_is_contaminated(text):
    assert Benchmark([ITEM], 8).shares_text_with(text)


def test_fewer_words_in_common_are_no_contamination():
    assert not Benchmark([ITEM], 8).shares_text_with("A man is sitting on a chair, and he starts pulling up the old chair")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("passages", "hellaswag"):
        (tmp_path / "data/raw" / name).mkdir(parents=True)
    write_jsonl(Path("data/raw/hellaswag/items.jsonl"), [ITEM.model_dump()])
    write_checksums(Path("data/raw/hellaswag"))

    def run(documents: list[Document], **changes) -> Path:
        Path("params.yaml").write_text(yaml.safe_dump({"corpus": {**PARAMS.model_dump(), **changes}}))
        with DocumentWriter(Path("data/raw/passages"), "passages", 100) as writer:
            for document in documents:
                writer.append(document)
        write_checksums(Path("data/raw/passages"))
        corpus.main()
        return Path("data/corpus")

    return run


def test_no_hellaswag_text_enters_the_corpus(project):
    planted = Document(f"Before. {ITEM.ctx} {ITEM.endings[0]}. After.", "text")
    output = project([*passages(300), planted])
    texts = [document.text for split in ("train", "val") for document in read_split(output, split)]
    assert len(texts) > 300
    assert not any("starts pulling up the old shingles" in text for text in texts)


def test_the_corpus_stage_gives_the_same_bytes_twice(project):
    first = {path.name: path.read_bytes() for path in project(passages(300)).iterdir()}
    corpus.main()
    assert {path.name: path.read_bytes() for path in Path("data/corpus").iterdir()} == first
    assert len([name for name in first if name.startswith("train")]) > 1


def test_a_split_without_documents_stops_the_stage(project):
    with pytest.raises(PipelineError, match="split is empty"):
        project(passages(1), drill_fraction=0.0)
    assert not Path("data/corpus").exists()


def test_documents_survive_writing_in_shards(tmp_path):
    documents = passages(25)
    with DocumentWriter(tmp_path, "train", per_shard=10) as writer:
        for document in documents:
            writer.append(document)
    write_checksums(tmp_path)
    assert [len(list(read_documents(shard))) for shard in document_shards(tmp_path, "train")] == [10, 10, 5]
    assert list(read_split(tmp_path, "train")) == documents


def test_a_missing_or_damaged_shard_is_named(tmp_path):
    with DocumentWriter(tmp_path, "train", per_shard=10) as writer:
        for document in passages(30):
            writer.append(document)
    damaged = tmp_path / "train_00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    write_checksums(tmp_path)
    with pytest.raises(PipelineError, match=r"train_00002.*not readable as documents"):
        list(read_split(tmp_path, "train"))
    (tmp_path / "train_00001.parquet").unlink()
    with pytest.raises(PipelineError, match="no complete series"):
        document_shards(tmp_path, "train")


def test_jsonl_keeps_every_character(tmp_path):
    rows = [{"text": "naïve \u2028 🎉\n"}, {"text": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_checksums(tmp_path)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
