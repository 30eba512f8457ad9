"""Find and load a model: an export, a fine-tuned model, a checkpoint, or one of the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common.errors import PipelineError
from tools.checkpoint_export import exported, is_checkpoint
from tools.model_copies import verified_copy

if TYPE_CHECKING:  # they import torch and transformers: seconds
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    from model.tokens.export_tokenizer import FactTokenizer


class Model(NamedTuple):
    """A network with its tokenizer; if it `chats`, prompts go to it in the chat format."""

    name: str
    network: GPT2LMHeadModel
    tokenizer: FactTokenizer
    chats: bool


def find_model(name: str) -> Path:
    """Return the directory of a model, by its path or by its name in the hub's local cache.

    Raises PipelineError if there is none, or if a file differs from its SHA256SUMS.
    """
    directory = Path(name)
    if not directory.is_dir():
        directory = _cached(name)
    if not (directory / "config.json").is_file():
        found = sorted(path.parent for path in directory.glob("**/config.json"))
        below = f"; {found[-1]} is one" if found else ""
        raise PipelineError(f"{name}: no model's directory, since it has no config.json{below}")
    return verified_copy(directory)


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        folder = Path(name).parent
        others = sorted(path.name for path in folder.glob("*/")) if folder.name else []
        beside = f"; {folder} has {', '.join(others[:8])}" if others else ""
        raise PipelineError(
            f"{name}: no such directory, and no model of that name in the hub's local cache{beside}"
        ) from None


def load_model(name: str, directory: Path, device: str) -> Model:
    """Load the model in a directory that `find_model` has found."""
    if not is_checkpoint(directory):
        return _load(name, directory, device)
    with exported(directory) as (export, gate):
        print(gate, file=sys.stderr)
        return _load(name, export, device)


def _load(name: str, directory: Path, device: str) -> Model:
    from model.hugging_face.directory import read_tokenizer
    from model.hugging_face.loading import end_of_text, load_hugging_face_model
    from model.post_training.chat_template import CHAT_TEMPLATE, CHAT_TEMPLATE_FILE
    from model.tokens.export_tokenizer import FactTokenizer

    network = load_hugging_face_model(directory, device)
    tokenizer = FactTokenizer(
        read_tokenizer(directory, network.config.vocab_size), end_of_text(network)
    )
    template = directory / CHAT_TEMPLATE_FILE
    chats = template.is_file() and template.read_bytes() == CHAT_TEMPLATE.encode()
    if template.is_file() and not chats:
        print(f"{name}: has another chat template; its text is continued", file=sys.stderr)
    return Model(name, network, tokenizer, chats)
