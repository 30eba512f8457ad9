"""English passages out of the records of the benchmarks that carry them.

BoolQ, LAMBADA, CoQA, SQuAD, DROP and SciQ each show a passage beside a question; only the passage is taken.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from model.documents import Document
from model.errors import PipelineError


def _squad_background(record: dict[str, Any]) -> str:
    _, _, rest = record["doc"]["query"].partition("\nBackground: ")
    background, marker, _ = rest.rpartition("\nQuestion: ")
    if not marker:
        raise ValueError("no Background … Question in query")
    return background


# A file's path inside the wheel tells its source by this part; the value takes the passage out of one record.
_EXTRACTORS: dict[str, Callable[[dict[str, Any]], str]] = {
    "boolq": lambda record: record["passage"],
    "sciq": lambda record: record["support"],
    "lambada": lambda record: f"{record['doc']['query']} {record['doc']['choices'][0]}",
    "coqa": lambda record: record["doc"]["story"],
    "squad": _squad_background,
    "drop": lambda record: record["doc"]["passage"],
}


def benchmark_passages(path: Path, records: Iterable[dict[str, Any]]) -> Iterator[Document]:
    """Yield the passages of one benchmark file; a record without its field is an error, an empty passage is not one."""
    source = next((part for part in path.parts if part in _EXTRACTORS), None)
    if source is None:
        raise PipelineError(f"{path}: none of {', '.join(_EXTRACTORS)} is in its path; no rule to take passages from it")
    for number, record in enumerate(records):
        try:
            text = _EXTRACTORS[source](record).strip()
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise PipelineError(f"{path}: record {number} has no {source} passage ({error!r})") from None
        if text:
            yield Document(text, source)


def text_records(name: str, records: Iterable[dict[str, Any]], source: str) -> Iterator[Document]:
    """Yield each record's `text` as a document of `source`; `name` is for the error message."""
    for number, record in enumerate(records):
        text = record.get("text")
        if not isinstance(text, str):
            raise PipelineError(f"{name}: record {number} has no string field `text`")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise PipelineError(f"{name}: record {number} has half a surrogate pair, which is no text; mend the file") from None
        if text and not text.isspace():
            yield Document(text, source)
