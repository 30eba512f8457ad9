"""Compare the speed of tokenizing: this repository, raw tiktoken and datasets.map, in alternation.

    python -m benchmarks.tokenizing
        both conditions, GPT-2's whole vocabulary; about five minutes
    python -m benchmarks.tokenizing --megabytes 100 --rounds 9

    ours          reads parquet; writes, hashes and syncs shards
    raw           tiktoken.Encoding.encode_ordinary_batch on texts in memory; as many threads as
                  we have workers; writes nothing
    datasets.map  a Hugging Face fast tokenizer of the same vocabulary; as many processes; writes
                  its Arrow file

The texts are passages of the demonstration's corpus, joined to the mean length of FineWeb-Edu's
documents (--characters 500 for short ones). Drills are among them in the demonstration's share. The
last lines have the medians, and the range of the rounds' ratios.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = "1"
REPOSITORY = Path(__file__).resolve().parents[1]
RANKS = REPOSITORY / "data/raw/ranks/gpt2.tiktoken"
CORPUS = REPOSITORY / "data/corpus"
CHARACTERS_PER_SHARD = 5_000_000


def make_texts(megabytes: float, characters: int) -> list[str]:
    """Return different texts of about `characters` each, `megabytes` in all."""
    from model.data.documents import read_split

    passages = [document.text for document in read_split(CORPUS, "train")]
    texts, size, place = [], 0, 0
    while size < megabytes * 1e6:
        parts, length = [], 0
        while length < characters:
            parts.append(passages[place % len(passages)])
            length += len(parts[-1])
            place += 1
        texts.append("\n\n".join([*parts, str(len(texts))]))
        size += len(texts[-1].encode())
    return texts


def write_corpus(directory: Path, texts: list[str]) -> None:
    from common.files import checksummed_directory
    from model.data.documents import Document, DocumentWriter

    with checksummed_directory(directory) as output:
        for split, documents in (("train", texts), ("val", texts[:1])):
            with DocumentWriter(output, split, CHARACTERS_PER_SHARD) as writer:
                for text in documents:
                    writer.append(Document(text, "text"))


def ours(corpus: Path, tokenizer, workers: int) -> Callable[[], None]:
    from common.files import checksummed_directory
    from model.tokens.shard_tokenizing import Task, publish_shards, tokenize_corpus

    def run() -> None:
        task = Task(corpus, ["text"], tokenizer, corpus.parent / "scratch")
        with checksummed_directory(corpus.parent / "tokens") as output:
            publish_shards(tokenize_corpus(task, "", None, workers), output)
        shutil.rmtree(corpus.parent / "scratch")

    return run


def raw(texts: list[str], tokenizer, workers: int) -> Callable[[], None]:
    import tiktoken

    from model.tokens.bpe import END_OF_TEXT, PATTERN

    encoding = tiktoken.Encoding(
        "raw",
        pat_str=PATTERN,
        mergeable_ranks=tokenizer.ranks,
        special_tokens={END_OF_TEXT: tokenizer.end_of_text},
    )
    return lambda: encoding.encode_ordinary_batch(texts, num_threads=workers)


def mapped(corpus: Path, tokenizer, workers: int) -> Callable[[], None]:
    import datasets

    from model.export.hf_tokenizer import to_hugging_face

    datasets.disable_progress_bars()
    files = [str(path) for path in sorted(corpus.glob("*.parquet"))]
    dataset = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(corpus.parent / "datasets")
    )
    fast = to_hugging_face(tokenizer, context=2**30)

    def run() -> None:
        dataset.map(
            lambda batch: {"ids": fast(batch["text"])["input_ids"]},
            batched=True,
            num_proc=workers,
            remove_columns=dataset.column_names,
            cache_file_name=str(corpus.parent / "mapped.arrow"),
            load_from_cache_file=False,
        )

    return run


def seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    from model.runtime.worker_pool import cores
    from model.tokens.bpe import Tokenizer, read_ranks

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--characters", type=int, default=4600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=cores())
    options = parser.parse_args()
    if not CORPUS.is_dir() or not RANKS.is_file():
        sys.exit("error: no corpus to take texts from; make repro first")

    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".benchmark.") as folder:
        corpus = Path(folder) / "corpus"
        texts = make_texts(options.megabytes, options.characters)
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        write_corpus(corpus, texts)
        print(
            f"{megabytes:.0f} MB in {len(texts)} documents, {options.workers} workers,"
            f" {options.rounds} rounds"
        )
        for condition, facts in (("baseline", False), ("mul_tokens", True)):
            tokenizer = Tokenizer(read_ranks(RANKS), facts)
            contenders = {
                "ours": ours(corpus, tokenizer, options.workers),
                "raw tiktoken": raw(texts, tokenizer, options.workers),
                "datasets.map": mapped(corpus, tokenizer, options.workers),
            }
            times: dict[str, list[float]] = {name: [] for name in contenders}
            for _ in range(options.rounds):
                for name, run in contenders.items():
                    times[name].append(seconds(run))
            print(condition)
            for name in contenders:
                ratios = [
                    other / our for other, our in zip(times[name], times["ours"], strict=True)
                ]
                rate = megabytes / statistics.median(times[name])
                print(
                    f"  {name:13} {rate:6.2f} MB/s; ours is {statistics.median(ratios):.2f} × as"
                    f" fast ({min(ratios):.2f} to {max(ratios):.2f})"
                )


if __name__ == "__main__":
    main()
