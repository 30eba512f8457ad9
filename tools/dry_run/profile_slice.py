"""The values that `make dry-run` puts in place of the full-size profile's own."""

import shutil
from typing import Any

from model.params.all_sections import Params
from pipeline.declared.dvc_yaml import value_at

# Values of the slice; all others are the profile's.
SLICE = {
    "numerics.threads": 1,
    "corpus.val_fraction": 0.2,
    # With less, four steps read no fact, and both conditions get the same weights.
    "corpus.drill_fraction": 0.3,
    "tasks.hellaswag.asked": 12,
    "tasks.continuation.asked": 4,
    "tasks.arc_easy.asked": 4,
    "tasks.arc_challenge.asked": 4,
    "tasks.piqa.asked": 4,
    "tasks.winogrande.asked": 4,
    "tasks.openbookqa.asked": 4,
    "tasks.social_iqa.asked": 4,
    "tasks.commonsense_qa.asked": 4,
    "tasks.copa.asked": 4,
    "tokenize.base_ranks": 1024,
    "model.layers": 2,
    "model.width": 48,
    "model.context": 128,
    "pretrain.max_steps": 8,
    "pretrain.checkpoint_steps": [4, 8],
    "pretrain.batch_rows": 8,
    "pretrain.micro_batch_rows": 2,
    "pretrain.processes": 2,
    "pretrain.warmup_steps": 2,
    "pretrain.log_every": 2,
    "pretrain.validate_every": 4,
    "pretrain.validation_documents": 8,
    "pretrain.state_every": 2,
    "pretrain.device": "cpu",
    "evaluate.batch_tokens": 4096,
    "evaluate.device": "cpu",
    "evaluate.processes": 2,
    "samples.device": "cpu",
    "samples.new_tokens": 4,
    "problems.conversations": 64,
    "problems.generated_test": 4,
    "problems.gsm8k_test": 4,
    "sft.max_steps": 4,
    "sft.batch_rows": 16,
    "sft.warmup_steps": 1,
    "sft.log_every": 2,
    "sft.state_every": 2,
    "sft.device": "cpu",
    "generate.device": "cpu",
    "generate.new_tokens": 8,
    "probes.device": "cpu",
    "probes.new_tokens": 4,
}
NOT_EXERCISED = (
    "CUDA, its bfloat16 and its memory",
    "NCCL, eight processes, several nodes",
    "the hub itself, its rate limits and 28.5 GB of parquet",
    "corpora larger than memory, and hours: a kill comes after seconds",
    "learning: eight steps learn nothing, so no figure of the slice means anything",
)


def sliced(
    profile: dict[str, Any], counts: dict[str, int]
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """Return the profile with the slice's values, and the replaced keys: {key: (old, new)}."""
    replaced = {}
    for key, value in {
        **SLICE,
        **{f"fetch.{name}.count": count for name, count in counts.items()},
        **lacking(),
    }.items():
        section, _, name = key.rpartition(".")
        old, value_at(profile, section)[name] = value_at(profile, key), value
        if old != value:
            replaced[key] = (old, value)
    Params.model_validate(profile)
    return profile, replaced


def lacking() -> dict[str, Any]:
    """Return replacements for values that this machine cannot run.

    These are bfloat16 without arithmetic for it, and torch.compile without a compiler.
    """
    import torch  # takes seconds, for which --help need not wait

    lacks = (
        {}
        if torch.cpu.get_capabilities().get("avx512_bf16")
        else {"pretrain.dtype": "float32", "sft.dtype": "float32"}
    )
    return lacks | ({} if shutil.which("g++") else {"pretrain.compile": False})
