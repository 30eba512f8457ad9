"""Make the corpus: distinct, decontaminated, shuffled English passages with arithmetic drills.

Reads data/raw/passages, data/raw/tasks and data/raw/gsm8k. Writes data/corpus: train_*.parquet,
val_*.parquet, index.json; a document's split depends on its content. Costs seconds in the demo. At
full size 45 GB of text go through all cores at about 3.5 MB/s each (benchmarks/memory.py; most of
it is the contamination check), and need 50 GB of disk meanwhile. A run after a kill continues with
the shards that were not finished.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from common.errors import PipelineError, run_stage
from common.files import (
    checksummed_directory,
    json_bytes,
    read_jsonl,
    verified,
    verified_directory,
    write_json,
)
from common.sections import read_json, read_section
from model.data.contamination import Benchmark
from model.data.corpus_shards import (
    SPLITS,
    Shard,
    count_groups,
    gather,
    plan_shards,
    regroup,
    scatter,
    shards_per_group,
)
from model.data.documents import CorpusIndex, PassagesIndex, document_shards, shard_path
from model.data.gsm8k_text import evaluated_texts
from model.data.items import read_stored_items
from model.params.corpus import CorpusParams
from model.runtime.resumable import piece, publish, scratch_directory
from model.runtime.worker_pool import in_order

PASSAGES = Path("data/raw/passages")
TASKS = Path("data/raw/tasks")
GSM8K = Path("data/raw/gsm8k/test.jsonl")
OUTPUT = Path("data/corpus")
SPILL = "spill.arrow"
TOTALS = "totals.json"


class Task(NamedTuple):
    """What every worker needs: raw shards, corpus shards, and the folder of finished pieces."""

    passages: list[Path]
    shards: list[Shard]
    params: CorpusParams
    benchmark: Benchmark
    scratch: Path


def main() -> None:
    params = read_section("corpus", CorpusParams)
    passages = read_json(verified(PASSAGES / "index.json"), PassagesIndex)
    documents, characters = passages.total()
    shards = plan_shards(characters, params)
    # All texts that evaluation scores: the corpus must not have them.
    asked = [
        texts
        for path in sorted(verified_directory(TASKS).glob("*.jsonl"))
        for item in read_stored_items(path)
        for texts in item.texts()
    ]
    benchmark = Benchmark([*asked, *evaluated_texts(read_jsonl(GSM8K))], params.contamination_words)
    with scratch_directory(OUTPUT) as scratch:
        task = Task(document_shards(PASSAGES, "passages"), shards, params, benchmark, scratch)
        # Each phase needs all results of the one before, so it is run to its end.
        for _ in _in_phase("scatter", scatter_shard, task, len(task.passages)):
            pass
        for _ in _in_phase("regroup", regroup_group, task, count_groups(len(shards))):
            pass
        pieces = list(_in_phase("gather", gather_shard, task, len(shards)))
        with checksummed_directory(OUTPUT) as output:
            index = put_together(pieces, shards, output, params.shuffle_seed)
            require_whole(index, documents)
            write_json(output / "index.json", index.model_dump())
    kept = {split: sum(index.documents[split].values()) for split in SPLITS}
    print(
        f"corpus: {index.passages['read']} passages read, {index.passages['duplicate']} duplicate"
        f" and {index.passages['contaminated']} contaminated dropped; {kept['train']} training and"
        f" {kept['val']} validation documents"
    )


def _scattered(number: int) -> str:
    return f"scattered_{number:05d}"


def _regrouped(group: int) -> str:
    return f"regrouped_{group:05d}"


def _spill(task: Task, name: str) -> Path:
    """Return the spill of a finished piece.

    Raises PipelineError if it is missing: in a share (common/share.py) that was started too early.
    """
    path = task.scratch / name / SPILL
    if not path.exists():
        raise PipelineError(
            f"corpus: {name} is missing; run the phases scatter, regroup and gather in this order, "
            "each after all shares of the one before"
        )
    return path


def scatter_shard(task: Task, number: int) -> Path:
    """Return the piece with raw shard `number`, distributed over groups."""

    def make(directory: Path) -> None:
        scatter(task.passages[number], task.shards, task.params, directory / SPILL)

    return piece(task.scratch, _scattered(number), make)


def regroup_group(task: Task, group: int) -> Path:
    """Return the piece with group `group`, distributed over its shards."""

    def make(directory: Path) -> None:
        spills = (_spill(task, _scattered(n)) for n in range(len(task.passages)))
        regroup(spills, len(task.shards), group, directory / SPILL)

    return piece(task.scratch, _regrouped(group), make)


def gather_shard(task: Task, index: int) -> Path:
    """Return the piece with shard `index` of the corpus, and its counts in totals.json."""

    def make(directory: Path) -> None:
        spill = _spill(task, _regrouped(index // shards_per_group(len(task.shards))))
        gathered = gather(spill, task.shards, index, task.params, task.benchmark)
        (directory / TOTALS).write_bytes(json_bytes(gathered.write(directory)))

    return piece(task.scratch, f"gathered_{index:05d}", make)


def put_together(
    pieces: list[Path], shards: list[Shard], output: Path, shuffle_seed: int
) -> CorpusIndex:
    """Put the finished shards into `output`; return the corpus's index.

    Shards without a document are left out, so the numbers of the others are continuous.
    """
    totals: dict[str, dict[str, Counter[str]]] = {
        key: {split: Counter() for split in SPLITS} for key in ("characters", "documents")
    }
    passages: Counter[str] = Counter()
    written: Counter[str] = Counter()
    for directory, shard in zip(pieces, shards, strict=True):
        found = json.loads((directory / TOTALS).read_bytes())
        passages.update(found["passages"])
        for key, splits in totals.items():
            splits[shard.split].update(found[key])
        if found["documents"]:
            target = shard_path(output, shard.split, written[shard.split])
            publish(shard_path(directory, "documents", 0), target)
            written[shard.split] += 1
    return CorpusIndex(
        **{
            key: {split: dict(counter) for split, counter in splits.items()}
            for key, splits in totals.items()
        },
        passages=dict(passages),
        shuffle_seed=shuffle_seed,
    )


def require_whole(index: CorpusIndex, passages: int) -> None:
    """Raise PipelineError unless all passages were read and both splits have documents."""
    if index.passages["read"] != passages:
        raise PipelineError(
            f"corpus: {index.passages['read']} of {passages} passages arrived; this is a fault of"
            " model/data/corpus_shards.py"
        )
    for split in SPLITS:
        if not index.documents[split]:
            raise PipelineError(
                f"corpus: the {split} split is empty; change corpus.val_fraction or fetch more text"
            )


def _in_phase(
    phase: str, work: Callable[[Task, int], Path], task: Task, count: int
) -> Iterator[Path]:
    """Yield the pieces of a phase in order, under a progress bar."""
    bar = partial(tqdm, desc=f"corpus: {phase}", unit="shard", disable=None)
    return in_order(
        work,
        task,
        range(count),
        phase=phase,
        shown=lambda results, total: bar(results, total=total),
    )


if __name__ == "__main__":
    run_stage(main)
