"""Make the corpus: de-duplicated, decontaminated English passages with arithmetic drills, split by content.

Reads data/raw/passages and data/raw/hellaswag. Writes data/corpus: train_*.parquet, val_*.parquet, index.json.
Costs seconds in the demo; about three hours for 45 GB of text at full size, one core at the 4.9 MB/s
measured for the contamination check.
"""

from collections import Counter
from pathlib import Path

from tqdm import tqdm

from model.contamination import Benchmark
from model.corpus import is_validation, select_documents
from model.documents import DocumentWriter, read_split
from model.errors import PipelineError, run_stage
from model.files import checksummed_directory, read_jsonl, write_json
from model.items import read_items
from model.params.corpus import CorpusParams
from model.section import read_section

PASSAGES = Path("data/raw/passages")
HELLASWAG = Path("data/raw/hellaswag/items.jsonl")
OUTPUT = Path("data/corpus")


def main() -> None:
    params = read_section("corpus", CorpusParams)
    benchmark = Benchmark(read_items(HELLASWAG, read_jsonl(HELLASWAG)), params.contamination_words)
    dropped: Counter = Counter()
    kept = {"train": Counter(), "val": Counter()}
    characters = {"train": Counter(), "val": Counter()}
    with checksummed_directory(OUTPUT) as output:
        with (
            DocumentWriter(output, "train", params.documents_per_shard) as train,
            DocumentWriter(output, "val", params.documents_per_shard) as val,
        ):
            passages = tqdm(read_split(PASSAGES, "passages"), desc="corpus", unit="passage", disable=None)
            for document in select_documents(passages, benchmark, params, dropped):
                split = "val" if is_validation(document, params.val_fraction) else "train"
                (val if split == "val" else train).append(document)
                kept[split][document.source] += 1
                characters[split][document.source] += len(document.text)
        for split in kept:
            if not kept[split]:
                raise PipelineError(f"corpus: the {split} split is empty; change corpus.val_fraction or fetch more text")
        write_json(output / "index.json", {"characters": characters, "documents": kept, "passages": dropped})
    print(
        f"corpus: {dropped['read']} passages read, {dropped['duplicate']} duplicate and {dropped['contaminated']} "
        f"contaminated dropped; {kept['train'].total()} training and {kept['val'].total()} validation documents"
    )


if __name__ == "__main__":
    run_stage(main)
