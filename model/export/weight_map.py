"""Our GPT to Hugging Face's GPT2LMHeadModel: one explicit table, strict both ways.

Source names are nanoGPT's. Hugging Face's GPT-2 keeps its four projections as `Conv1D`, whose weight is stored
(in, out) where `nn.Linear` stores (out, in): those are transposed because the table says so, never because shapes differ.
What is built here is proved by model/export/gate.py, which does not know the table.
"""

from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from common.errors import PipelineError
from model.network.gpt import GPTConfig


class Entry(NamedTuple):
    source: str
    target: str
    transposed: bool


# Per block, both sides use the same names; True marks the Conv1D weights.
_BLOCK = (
    ("ln_1.weight", False),
    ("ln_1.bias", False),
    ("attn.c_attn.weight", True),
    ("attn.c_attn.bias", False),
    ("attn.c_proj.weight", True),
    ("attn.c_proj.bias", False),
    ("ln_2.weight", False),
    ("ln_2.bias", False),
    ("mlp.c_fc.weight", True),
    ("mlp.c_fc.bias", False),
    ("mlp.c_proj.weight", True),
    ("mlp.c_proj.bias", False),
)
_OUTER = (
    "transformer.wte.weight",
    "transformer.wpe.weight",
    "transformer.ln_f.weight",
    "transformer.ln_f.bias",
)
# Tied to transformer.wte.weight on both sides; stored by neither.
_TIED_TARGET = "lm_head.weight"


def export_table(layers: int) -> list[Entry]:
    """Return the table for a network of `layers` blocks: every tensor a checkpoint holds, once."""
    outer = [Entry(name, name, False) for name in _OUTER]
    blocks = [
        Entry(f"transformer.h.{layer}.{name}", f"transformer.h.{layer}.{name}", transposed)
        for layer in range(layers)
        for name, transposed in _BLOCK
    ]
    return outer + blocks


def map_tensors(tensors: dict[str, Tensor], table: list[Entry]) -> dict[str, Tensor]:
    """Return the target tensors: every source consumed exactly once, every target written exactly once."""
    for side in ("source", "target"):
        names = Counter(getattr(entry, side) for entry in table)
        if max(names.values()) > 1:
            raise PipelineError(
                f"export: the table has one {side} twice: {_some([n for n in names if names[n] > 1])}"
            )
    unknown = sorted(set(tensors) - {entry.source for entry in table})
    missing = sorted({entry.source for entry in table} - set(tensors))
    if unknown or missing:
        raise PipelineError(
            f"export: the checkpoint does not fit the table; unknown: {_some(unknown)}; missing: {_some(missing)}"
        )
    return {
        entry.target: (
            tensors[entry.source].T if entry.transposed else tensors[entry.source]
        ).contiguous()
        for entry in table
    }


def hugging_face_config(config: GPTConfig, end_of_text: int) -> GPT2Config:
    return GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.context,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        tie_word_embeddings=True,
        dtype="float32",
    )


def build_hugging_face_model(config: GPT2Config, tensors: dict[str, Tensor]) -> GPT2LMHeadModel:
    """Return the model holding `tensors`, each of its own tensors written exactly once (the tied head by its embedding)."""
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    expected = {
        name: tensor.shape for name, tensor in model.state_dict().items() if name != _TIED_TARGET
    }
    given = {name: tensor.shape for name, tensor in tensors.items()}
    if given != expected:
        wrong = sorted(
            name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name)
        )
        raise PipelineError(
            f"export: tensors missing, unknown or of another shape than GPT2LMHeadModel's: {_some(wrong)}"
        )
    model.load_state_dict(
        {**tensors, _TIED_TARGET: tensors["transformer.wte.weight"]}, strict=True, assign=True
    )
    model.tie_weights()
    model.eval()
    return model


def _some(names: list[str]) -> str:
    return (
        ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        if names
        else "none"
    )
