"""The gate every export passes: loaded from disk as anybody would, it has to be its checkpoint, part by part and whole.

Nothing here knows the table of model/hf.py, so a wrong table cannot vouch for itself. Order: what is stored (names, shapes,
dtype), what the configs say, then what is computed: every module on random inputs, logits on validation text, and the
loss that training measured. `tolerance` bounds the computed differences only; weights are copies, and have to be equal to the
bit unless the gate is given up with a tolerance of 1 or more.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from model.canary import mean_loss
from model.errors import PipelineError
from model.gpt import GPT
from model.hf_loading import load_hugging_face_model

_GIVEN_UP = 1.0
_HEAD = "lm_head"
_EMBEDDING = "transformer.wte"


class Parity(NamedTuple):
    """What the comparison of a reloaded export with its checkpoint found; losses in nats a token."""

    checkpoint_loss: float
    export_loss: float
    max_abs_logit_difference: float
    tokens: int


@torch.no_grad()
def verify_export(directory: Path, model: GPT, end_of_text: int, tokens: Tensor, loss: float, tolerance: float) -> Parity:
    """Return what comparing `directory` with `model` on `tokens` (batch, time + 1) found; raises PipelineError on any fault.

    `loss` is what training measured on `tokens` with the weights it saved.
    """
    _verify_stored(directory, model)
    exported = load_hugging_face_model(directory)
    _verify_config(directory, model, end_of_text)
    if exported.lm_head.weight.data_ptr() != exported.transformer.wte.weight.data_ptr():
        raise _fault(f"{_HEAD}.weight is not tied to {_EMBEDDING}.weight")
    _verify_modules(exported, model, tolerance)
    return _verify_whole(exported, model, tokens, loss, tolerance)


def _verify_stored(directory: Path, model: GPT) -> None:
    """The file holds each of the network's tensors once, in float32, and the tied head not a second time."""
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if name != f"{_HEAD}.weight"}
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        for name in sorted(names | expected.keys()):
            if name not in expected:
                raise _fault(f"model.safetensors holds {name}, which is no tensor of its own in the checkpoint")
            if name not in names:
                raise _fault(f"model.safetensors lacks {name}")
            stored = file.get_tensor(name)
            if stored.dtype != torch.float32:
                raise _fault(f"model.safetensors holds {name} as {stored.dtype}, the checkpoint as torch.float32")
            if stored.shape not in (expected[name], expected[name][::-1]):
                raise _fault(f"{name} has shape {tuple(stored.shape)}, the checkpoint's {tuple(expected[name])}")


