"""Turn the corpus into one condition's token shards.

Reads data/corpus and data/raw/ranks. Writes data/tokens/CONDITION: uint16 shards, index.json and the tokenizer.
Costs seconds in the demo; at full size about 45 GB of text through all cores.
"""

import sys
from pathlib import Path

from model.documents import CorpusIndex
from model.errors import run_stage
from model.files import checksummed_directory, json_bytes, verified
from model.params.tokenize import TokenizeParams
from model.section import read_json, read_section
from model.tokenizer import Tokenizer, read_ranks
from model.tokenizing import tokenize_corpus

CORPUS = Path("data/corpus")
RANKS = Path("data/raw/ranks/gpt2.tiktoken")


def main() -> None:
    [condition] = sys.argv[1:]
    params = read_section("tokenize", TokenizeParams)
    tokenizer = Tokenizer(read_ranks(verified(RANKS), params.base_ranks), condition in params.mul_fact_conditions)
    sources = read_json(verified(CORPUS / "index.json"), CorpusIndex).sources()
    with checksummed_directory(Path("data/tokens") / condition) as output:
        index = tokenize_corpus(CORPUS, sources, tokenizer, condition, output)
        (output / "index.json").write_bytes(json_bytes(index.model_dump()))
    print(
        f"tokenize {condition}: {index.total('train', 'tokens')} training and {index.total('val', 'tokens')} validation "
        f"tokens, {index.total('train', 'mul_fact_tokens')} of the training tokens multiplication facts"
    )


if __name__ == "__main__":
    run_stage(main)
