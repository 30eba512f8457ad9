"""Raw checkpoints: model.safetensors with nanoGPT's names, and config.json with the network."""

from pathlib import Path

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import PipelineError
from common.files import json_bytes, sha256_file, verified
from common.sections import Section, read_json
from model.network.gpt import GPT, GPTConfig

# The output layer shares its weight with the token embedding. It is stored once, under the
# embedding's name.
_TIED = "lm_head.weight"
_WEIGHTS = "model.safetensors"


class CheckpointConfig(Section):
    """config.json: the network, the run and step of its weights, and their canary loss.

    `canary_loss` is in nats per token. Training measured it with these weights on
    `canary_documents` documents spread over the validation split (model/network/canary.py). An
    export with another canary loss was made from other weights.
    """

    canary_documents: int = Field(gt=0)
    canary_loss: float
    condition: str
    network: GPTConfig
    seed: int
    step: int
    tokens: int


def write_checkpoint(directory: Path, model: GPT, config: CheckpointConfig) -> str:
    """Write a checkpoint's files into `directory`; return the SHA-256 of its weights.

    The caller writes the directory's checksums. `model` is the network itself, not a wrapper that
    renames its parameters.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(
        {name: tensor for name, tensor in tensors.items() if name != _TIED}, directory / _WEIGHTS
    )
    (directory / "config.json").write_bytes(json_bytes(config.model_dump()))
    return weights_sha256(directory)


def weights_sha256(directory: Path) -> str:
    """Return the SHA-256 of the checkpoint's weights file."""
    return sha256_file(directory / _WEIGHTS)


def read_checkpoint(directory: Path) -> tuple[CheckpointConfig, dict[str, Tensor]]:
    """Return the config and the tensors by name.

    Raises PipelineError if a file is missing, or is not the one that was written.
    """
    config = read_json(verified(directory / "config.json"), CheckpointConfig)
    weights = verified(directory / _WEIGHTS)
    try:
        return config, load_file(weights)
    except SafetensorError as error:
        raise PipelineError(f"{weights}: not readable as safetensors ({error})") from None


def load_model(config: CheckpointConfig, tensors: dict[str, Tensor]) -> GPT:
    """Return the network with the checkpoint's tensors, in evaluation mode.

    Raises PipelineError for a tensor that is missing, unknown or of another shape.
    """
    _require_size(config, tensors)
    model = GPT(config.network)
    try:
        # `state_dict` lists the shared weight under both names, so strict loading needs both.
        model.load_state_dict({**tensors, _TIED: tensors["transformer.wte.weight"]}, strict=True)
    except (RuntimeError, KeyError) as error:
        faults = " ".join(str(error).split())
        raise PipelineError(
            f"checkpoint step {config.step}: does not fit its network: {faults}"
        ) from None
    return model.eval()


def _require_size(config: CheckpointConfig, tensors: dict[str, Tensor]) -> None:
    """Raise PipelineError if the config's sizes do not fit the tensors.

    It runs before the network is built: a wrong size in config.json could ask for more memory than
    the machine has.
    """
    network = config.network
    for name, shape in (
        ("transformer.wte.weight", (network.vocab_size, network.width)),
        ("transformer.wpe.weight", (network.context, network.width)),
    ):
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise PipelineError(
                f"checkpoint step {config.step}: does not fit its network: {name} is not of shape "
                f"{shape}"
            )
    # Each layer has several tensors, so this bound refuses only absurd counts. `load_state_dict`
    # compares the names exactly.
    if network.layers > len(tensors):
        raise PipelineError(
            f"checkpoint step {config.step}: does not fit its network: no tensors for "
            f"{network.layers} layers"
        )
