"""English passages from the records of benchmarks.

BoolQ, LAMBADA, CoQA, SQuAD, DROP and SciQ show a passage with each question. Only the passage is
used.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

from common.errors import PipelineError, printable
from model.data.documents import LONGEST_DOCUMENT, Document
from model.params.passage_names import BENCHMARKS, benchmark_of
from model.sources.text_streams import not_utf8_field

# Fields of a record that a message names.
_SHOWN = 10


def _squad_background(record: dict[str, Any]) -> str:
    """Return the passage, which a query has between lines `Background: …` and `Question: …`."""
    query: str = record["doc"]["query"]
    _, _, rest = query.partition("\nBackground: ")
    background, marker, _ = rest.rpartition("\nQuestion: ")
    if not marker:
        raise ValueError("no Background … Question in query")
    return background


# For each benchmark, the function that extracts the passage of a record.
_EXTRACTORS: dict[str, Callable[[dict[str, Any]], str]] = {
    "boolq": lambda record: record["passage"],
    "sciq": lambda record: record["support"],
    # LAMBADA's query lacks the passage's last word, which is the first choice.
    "lambada": lambda record: record["doc"]["query"] + " " + record["doc"]["choices"][0],
    "coqa": lambda record: record["doc"]["story"],
    "squad": _squad_background,
    "drop": lambda record: record["doc"]["passage"],
}


def benchmark_passages(path: PurePath, records: Iterable[dict[str, Any]]) -> Iterator[Document]:
    """Yield the passages of one benchmark file; its path in the wheel names the benchmark.

    A passage without text becomes an empty document. Raises PipelineError for an unknown benchmark
    and for a record without its passage.
    """
    source = benchmark_of(path)
    if source is None:
        raise PipelineError(
            f"{path}: none of {', '.join(BENCHMARKS)} is in its path; no rule to take passages "
            "from it"
        )
    for number, record in enumerate(records):
        try:
            text = _EXTRACTORS[source](record)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            fault = f"has no {source} passage ({printable(repr(error))})"
            raise PipelineError(f"{path}: record {number} {fault}") from None
        if not isinstance(text, str):
            fault = f"has no {source} passage (it is {_kind(text)}, not text)"
            raise PipelineError(f"{path}: record {number} {fault}")
        yield Document(text.strip(), source)


def text_records(name: str, records: Iterable[dict[str, Any]], source: str) -> Iterator[Document]:
    """Yield each record's `text` as a document of `source`, an empty one if it is blank.

    Messages call the file `name`. Raises PipelineError for a record whose `text` is missing, not a
    string, not UTF-8 or too long.
    """
    for number, record in enumerate(records):
        text = record.get("text")
        # Some writers of parquet store strings as plain bytes.
        if isinstance(text, bytes):
            text = _decoded(text, f"{name}: record {number}")
        if not isinstance(text, str):
            fields = ", ".join(printable(str(key)) for key in list(record)[:_SHOWN]) or "none"
            found = f"it is {_kind(text)}" if "text" in record else f"its fields are {fields}"
            fault = f"record {number} has no string field `text` ({found})"
            raise PipelineError(f"{name}: {fault}; correct the record or take it out")
        if len(text) > LONGEST_DOCUMENT:
            fault = f"record {number} is longer than {LONGEST_DOCUMENT} characters"
            raise PipelineError(f"{name}: {fault}; split it")
        yield Document("" if text.isspace() else text, source)


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise PipelineError(not_utf8_field(where, error)) from None


def _kind(value: Any) -> str:
    """Return JSON's word for the type of a value, for messages."""
    kinds: dict[type, str] = {
        type(None): "null",
        list: "a list",
        dict: "an object",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), f"of type {type(value).__name__}")
