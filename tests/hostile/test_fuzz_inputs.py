"""Whatever stands in params.yaml or in a file from outside, a reader takes it or says in a line
what is wrong with it.

FUZZ=20 makes twenty times as many examples, other ones each time.
"""

import gzip
import json
from pathlib import Path

import fetch_project
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
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
from repository import REPOSITORY

from common.errors import PipelineError
from common.sections import read_json, read_section, validate
from common.yaml_file import read_yaml
from model.data.items import read_items
from model.params.all_sections import Params, read_conditions
from model.sources import json_lines
from model.sources.benchmark_passages import text_records
from model.sources.conversation_records import FORMATS, read_questions
from model.sources.raw_inputs import ranks_from_vocabulary
from model.sources.record_readers import read_records
from model.sources.vocabulary_ranks import check_ranks
from model.tokens.bpe import Tokenizer, read_ranks

COMMITTED = (REPOSITORY / "params.yaml").read_bytes()
ITEM = {**fetch_project.ITEM, "label": "2"}
PROBLEM = {"question": "How many?", "answer": "6 × 9 = <<6*9=54>>54\n#### 54"}
CHAT = {
    "messages": [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "54"}]
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(autouse=True)
def bounded():
    with within(seconds=1200, gigabytes=3):
        yield


def read_params(path: Path) -> dict[str, Params]:
    return read_conditions(read_yaml(path), path)


@fuzz(60)
@given(content=changed_bytes(COMMITTED))
def test_damaged_params_are_read_or_named(folder, content):
    path = folder / "params.yaml"
    path.write_bytes(content)
    reads_or_says_why(lambda: read_params(path), "params.yaml", lines=1000)


@fuzz(60)
@given(document=changed_value(yaml.safe_load(COMMITTED)))
def test_params_with_other_values_are_read_or_each_fault_is_named(folder, document):
    reads_or_says_why(
        lambda: validate(document, Params, Path("params.yaml")), "params.yaml", lines=1000
    )


YAML_LINES = (
    "a: 0b_",
    "a: 0x_",
    "a: 2001-99-99",
    "a: 2001-01-01T99:00:00",
    "a: !!timestamp x",
    "a: !!int x",
    "a: !!float x",
    "a: !!bool x",
    "a: !!binary é",
    "a: !!python/object/apply:os.system [id]",
    "a: !!set {b}",
    "a: !!omap [b]",
    "? [a]\n: b",
    "? {a: b}\n: c",
    "a: &x [*x]",
    "<<: 1",
    "<<: [1]",
    "a: {<<: *none}",
    "%YAML 9.9\n---\na: b",
    "a: b\n---\nc: d",
    '"a\\nb": 1',
    '"\\ud800": 1',
    "1: 2",
    "a: " + "[" * 3000,
    "a: " + "9" * 5000,
    "a: 0x" + "f" * 5000,
    "a: 1e999999",
    "\t- a",
    "a: \0",
    "!!python/name:os.system",
    "- &a !!null",
    "=",
    "a: .nan",
)


@pytest.mark.parametrize("text", YAML_LINES, ids=lambda text: ascii(text[:24]).strip("'"))
def test_odd_yaml_is_read_or_named(folder, text):
    path = folder / "params.yaml"
    path.write_text(text)
    reads_or_says_why(lambda: read_params(path), "params.yaml", lines=1000)
    path.write_bytes(
        COMMITTED.replace(
            b"threads: null ", b"threads: null\n  odd:\n    - " + text.encode() + b"\n#"
        )
    )
    reads_or_says_why(lambda: read_params(path), "params.yaml", lines=1000)


@fuzz(40)
@given(document=st.dictionaries(st.text(max_size=6), VALUES, max_size=4) | VALUES)
def test_any_document_is_no_params(folder, document):
    path = folder / "params.yaml"
    try:
        path.write_text(yaml.safe_dump(document), encoding="utf-8", errors="surrogatepass")
    except (ValueError, yaml.YAMLError):
        path.write_text(repr(document), errors="replace")
    reads_or_says_why(lambda: read_section("fetch.conversations", dict, path), "params.yaml")
    assert not reads_or_says_why(lambda: read_params(path), "params.yaml", lines=1000)


NO_OBJECTS = {
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 200_000,
    "long number": b"9" * 5000,
    "no UTF-8": b"\xff",
    "empty": b"",
    "two": b"[] []",
    "list": b"[1]",
    "null": b"null",
    "nan": b"NaN",
}