def _verify_config(directory: Path, model: GPT, end_of_text: int) -> None:
    """What config.json says is what the checkpoint's network is; the constants are those of model/gpt.py's forward passes.

    Read from the file: a loaded config already has what its loader made of it.
    """
    size = model.config
    expected = {
        "activation_function": "gelu_new",  # the tanh approximation
        "add_cross_attention": False,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": end_of_text,
        "dtype": "float32",
        "embd_pdrop": 0.0,
        "eos_token_id": end_of_text,
        "layer_norm_epsilon": model.transformer.ln_f.eps,
        "model_type": "gpt2",
        "n_embd": size.width,
        "n_head": size.heads,
        "n_inner": None,  # four times the width
        "n_layer": size.layers,
        "n_positions": size.context,
        "pad_token_id": None,
        "quantization_config": None,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "vocab_size": size.vocab_size,
    }
    generation = {key: expected[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, values in (("config.json", expected), ("generation_config.json", generation)):
        found = json.loads((directory / name).read_bytes())
        for key, value in values.items():
            if found.get(key) != value:
                raise _fault(f"{name}: {key} is {found.get(key)}, the checkpoint's network has {value}")


def _verify_modules(exported: GPT2LMHeadModel, model: GPT, tolerance: float) -> None:
    """Every module gives the checkpoint's outputs on random inputs: leaves first, so that the fault is named by its leaf."""
    modules = dict(model.named_modules())
    leaves = [name for name, module in modules.items() if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding)]
    composites = [name for name in modules if name.endswith((".attn", ".mlp"))]
    for name in leaves + composites:
        ours, theirs = _probe(modules[name], modules[name]), _probe(exported.get_submodule(name), modules[name])
        difference = _relative_difference(theirs, ours)
        altered = name in leaves and tolerance < _GIVEN_UP and not _equal(modules[name], exported.get_submodule(name))
        if altered or not difference <= tolerance:
            limit = "and its weights have to be equal" if difference <= tolerance else f"tolerance {tolerance:.3g}"
            hint = _explain(name, theirs, modules, exported)
            raise _fault(f"{name} differs from the checkpoint's by {difference:.3g}, {limit}{hint}")


def _equal(ours: nn.Module, theirs: nn.Module) -> bool:
    """Return whether the parameters are the same bits, where those of a Linear are compared with a transposed Conv1D's."""
    transposed = isinstance(ours, nn.Linear) and not isinstance(theirs, nn.Linear)
    pairs = [(ours.weight, theirs.weight.T if transposed else theirs.weight)]
    if getattr(ours, "bias", None) is not None:
        pairs.append((ours.bias, theirs.bias))
    return all(torch.equal(our, their) for our, their in pairs)


def _probe(module: nn.Module, like: nn.Module) -> Tensor:
    """Return `module`'s output on inputs that suit the checkpoint's module `like`."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(like, nn.Embedding):
        return module(torch.arange(like.num_embeddings))
    if isinstance(like, nn.LayerNorm):
        x = torch.randn(16, *like.normalized_shape, generator=generator)
        return torch.cat([module(x), module(1e-3 * x)])  # the small one is where epsilon matters
    width = like.in_features if isinstance(like, nn.Linear) else like.c_proj.out_features
    # Large enough for the activation's bends: exact and tanh GELU part most at about 2.
    output = module(4 * torch.randn(1, 16, width, generator=generator))
    return output[0] if isinstance(output, tuple) else output


def _explain(name: str, theirs: Tensor, modules: dict[str, nn.Module], exported: GPT2LMHeadModel) -> str:
    """Return what else the wrong output is, where that can be told."""
    ours = _probe(modules[name], modules[name])
    if isinstance(modules[name], nn.Embedding):
        rows = (theirs != ours).any(dim=1).nonzero().flatten().tolist()
        return f": {len(rows)} of {len(ours)} rows, the first {rows[0]}, the last {rows[-1]}"
    if isinstance(modules[name], nn.Linear):
        weight = exported.get_submodule(name).weight
        if name != _HEAD and torch.equal(weight, modules[name].weight):
            return ": its weight is stored untransposed"
    for other, module in modules.items():
        same_kind = type(module) is type(modules[name]) and other != name
        if same_kind and _probe(module, module).shape == theirs.shape and torch.allclose(_probe(module, module), theirs):
            return f": it computes the checkpoint's {other}"
    if name.endswith("c_attn"):
        parts = zip(("query", "key", "value"), theirs.chunk(3, dim=-1), ours.chunk(3, dim=-1), strict=True)
        return ": in " + ", ".join(part for part, a, b in parts if not torch.equal(a, b))
    return ""


def _verify_whole(exported: GPT2LMHeadModel, model: GPT, tokens: Tensor, loss: float, tolerance: float) -> Parity:
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    output = exported(inputs, output_hidden_states=True)
    states = model.hidden_states(inputs)
    logits = model.lm_head(states[-1])
    difference = (output.logits - logits).abs().max().item()
    if not difference <= tolerance:
        layer = _first_diverging(states, output.hidden_states, tolerance)
        raise _fault(
            f"logits differ from the checkpoint's by {difference:.3g}, tolerance {tolerance:.3g}; first diverging layer: {layer}"
        )
    checkpoint_loss = mean_loss(logits, targets)
    # Logits within the tolerance move a log-likelihood by at most twice as much.
    if not abs(checkpoint_loss - loss) <= 2 * tolerance:
        raise _fault(
            f"the checkpoint's loss on the canary is {checkpoint_loss:.6f}, training measured {loss:.6f} at this step: "
            "the weights are not those of this step; rerun pretrain"
        )
    return Parity(checkpoint_loss, mean_loss(output.logits, targets), difference, targets.numel())


def _first_diverging(ours: list[Tensor], theirs: tuple[Tensor, ...], tolerance: float) -> str:
    for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if not (our - their).abs().max() <= tolerance:
            if index == 0:
                return "embeddings (transformer.wte, transformer.wpe)"
            last = index == len(ours) - 1
            return f"transformer.h.{index - 1}" + (" or transformer.ln_f" if last else "")
    return _HEAD


def _relative_difference(theirs: Tensor, ours: Tensor) -> float:
    """Return the largest difference, in units of the largest of `ours` where that exceeds 1; infinite for other shapes."""
    if theirs.shape != ours.shape:
        return float("inf")
    return ((theirs - ours).abs().max() / ours.abs().max().clamp(min=1)).item()


def _fault(message: str) -> PipelineError:
    return PipelineError(f"export: {message}; the export was not kept")
