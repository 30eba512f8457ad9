"""Read a Hugging Face GPT-2 directory as it lies on disk: configuration, tensors and tokenizer, strictly.

Without transformers, whose import would double the time that an evaluation takes to start. What transformers would guess, fill
with random values or ignore is an error here; that both compute the same is tested.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from model.errors import PipelineError
from model.section import read_json

FILES = ("config.json", "model.safetensors", "tokenizer.json")


class HuggingFaceGPT2Config(BaseModel):
    """What of config.json decides what GPT-2 computes, with GPT2Config's defaults; other variants are refused."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    model_type: Literal["gpt2"]
    activation_function: Literal["gelu_new", "gelu_pytorch_tanh"] = "gelu_new"  # two names of one function
    add_cross_attention: Literal[False] = False
    bos_token_id: int = Field(default=50256, ge=0)
    layer_norm_epsilon: float = 1e-5
    n_embd: int = Field(default=768, gt=0)
    n_head: int = Field(default=12, gt=0)
    n_inner: int | None = Field(default=None, gt=0)
    n_layer: int = Field(default=12, gt=0)
    n_positions: int = Field(default=1024, gt=0)
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    scale_attn_weights: Literal[True] = True
    tie_word_embeddings: Literal[True] = True
    vocab_size: int = Field(default=50257, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _has_one_name_for_each(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        aliases = {"hidden_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers"} & values.keys()
        if aliases:
            raise ValueError(f"{', '.join(sorted(aliases))}: a second name of one of GPT-2's own keys; use those")
        return values

    @model_validator(mode="after")
    def _fits(self):
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")
        if self.bos_token_id >= self.vocab_size:
            raise ValueError(f"bos_token_id ({self.bos_token_id}) is beyond the vocabulary of {self.vocab_size}")
        return self


class HuggingFaceGPT2(NamedTuple):
    """Tensors are float32, named as in GPT2Model (`h.0.attn.c_attn.weight`), projections stored (in, out)."""

    config: HuggingFaceGPT2Config
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer


def read_hugging_face_directory(directory: Path) -> HuggingFaceGPT2:
    """Raises PipelineError for a file that is missing, a variant that is unknown, a tensor missing, unknown or misshapen."""
    for name in FILES:
        if not (directory / name).is_file():
            raise PipelineError(f"{directory}: no {name}; save model and tokenizer with transformers' save_pretrained")
    config = read_json(directory / "config.json", HuggingFaceGPT2Config)
    tensors = _read_tensors(directory / "model.safetensors", config)
    return HuggingFaceGPT2(config, tensors, read_tokenizer(directory, config.vocab_size))


def _read_tensors(path: Path, config: HuggingFaceGPT2Config) -> dict[str, Tensor]:
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PipelineError(f"{path}: not a safetensors file ({error})") from None
    # GPT2LMHeadModel's names have a prefix, GPT2Model's (the hub's gpt2) have none.
    tensors = {name.removeprefix("transformer."): tensor.float() for name, tensor in stored.items()}
    odd = [name for name, tensor in stored.items() if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16)]
    if odd or len(tensors) != len(stored):
        raise PipelineError(
            f"{path}: {odd[0] + ' is of a type' if odd else 'a tensor is there twice, under names'} that GPT-2 has not"
        )
    head = tensors.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, tensors.get("wte.weight", head)):
        raise PipelineError(f"{path}: lm_head.weight differs from wte.weight, though config.json ties them")
    if config.n_layer > len(tensors):  # before as many names are made
        raise PipelineError(f"{path}: too few tensors for the {config.n_layer} blocks that config.json says")
    # Causal masks that old versions of transformers stored with the weights.
    masks = {f"h.{layer}.attn.{name}" for layer in range(config.n_layer) for name in ("bias", "masked_bias")}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name not in masks}
    expected = _shapes(config)
    if shapes != expected:
        wrong = sorted(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
        raise PipelineError(f"{path}: tensors missing, unknown or of another shape than config.json says: {', '.join(wrong[:4])}")
    return {name: tensors[name] for name in expected}


def _shapes(config: HuggingFaceGPT2Config) -> dict[str, tuple[int, ...]]:
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    block = {
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "attn.c_attn.weight": (width, 3 * width),
        "attn.c_attn.bias": (3 * width,),
        "attn.c_proj.weight": (width, width),
        "attn.c_proj.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "mlp.c_fc.weight": (width, inner),
        "mlp.c_fc.bias": (inner,),
        "mlp.c_proj.weight": (inner, width),
        "mlp.c_proj.bias": (width,),
    }
    outer = {
        "wte.weight": (config.vocab_size, width),
        "wpe.weight": (config.n_positions, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    return outer | {f"h.{layer}.{name}": shape for layer in range(config.n_layer) for name, shape in block.items()}


class _TokenizerConfig(BaseModel):
    model_config = ConfigDict(extra="ignore")

    add_prefix_space: Literal[False] = False
    split_special_tokens: bool = False


def read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of a directory whose model has `vocab_size` ids; raises PipelineError where the two do not fit."""
    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise PipelineError(f"{path}: not a tokenizer ({error})") from None
    last = max(tokenizer.get_vocab().values(), default=0)
    if last >= vocab_size:
        raise PipelineError(f"{path}: has a token {last}, and config.json a vocab_size of {vocab_size}")
    settings = directory / "tokenizer_config.json"
    if settings.is_file():
        # Whether the spelling of a special token in a text is text like any other.
        tokenizer.encode_special_tokens = read_json(settings, _TokenizerConfig).split_special_tokens
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