@pytest.mark.parametrize("content", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_json_that_is_no_object_is_one_line(folder, content):
    path = folder / "config.json"
    path.write_bytes(content)
    assert not reads_or_says_why(lambda: read_json(path, dict), "config.json")


@fuzz(100)
@given(
    record=changed_value(ITEM)
    | st.builds(lambda text: {**ITEM, "label": text}, st.sampled_from(ODD_TEXTS))
)
def test_an_item_is_read_or_its_record_named(record):
    if isinstance(record, dict):
        reads_or_says_why(
            lambda: read_items(Path("items.jsonl"), [ITEM, record]), "items.jsonl: record 1"
        )


@fuzz(60)
@pytest.mark.parametrize(
    ("kind", "good"),
    [("gsm8k", PROBLEM), ("gsm8k", {"doc": PROBLEM}), ("chat", CHAT)],
    ids=["gsm8k", "gsm8k below doc", "chat"],
)
@given(data=st.data())
def test_a_conversation_is_read_or_its_record_named(kind, good, data):
    record = data.draw(changed_value(good))
    if isinstance(record, dict):
        reads_or_says_why(
            lambda: FORMATS[kind]("chats.jsonl", [good, record], "x"), "chats.jsonl", lines=100
        )
        if kind == "gsm8k":
            reads_or_says_why(lambda: read_questions("test.jsonl", [record]), "test.jsonl", lines=2)


def lines_of(records: list) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def files(folder: Path) -> dict[str, bytes]:
    """One valid file of every format, by name."""
    texts = [f"Document {number}: naïve text." for number in range(40)]
    table = pa.table(
        {
            "text": texts,
            "id": list(range(40)),
            "more": [{"when": [number, None]} for number in range(40)],
        }
    )
    pq.write_table(table, folder / "a.parquet", row_group_size=16)
    pq.write_table(table, folder / "b.parquet", compression="zstd", use_dictionary=False)
    for name, new in (("a.arrow", pa.ipc.new_stream), ("file.arrow", pa.ipc.new_file)):
        with new(folder / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=16)
    lines = lines_of([{"text": text} for text in texts])
    with pa.output_stream(str(folder / "a.jsonl.zst"), compression="zstd") as file:
        file.write(lines)
    found = {
        name: (folder / name).read_bytes()
        for name in ("a.parquet", "b.parquet", "a.arrow", "file.arrow", "a.jsonl.zst")
    }
    return {
        **found,
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines, mtime=0),
        "a.txt": texts[0].encode(),
    }


@pytest.fixture(scope="module")
def valid(folder) -> dict[str, bytes]:
    return files(folder)


@fuzz(60)
@pytest.mark.parametrize(
    "name",
    [
        "a.parquet",
        "b.parquet",
        "a.arrow",
        "file.arrow",
        "a.jsonl",
        "a.jsonl.gz",
        "a.jsonl.zst",
        "a.txt",
    ],
)
@given(data=st.data())
def test_a_damaged_file_is_read_or_named(folder, valid, name, data):
    path = folder / f"damaged_{name}"
    path.write_bytes(data.draw(changed_bytes(valid[name])))
    for columns in (["text"], None):

        def read(columns=columns):
            return list(text_records(path.name, read_records(path, columns), "x"))

        reads_or_says_why(read, path.name)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_a_line_without_end_is_not_kept_in_memory(folder, monkeypatch, suffix):
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 1000)
    lines = lines_of([{"text": "a" * 900}, {"text": "a" * 1000}])
    (folder / f"long.{suffix}").write_bytes(
        gzip.compress(lines) if suffix.endswith("gz") else lines
    )
    assert not reads_or_says_why(
        lambda: list(read_records(folder / f"long.{suffix}")), "record 1 is longer than 1000 bytes"
    )


@fuzz(60)
@given(
    records=st.lists(changed_value({"text": "a"}) | VALUES, max_size=3),
    end=st.sampled_from(("", "\n", "deep", '{"text":')),
)
def test_odd_json_lines_are_read_or_named(folder, records, end):
    end = "[" * 100_000 if end == "deep" else end
    path = folder / "odd.jsonl"
    path.write_bytes(lines_of(records) + end.encode())
    reads_or_says_why(lambda: list(text_records("odd.jsonl", read_records(path), "x")), "odd.jsonl")


@fuzz(60)
@given(vocabulary=changed_value({"a": 0, "b": 1, "Ġ": 2}))
def test_a_vocabulary_is_made_ranks_or_named(vocabulary):
    if isinstance(vocabulary, dict):
        reads_or_says_why(lambda: ranks_from_vocabulary(vocabulary), "vocab.json")


@fuzz(60)
@given(data=st.data())
def test_damaged_ranks_are_a_tokenizer_or_named(folder, ranks_file, data):
    content = b"".join(ranks_file.read_bytes().splitlines(keepends=True)[:300])
    path = folder / "ranks.tiktoken"
    path.write_bytes(data.draw(changed_bytes(content, most=2)))

    def use() -> None:
        Tokenizer(read_ranks(path), mul_facts=True).encode_text("any text \0 é × 54")

    reads_or_says_why(use, "ranks.tiktoken")
    # What fetch takes, tokenize can read; any change but one of the last line's end is a change of
    # the vocabulary.
    if reads_or_says_why(lambda: check_ranks(path.read_bytes(), path.name), "ranks.tiktoken"):
        use()


def test_a_reader_that_raises_something_else_is_seen():
    with pytest.raises(ZeroDivisionError):
        reads_or_says_why(lambda: 1 // 0, "x")

    def fail(message: str):
        raise PipelineError(message)

    for message in ("a file of two\nlines", "a file without its name", ""):
        with pytest.raises(AssertionError):
            reads_or_says_why(lambda: fail(message), "x.json")  # noqa: B023
