"""Convert Hugging Face's GPT-2 weights to our GPT.

Uses the table of model/export/weight_map.py from right to left, just as strictly: every tensor of
the file is used once, and every parameter of ours is written once. A file may differ from an export
only in these ways:
- Names. Tensors of GPT2LMHeadModel begin with `transformer.`. Those of GPT2Model, as in the hub's
  gpt2, do not. A file must use one of the two forms for all its tensors.
- `lm_head.weight`. The output layer is tied to the token embedding. If both are stored, they must
  be equal. If only `lm_head.weight` is stored, it is the token embedding.
- `attn.bias` and `attn.masked_bias` of a block. Old versions of transformers stored their causal
  mask, and the number that they put at hidden places. The mask must be causal, and the number low
  enough to hide. Both are then left out.
- Shards. The tensors may lie in several files that model.safetensors.index.json lists.
- float16 and bfloat16. Each such number is also a float32, so the conversion is exact.
Dropout rates in config.json are ignored: they matter in training only, and our network has no
dropout.
"""

from collections.abc import Set
from pathlib import Path

import torch
from torch import Tensor

from common.errors import PipelineError
from common.sections import read_json, validate
from model.export.weight_map import Entry, export_table, map_tensors
from model.hugging_face.directory import HuggingFaceGPT2Config, read_stored
from model.network.gpt import GPT, Block, GPTConfig

_PREFIX = "transformer."
_HEAD, _EMBEDDING, _POSITIONS = "lm_head.weight", "transformer.wte.weight", "transformer.wpe.weight"
_TYPES = (torch.float32, torch.float16, torch.bfloat16)
# transformers added -1e4 to a hidden score, or replaced the score by it; bfloat16 rounds it to
# -9984. exp of both is 0.
_HIDES = -9984.0


def import_table(layers: int) -> list[Entry]:
    """Return the exporter's table for `layers` blocks, with source and target exchanged."""
    return [Entry(entry.target, entry.source, entry.transposed) for entry in export_table(layers)]


@torch.no_grad()
def read_gpt2(directory: Path) -> GPT:
    """Return our network, in evaluation mode, with the weights of `directory`.

    `directory` has config.json and model.safetensors, or its shards. Raises PipelineError for a
    missing file, for a setting that our network does not have, and for a tensor that is missing,
    unknown, misshapen or of another type.
    """
    settings = directory / "config.json"
    config = read_json(settings, HuggingFaceGPT2Config)
    sizes = {
        "layers": config.n_layer,
        "heads": config.n_head,
        "width": config.n_embd,
        "context": config.n_positions,
        "vocab_size": config.vocab_size,
    }
    weights, stored = read_stored(directory)
    stored = _of_the_size(weights, _with_prefix(stored), config)
    model = GPT(validate(sizes, GPTConfig, settings))
    _require_same_network(settings, config, model)
    parameters = dict(model.named_parameters())  # a tied parameter is listed once
    table = import_table(config.n_layer)
    if sorted(entry.target for entry in table) != sorted(parameters):
        raise PipelineError(
            "import: the table of model/export/weight_map.py does not write each tensor of our"
            " network exactly once"
        )
    shapes = {}
    for entry in table:
        shape = tuple(parameters[entry.target].shape)
        shapes[entry.source] = shape[::-1] if entry.transposed else shape
    tensors = map_tensors(_read_tensors(weights, stored, config, shapes), table)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])
    return model.eval()


def _require_same_network(path: Path, config: HuggingFaceGPT2Config, model: GPT) -> None:
    """Check the settings that HuggingFaceGPT2Config allows but our network has fixed."""
    first = model.transformer.h[0]
    assert isinstance(first, Block)
    fixed = {
        "layer_norm_epsilon": (config.layer_norm_epsilon, model.transformer.ln_f.eps),
        "n_inner": (
            config.n_inner or 4 * config.n_embd,
            first.mlp.c_fc.out_features,
        ),
    }
    for key, (theirs, ours) in fixed.items():
        if theirs != ours:
            raise PipelineError(
                f"{path}: {key}: {theirs}, where our network (model/network/gpt.py) has {ours}; it"
                " cannot hold this one"
            )


