"""Turn the corpus into one condition's token shards.

Reads data/corpus and data/raw/ranks. Writes data/tokens/CONDITION (uint16 shards, index.json and
the tokenizer) and metrics/CONDITION/tokenize.json (tokens, bytes and facts of the documents that
all conditions have). Costs seconds in the demo; at full size 45 GB of text go through all cores. A
run after a kill continues with the shards that were not finished.
"""

import sys
from pathlib import Path
from typing import Any

from common.errors import run_stage
from common.files import checksummed_directory, json_bytes, verified, write_json
from common.sections import read_json, read_overridden, read_section
from model.data.documents import CorpusIndex
from model.params.tokenize import TokenizeParams
from model.runtime.resumable import scratch_directory
from model.tokens.bpe import PATTERN, Tokenizer, read_ranks
from model.tokens.condition_statistics import summarize
from model.tokens.shard_tokenizing import Task, publish_shards, tokenize_corpus
from model.tokens.shards import Index

CORPUS = Path("data/corpus")
RANKS = Path("data/raw/ranks/gpt2.tiktoken")


def main() -> None:
    [condition] = sys.argv[1:]
    params = read_overridden("tokenize", f"conditions.{condition}.tokenize", TokenizeParams)
    # Typed as Any, since mypy's type[T] does not accept a union.
    limit: Any = int | None
    target_tokens = read_section("corpus.target_tokens", limit)
    ranks = read_ranks(verified(RANKS), params.base_ranks)
    tokenizer = Tokenizer(ranks, params.mul_facts, params.pattern or PATTERN)
    base = read_section("tokenize", TokenizeParams)
    # The vocabulary that all conditions count plain tokens in, if this one has another.
    plain = None
    if (base.base_ranks, base.pattern) != (params.base_ranks, params.pattern):
        ranks = read_ranks(RANKS, base.base_ranks)
        plain = Tokenizer(ranks, False, base.pattern or PATTERN)
    sources = read_json(verified(CORPUS / "index.json"), CorpusIndex).sources()
    directory = Path("data/tokens") / condition
    with scratch_directory(directory) as scratch:
        task = Task(CORPUS, sources, tokenizer, scratch, plain)
        finished = tokenize_corpus(task, condition, target_tokens)
        splits = {split: [shard.entry for shard in shards] for split, shards in finished.items()}
        index = Index(
            condition=condition, sources=sources, splits=splits, vocab_size=tokenizer.size
        )
        with checksummed_directory(directory) as output:
            publish_shards(finished, output)
            (output / "index.json").write_bytes(json_bytes(index.model_dump()))
            tokenizer.save(output)
    summary = summarize(index)
    write_json(Path("metrics") / condition / "tokenize.json", summary)
    print(
        f"tokenize {condition}: {summary['train']['tokens']} training and"
        f" {summary['val']['tokens']} validation tokens, {summary['train']['mul_fact_tokens']} of"
        " the training tokens multiplication facts"
    )


if __name__ == "__main__":
    run_stage(main)
