"""Small real objects: a random network, its checkpoint, token shards."""

from pathlib import Path

import numpy as np
import torch

from common.files import checksummed_directory, write_checksums
from model.network.checkpoints import CheckpointConfig, write_checkpoint
from model.network.gpt import GPT, GPTConfig
from model.tokens.shards import Index, ShardEntry, TokenSplit, write_shard


def random_gpt(config: GPTConfig, seed: int = 0) -> GPT:
    """Return a network with random biases and norms too, so that a fault in any of them shows."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config).initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def save_checkpoint(directory: Path, model: GPT, config: CheckpointConfig) -> None:
    with checksummed_directory(directory) as partial:
        write_checkpoint(partial, model, config)


def checkpoint_config(network: GPTConfig, **changes) -> CheckpointConfig:
    fields = {
        "canary_documents": 2,
        "canary_loss": 5.5,
        "condition": "baseline",
        "seed": 1,
        "step": 7,
        "tokens": 70,
    }
    return CheckpointConfig(network=network, **{**fields, **changes})


def write_token_split(
    directory: Path,
    documents: list[list[int]],
    sources: list[str] | None = None,
    vocab_size: int = 100,
    per_shard: int | None = None,
):
    """Write `documents` as the train and the val split; return both splits.

    A document is a list of token ids that begins with the end of text. A shard has `per_shard`
    documents; with None there is one shard. A token counts as two bytes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = sorted(set(sources or ["text"]))
    numbers = [names.index(source) for source in sources or ["text"] * len(documents)]
    table = np.array(
        [
            (len(tokens), 2 * len(tokens) - 2, source)
            for tokens, source in zip(documents, numbers, strict=True)
        ]
    )
    splits: dict[str, list[ShardEntry]] = {"train": [], "val": []}
    ids = [np.array(tokens) for tokens in documents]
    size = per_shard or len(documents)
    for split, entries in splits.items():
        for first in range(0, len(documents), size):
            part = table[first : first + size]
            write_shard(directory, split, len(entries), ids[first : first + size], part)
            entries.append(
                ShardEntry(
                    documents=len(part),
                    documents_sha256="",
                    expressions={},
                    mul_fact_tokens=0,
                    original_bytes=int(part[:, 1].sum()),
                    plain_tokens=int(part[:, 0].sum()),
                    tokens=int(part[:, 0].sum()),
                )
            )
    index = Index(condition="baseline", sources=names, splits=splits, vocab_size=vocab_size)
    (directory / "index.json").write_text(index.model_dump_json())
    write_checksums(directory)
    return TokenSplit(directory, "train"), TokenSplit(directory, "val")
