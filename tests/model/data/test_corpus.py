import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from corpus_sample import ITEM, passages, write_shards
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PipelineError
from common.files import json_bytes, read_jsonl, write_checksums, write_jsonl
from model.data.contamination import Benchmark, _words
from model.data.corpus_shards import (
    count_groups,
    gather,
    place_of,
    plan_shards,
    regroup,
    scatter,
    shards_per_group,
)
from model.data.documents import (
    Document,
    DocumentWriter,
    PassagesIndex,
    document_shards,
    read_split,
)
from model.data.items import Item
from model.params.corpus import CorpusParams
from model.params.source_names import DRILL_SOURCE
from stages import corpus

PARAMS = CorpusParams(
    val_fraction=0.2,
    drill_fraction=0.1,
    drill_seed=0,
    shuffle_seed=0,
    contamination_words=8,
    characters_per_shard=20_000,
    target_tokens=None,
)
NOTHING = Benchmark([], 8)


def changed(**values) -> CorpusParams:
    return PARAMS.model_copy(update=values)


def make_corpus(
    directory: Path, raw: list[list[Document]], params: CorpusParams, benchmark: Benchmark = NOTHING
):
    """Return the documents of both splits in order, and what became of the passages."""
    paths = write_shards(directory, raw)
    shards = plan_shards(sum(len(text) for documents in raw for text, _ in documents), params)
    spills = [directory / f"spill_{number}" for number in range(len(paths))]
    for path, spill in zip(paths, spills, strict=True):
        scatter(path, shards, params, spill)
    groups = [directory / f"group_{number}" for number in range(count_groups(len(shards)))]
    for group, path in enumerate(groups):
        regroup(spills, len(shards), group, path)
    splits: dict[str, list[Document]] = {"train": [], "val": []}
    counts: Counter = Counter()
    for index, shard in enumerate(shards):
        spill = groups[index // shards_per_group(len(shards))]
        gathered = gather(spill, shards, index, params, benchmark)
        splits[shard.split] += gathered.documents
        counts.update(gathered.passages)
    return splits, counts


def natural(documents: list[Document]) -> list[Document]:
    return [document for document in documents if document.source != DRILL_SOURCE]


def test_exact_duplicates_are_dropped_across_shards_whatever_space_is_around_them(tmp_path):
    raw = [
        [Document("One text here", "b"), Document("Another", "a")],
        [Document("  One text here\n", "a")],
    ]
    splits, counts = make_corpus(tmp_path, raw, changed(drill_fraction=0.0, characters_per_shard=5))
    assert sorted(splits["train"] + splits["val"]) == [
        Document("Another", "a"),
        Document("One text here", "a"),
    ]
    assert counts == {"read": 3, "duplicate": 1, "contaminated": 0}


def test_passages_may_not_pass_for_drills(tmp_path):
    with pytest.raises(PipelineError, match="may not be named drills"):
        make_corpus(tmp_path, [[Document("One", DRILL_SOURCE)]], PARAMS)


def test_the_split_depends_on_the_text_alone():
    texts = [document.text for document in passages(2000)]
    in_val = {text for text in texts if place_of(text, PARAMS).split == "val"}
    assert 320 < len(in_val) < 480
    larger = changed(val_fraction=0.3, shuffle_seed=9, drill_seed=9)
    assert in_val < {text for text in texts if place_of(text, larger).split == "val"}, (
        "a larger split keeps the smaller"
    )


def test_documents_are_shuffled_by_the_seed_across_shards(tmp_path):
    documents = passages(1500)
    raw = [documents[:500], documents[500:1000], documents[1000:]]
    splits, _ = make_corpus(tmp_path / "a", raw, PARAMS)
    order = [documents.index(document) for document in natural(splits["train"])]
    tenths = [sum(order[start : start + 100]) / 100 for start in range(0, 1100, 100)]
    assert all(600 < mean < 900 for mean in tenths), "every stretch has documents from all over"
    again, _ = make_corpus(tmp_path / "b", raw, changed(shuffle_seed=1))
    assert sorted(natural(again["train"])) == sorted(natural(splits["train"]))
    assert natural(again["train"]) != natural(splits["train"])


def test_neither_order_nor_number_of_raw_shards_matters(tmp_path):
    documents = passages(400)
    splits, counts = make_corpus(tmp_path / "a", [documents[:100], documents[100:]], PARAMS)
    backwards = documents[::-1]
    again, counts_again = make_corpus(
        tmp_path / "b", [backwards[n : n + 70] for n in range(0, 400, 70)], PARAMS
    )
    assert (again, counts_again) == (splits, counts)


def test_the_size_of_shards_does_not_change_the_order_of_passages(tmp_path):
    splits, _ = make_corpus(tmp_path / "a", [passages(400)], PARAMS)
    coarse, _ = make_corpus(tmp_path / "b", [passages(400)], changed(characters_per_shard=10**9))
    assert {name: natural(split) for name, split in coarse.items()} == {
        name: natural(split) for name, split in splits.items()
    }


@pytest.mark.parametrize("shards", [2, 3, 5, 17, 100])
def test_every_number_of_shards_has_groups_of_about_its_root(shards):
    size, groups = shards_per_group(shards), count_groups(shards)
    assert (groups - 1) * size < shards <= groups * size
    assert abs(size - shards**0.5) < 1


def test_many_shards_do_not_need_a_batch_of_every_raw_shard(tmp_path):
    """With 100 raw shards and some 400 of the corpus, one level wrote and read 40,000 batches."""
    documents = passages(2000)
    raw = [documents[start : start + 20] for start in range(0, 2000, 20)]
    params = changed(characters_per_shard=len(documents[0].text) * 5)
    splits, counts = make_corpus(tmp_path, raw, params)
    assert counts["read"] == 2000
    whole = changed(characters_per_shard=10**9)
    coarse, _ = make_corpus(tmp_path / "coarse", [documents], whole)
    assert {name: natural(split) for name, split in splits.items()} == {
        name: natural(split) for name, split in coarse.items()
    }
    spills = [*tmp_path.glob("spill_*"), *tmp_path.glob("group_*")]
    batches = [pa.ipc.open_file(path.read_bytes()).num_record_batches for path in spills]
    assert len(spills) > 110
    assert sum(batches) < 3000


def test_what_is_dealt_in_many_rounds_arrives_whole(tmp_path, monkeypatch):
    splits, counts = make_corpus(tmp_path / "a", [passages(400)], PARAMS)
    monkeypatch.setattr("model.data.corpus_shards._CHARACTERS_IN_MEMORY", 1000)
    assert make_corpus(tmp_path / "b", [passages(400)], PARAMS) == (splits, counts)


def test_every_shard_has_drills_of_its_own_and_the_seed_decides_which(tmp_path):
    def drills(name: str, **values) -> list[str]:
        splits, _ = make_corpus(
            tmp_path / name, [passages(600)], changed(drill_fraction=0.5, **values)
        )
        return [text for text, source in splits["train"] + splits["val"] if source == DRILL_SOURCE]

    found = drills("a")
    assert len(set(found)) == len(found) > 100
    assert len(set(found) & set(drills("b", drill_seed=1))) < 0.1 * len(found)


def test_a_drill_that_comes_up_again_is_left_out(tmp_path, monkeypatch):
    texts = [
        "6 * 9 = 54.",
        "6 * 9 = 54.",
        "2 * 2 = 4.",
        *(f"{number} is a number." for number in range(1000)),
    ]
    monkeypatch.setattr("model.data.corpus_shards.generate_drills", lambda *_: iter(texts))
    splits, _ = make_corpus(tmp_path, [passages(100)], changed(characters_per_shard=10**9))
    assert Counter(text for text, _ in splits["train"])["6 * 9 = 54."] == 1


@pytest.mark.parametrize("characters_per_shard", [20_000, 10**9])
def test_drills_have_the_stated_share_in_both_splits_and_lie_between_the_passages(
    tmp_path, characters_per_shard
):
    splits, _ = make_corpus(
        tmp_path, [passages(2000)], changed(characters_per_shard=characters_per_shard)
    )
    for documents in splits.values():
        halves = documents[: len(documents) // 2], documents[len(documents) // 2 :]
        for part in (documents, *halves):
            drills = sum(len(text) for text, source in part if source == DRILL_SOURCE)
            assert drills / sum(len(text) for text, _ in part) == pytest.approx(
                0.1, abs=0.04 if part is not documents else 0.02
            )


@pytest.mark.parametrize(
    "text",
    [
        "Yesterday: a MAN is sitting on a roof, and then it rained.",
        "It says he starts pulling up the old shingles by hand.",
        "sitting on a roof and he waits for the rain",
    ],
)
def test_text_of_an_item_or_any_of_its_endings_is_contaminated(text, tmp_path):
    benchmark = Benchmark([(ITEM.ctx, ITEM.endings)], 8)
    assert benchmark.shares_text_with(text)
    splits, counts = make_corpus(
        tmp_path, [[Document(text, "a"), Document(f" {text}", "a")]], PARAMS, benchmark
    )
    assert counts == {"read": 2, "duplicate": 1, "contaminated": 1}
    assert not natural(splits["train"] + splits["val"])


def test_fewer_words_in_common_are_no_contamination():
    assert not Benchmark([(ITEM.ctx, ITEM.endings)], 8).shares_text_with(
        "A man is sitting on a chair, and he starts pulling up the old chair"
    )


@given(
    st.lists(
        st.sampled_from(_words(f"{ITEM.ctx} {ITEM.endings[0]} {ITEM.endings[3]} other words")),
        max_size=40,
    ),
    st.integers(4, 9),
)
def test_contamination_is_a_common_run_of_words(words, length):
    """The reference: every run of the text against every run of the item's texts."""
    texts = [
        _words(ITEM.ctx),
        *(_words(ITEM.ctx)[1 - length :] + _words(ending) for ending in ITEM.endings),
    ]
    known = {tuple(text[n : n + length]) for text in texts for n in range(len(text) - length + 1)}
    expected = any(tuple(words[n : n + length]) in known for n in range(len(words) - length + 1))
    assert (
        Benchmark([(ITEM.ctx, ITEM.endings)], length).shares_text_with(" ".join(words)) == expected
    )


PROBLEM = {
    "question": (
        "A bakery makes twelve trays of nine rolls before dawn. How many rolls are on the shelf at"
        " six?"
    ),
    "answer": "Twelve trays of nine are 12 * 9 = <<12*9=108>>108 rolls.\n#### 108",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw/tasks").mkdir(parents=True)
    (tmp_path / "data/raw/gsm8k").mkdir()
    write_jsonl(Path("data/raw/tasks/hellaswag.jsonl"), [ITEM.row()])
    write_jsonl(Path("data/raw/gsm8k/test.jsonl"), [PROBLEM])
    for name in ("tasks", "gsm8k"):
        write_checksums(Path("data/raw") / name)

    def run(documents: list[Document], **changes) -> Path:
        Path("params.yaml").write_text(
            yaml.safe_dump({"corpus": {**PARAMS.model_dump(), **changes}})
        )
        shutil.rmtree("data/raw/passages", ignore_errors=True)
        write_shards(
            Path("data/raw/passages"),
            [documents[: len(documents) // 2], documents[len(documents) // 2 :]],
        )
        corpus.main()
        return Path("data/corpus")

    return run


def test_no_text_of_a_task_of_ones_own_enters_the_corpus(project):
    """Whatever fetch.tasks has, with two endings or with options, whether it is asked or not."""
    words = [f"word{number}" for number in range(40)]
    two = Item(ind=0, ctx=" ".join(words[:7]), endings=["a b", "c d"], label=0, source_id="s")
    blank = Item(
        ind=1,
        ctx=" ".join(words[12:16]) + " ",
        options=["left", "right"],
        endings=[" ".join(words[20:24])] * 2,
        label=1,
        source_id="t",
    )
    write_jsonl(Path("data/raw/tasks/mine.jsonl"), [two.row(), blank.row()])
    write_checksums(Path("data/raw/tasks"))
    planted = (f"{two.ctx} c d", f"{blank.ctx}left {blank.endings[0]}")
    clean = (f"{two.ctx} e f", f"{blank.ctx}up {blank.endings[0]}")
    output = project(
        [*passages(300), *(Document(f"Then {text} now.", "text") for text in (*planted, *clean))]
    )
    texts = "\n".join(
        document.text for split in ("train", "val") for document in read_split(output, split)
    )
    assert not any(text in texts for text in planted)
    assert all(text in texts for text in clean)


def test_no_text_of_a_benchmark_enters_the_corpus(project):
    without = "Twelve trays of nine are 12 * 9 = 108 rolls."
    planted = (f"{ITEM.ctx} {ITEM.endings[0]}.", PROBLEM["question"], PROBLEM["answer"], without)
    output = project(
        [*passages(300), *(Document(f"Before. {text} After.", "text") for text in planted)]
    )
    texts = [document.text for split in ("train", "val") for document in read_split(output, split)]
    assert len(texts) > 300
    assert not any(text in document for text in planted for document in texts)
    assert json.loads((output / "index.json").read_text())["passages"]["contaminated"] == 4


def test_the_corpus_stage_gives_the_same_bytes_twice_and_leaves_nothing_beside_them(project):
    first = {path.name: path.read_bytes() for path in project(passages(700)).iterdir()}
    corpus.main()
    assert {path.name: path.read_bytes() for path in Path("data/corpus").iterdir()} == first
    assert len([name for name in first if name.startswith("train")]) > 1
    assert sorted(path.name for path in Path("data").iterdir()) == ["corpus", "raw"]


def test_a_passage_that_does_not_arrive_stops_the_stage(project):
    documents = passages(300)
    project(documents)
    Path("data/raw/passages/passages_00001.parquet").unlink()
    write_shards(Path("data/raw/passages"), [documents[:200]])
    index = PassagesIndex(characters={"text": 50_000}, documents={"text": 300})
    Path("data/raw/passages/index.json").write_bytes(json_bytes(index.model_dump()))
    write_checksums(Path("data/raw/passages"))
    with pytest.raises(PipelineError, match="200 of 300 passages arrived"):
        corpus.main()


def test_a_split_without_documents_stops_the_stage(project):
    with pytest.raises(PipelineError, match="split is empty"):
        project(passages(1), drill_fraction=0.0)
    assert not Path("data/corpus").exists()


def test_documents_survive_writing_in_shards(tmp_path):
    documents = passages(25)
    with DocumentWriter(
        tmp_path, "train", characters_per_shard=10 * len(documents[0].text)
    ) as writer:
        for document in documents:
            writer.append(document)
    write_checksums(tmp_path)
    assert len(document_shards(tmp_path, "train")) == 3
    assert list(read_split(tmp_path, "train")) == documents


def test_a_missing_or_damaged_shard_is_named(tmp_path):
    documents = passages(30)
    write_shards(tmp_path, [documents[:10], documents[10:20], documents[20:]])
    damaged = tmp_path / "passages_00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    write_checksums(tmp_path)
    with pytest.raises(PipelineError, match=r"passages_00002.*not readable as documents"):
        list(read_split(tmp_path, "passages"))
    (tmp_path / "passages_00001.parquet").unlink()
    with pytest.raises(PipelineError, match="no complete series"):
        document_shards(tmp_path, "passages")


def test_jsonl_keeps_every_character(tmp_path):
    rows = [{"text": "naïve \u2028 🎉\n"}, {"text": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_checksums(tmp_path)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