def _of_the_size(
    path: Path, stored: dict[str, Tensor], config: HuggingFaceGPT2Config
) -> dict[str, Tensor]:
    """Return `stored` if its size is that of config.json; no network is built before this check."""
    if config.n_layer > len(stored):
        raise _fault(path, f"too few tensors for the {config.n_layer} blocks that config.json says")
    for name, rows in ((_EMBEDDING, config.vocab_size), (_POSITIONS, config.n_positions)):
        if name not in stored:
            raise _other_names(
                path,
                config,
                stored.keys(),
                {entry.source for entry in import_table(config.n_layer)},
            )
        if tuple(stored[name].shape) != (rows, config.n_embd):
            raise _fault(
                path,
                f"{name} has shape {tuple(stored[name].shape)}, by config.json"
                f" {(rows, config.n_embd)}",
            )
    return stored


def _read_tensors(
    path: Path,
    stored: dict[str, Tensor],
    config: HuggingFaceGPT2Config,
    shapes: dict[str, tuple[int, ...]],
) -> dict[str, Tensor]:
    """Return `stored`, checked to have exactly the names and shapes of `shapes`."""
    tensors = _without_masks(path, stored, config)
    head = tensors.pop(_HEAD, None)
    if tensors.keys() != shapes.keys():
        raise _other_names(path, config, tensors.keys(), shapes.keys())
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise _fault(
                path, f"{name} has shape {tuple(tensor.shape)}, by config.json {shapes[name]}"
            )
        if tensor.dtype not in _TYPES:
            raise _fault(
                path,
                f"{name} is of type {tensor.dtype}, and has to be float32, float16 or bfloat16",
            )
    if head is not None and not torch.equal(head.float(), tensors[_EMBEDDING].float()):
        raise _fault(path, f"{_HEAD} is not the token embedding, to which our network ties it")
    return tensors


def _with_prefix(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under GPT2LMHeadModel's names.

    A file that mixes both forms of names is returned unchanged, and `_read_tensors` refuses it.
    """
    named = dict(stored)
    if not any(name.startswith(_PREFIX) for name in stored):
        named = {
            name if name == _HEAD else _PREFIX + name: tensor for name, tensor in stored.items()
        }
    if _HEAD in named:  # safetensors' save_model keeps only the first name of two tied tensors
        named.setdefault(_EMBEDDING, named[_HEAD])
    return named


def _without_masks(
    path: Path, tensors: dict[str, Tensor], config: HuggingFaceGPT2Config
) -> dict[str, Tensor]:
    context = config.n_positions
    causal = torch.ones(context, context, dtype=torch.bool).tril()[None, None]
    kept = dict(tensors)
    for layer in range(config.n_layer):
        name = f"{_PREFIX}h.{layer}.attn.bias"
        mask = kept.pop(name, causal)
        if mask.shape != causal.shape or not torch.equal(mask, causal.to(mask.dtype)):
            raise _fault(
                path,
                f"{name} is not the causal mask of {context} positions, with which our network"
                " computes",
            )
        name = f"{_PREFIX}h.{layer}.attn.masked_bias"
        hidden = kept.pop(name, torch.tensor(_HIDES))
        if hidden.shape != () or not hidden <= _HIDES:
            raise _fault(
                path, f"{name} is not one number of at most {_HIDES:.0f}: it would hide nothing"
            )
    return kept


def _other_names(
    path: Path, config: HuggingFaceGPT2Config, found: Set[str], wanted: Set[str]
) -> PipelineError:
    lists = (("unknown", sorted(found - wanted)), ("missing", sorted(wanted - found)))
    names = "; ".join(f"{what}: {', '.join(of[:4]) or 'none'}" for what, of in lists)
    return _fault(path, f"the tensors are not those of GPT-2 with {config.n_layer} blocks; {names}")


def _fault(path: Path, message: str) -> PipelineError:
    return PipelineError(f"{path}: {message}; nothing was imported")
