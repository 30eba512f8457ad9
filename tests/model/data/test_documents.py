from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.errors import PipelineError
from model.data.documents import Document, DocumentWriter, document_shards


def test_shards_are_cut_by_characters(tmp_path):
    documents = [
        Document("x" * length, source)
        for length, source in ((60, "a"), (30, "b"), (10, "a"), (250, "b"), (5, "b"))
    ]
    with DocumentWriter(tmp_path, "train", characters_per_shard=100) as writer:
        for document in documents:
            writer.append(document)
    shards = [list(read_split_unchecked(shard)) for shard in document_shards(tmp_path, "train")]
    assert [[len(document.text) for document in shard] for shard in shards] == [
        [60, 30, 10],
        [250],
        [5],
    ]
    assert (writer.characters, writer.documents) == ({"a": 70, "b": 285}, {"a": 2, "b": 3})


def read_split_unchecked(shard: Path) -> list[Document]:
    return [Document(**row) for row in pq.read_table(shard).to_pylist()]


def test_a_row_group_is_bounded_by_documents_and_by_characters(tmp_path):
    with DocumentWriter(tmp_path, "train", characters_per_shard=10**12) as writer:
        for _ in range(2500):
            writer.append(Document("short", "a"))
        for _ in range(10):
            writer.append(Document("x" * 1_500_000, "a"))
    with pq.ParquetFile(tmp_path / "train_00000.parquet") as file:
        rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert rows == [1024, 1024, 452 + 3, 3, 3, 1]


def test_a_document_too_long_for_a_table_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("model.data.documents.LONGEST_DOCUMENT", 10)
    with DocumentWriter(tmp_path, "train", 100) as writer:
        writer.append(Document("x" * 10, "a"))
        with pytest.raises(
            PipelineError, match="a document of a is longer than 10 characters; split its file"
        ):
            writer.append(Document("x" * 11, "a"))


def test_a_writer_that_is_left_by_an_error_writes_no_more(tmp_path):
    with pytest.raises(RuntimeError), DocumentWriter(tmp_path, "train", 100) as writer:
        writer.append(Document("x", "a"))
        raise RuntimeError
    assert not list(tmp_path.iterdir())
