"""Load a GPT-2 directory with transformers, and raise where transformers only warns."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
from transformers.utils import logging

from common.errors import PipelineError


def load_hugging_face_model(directory: Path, device: str = "cpu") -> GPT2LMHeadModel:
    """Return the model in float32, in evaluation mode, on `device`.

    transformers fills a missing tensor with random values and ignores an unexpected one. Here both
    raise PipelineError, and so does a directory that transformers cannot load.
    """
    logging.disable_progress_bar()
    if not (directory / "config.json").is_file():
        raise PipelineError(f"{directory}: no exported model; run dvc repro export")
    try:
        loaded: Any = GPT2LMHeadModel.from_pretrained(
            directory,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (KeyError, OSError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"{directory}: not a GPT-2 that transformers loads ({reason}); run dvc repro export"
        ) from None
    # With output_loading_info from_pretrained returns a pair, unlike its annotation.
    network, loading = loaded
    # missing_keys, unexpected_keys, mismatched_keys and error_msgs, all empty if all is well
    faults = sorted(str(name) for kind in loading.values() for name in kind)
    if faults:
        raise PipelineError(
            f"{directory}: loads with missing or unexpected tensors: {', '.join(faults[:4])}"
        )
    model: GPT2LMHeadModel = network.to(device).eval()
    return model


def end_of_text(model: GPT2LMHeadModel) -> int:
    """Return the id that ends a text; raise PipelineError if config.json does not name one."""
    found = model.config.eos_token_id
    if not isinstance(found, int):
        raise PipelineError(
            f"{model.config.name_or_path}/config.json: eos_token_id: must be one id, not {found}"
        )
    return found
