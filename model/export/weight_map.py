"""Map our GPT's tensors to Hugging Face's GPT2LMHeadModel by one explicit table.

Every source is used once and every target written once. Source names are nanoGPT's. Hugging Face's
GPT-2 keeps its four projections as `Conv1D`, which stores (in, out); `nn.Linear` stores (out, in):

    attn.c_attn.weight   (3 × width, width)  becomes  (width, 3 × width)
    mlp.c_fc.weight      (4 × width, width)  becomes  (width, 4 × width)

The table says which tensors to transpose. Shapes must not decide: attn.c_proj.weight is
(width, width) either way. model/export/gate.py, which does not use the table, verifies the result.
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
    """One tensor: its name in a checkpoint, its name in an export, and whether to transpose it."""

    source: str
    target: str
    transposed: bool


# The tensors of a block, whose names are the same on both sides. True: a Conv1D weight, transposed.
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
# Tied to transformer.wte.weight on both sides, and stored on neither.
_TIED_TARGET = "lm_head.weight"


def export_table(layers: int) -> list[Entry]:
    """Return the table for a network of `layers` blocks: each tensor of a checkpoint, once."""
    outer = [Entry(name, name, False) for name in _OUTER]
    blocks = [
        Entry(f"transformer.h.{layer}.{name}", f"transformer.h.{layer}.{name}", transposed)
        for layer in range(layers)
        for name, transposed in _BLOCK
    ]
    return outer + blocks


def map_tensors(tensors: dict[str, Tensor], table: list[Entry]) -> dict[str, Tensor]:
    """Return the target tensors by name.

    Raises PipelineError if the table has a name twice, or if its sources are not exactly the
    checkpoint's tensors.
    """
    for side in ("source", "target"):
        names = Counter(getattr(entry, side) for entry in table)
        if max(names.values()) > 1:
            raise PipelineError(
                f"export: the table has one {side} twice: "
                f"{_some([n for n in names if names[n] > 1])}"
            )
    # Both directions: a tensor that the table lacks would be lost, and one that the checkpoint
    # lacks would have no values.
    unknown = sorted(set(tensors) - {entry.source for entry in table})
    missing = sorted({entry.source for entry in table} - set(tensors))
    if unknown or missing:
        raise PipelineError(
            f"export: the checkpoint does not fit the table; unknown: {_some(unknown)}; missing: "
            f"{_some(missing)}"
        )
    return {
        entry.target: (
            tensors[entry.source].T if entry.transposed else tensors[entry.source]
            # safetensors stores only contiguous tensors.
        ).contiguous()
        for entry in table
    }


def hugging_face_config(config: GPTConfig, end_of_text: int) -> GPT2Config:
    """Return transformers' configuration of our network; `end_of_text` is a token id."""
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
    """Return the model with `tensors`; the tied head gets the embedding's tensor.

    Raises PipelineError unless `tensors` are exactly the model's, by name and shape.
    """
    # "meta": shapes without memory or random initial weights.
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
            "export: tensors missing, unknown or of another shape than GPT2LMHeadModel's: "
            f"{_some(wrong)}"
        )
    # assign: take the tensors themselves, since the model's own have no memory.
    model.load_state_dict(
        {**tensors, _TIED_TARGET: tensors["transformer.wte.weight"]}, strict=True, assign=True
    )
    model.tie_weights()
    model.eval()
    return model


def _some(names: list[str]) -> str:
    """Return the first four names and how many more there are, or "none"."""
    return (
        ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        if names
        else "none"
    )
