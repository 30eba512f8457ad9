"""Raw checkpoints: model.safetensors with nanoGPT's names, and config.json with what rebuilds the network."""

from pathlib import Path

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.errors import PipelineError
from model.files import atomic_directory, json_bytes, sha256_file
from model.gpt import GPT, GPTConfig
from model.section import Section, read_json

# The output layer shares its weight with the token embedding; it is stored once, under the embedding's name.
_TIED = "lm_head.weight"


class CheckpointConfig(Section):
    """What stands in config.json: the network, where in which run the weights come from, and their SHA-256."""

    condition: str
    network: GPTConfig
    seed: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    step: int
    tokens: int


def save_checkpoint(directory: Path, model: GPT, condition: str, seed: int, step: int, tokens: int) -> None:
    """Write the checkpoint atomically; `model` is the network itself, not a wrapper that renames its parameters."""
    with atomic_directory(directory) as partial:
        weights = partial / "model.safetensors"
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file({name: tensor for name, tensor in tensors.items() if name != _TIED}, weights)
        config = CheckpointConfig(
            condition=condition, network=model.config, seed=seed, sha256=sha256_file(weights), step=step, tokens=tokens
        )
        (partial / "config.json").write_bytes(json_bytes(config.model_dump()))


def read_checkpoint(directory: Path) -> tuple[CheckpointConfig, dict[str, Tensor]]:
    """Return the config and the tensors by name; raises PipelineError where the weights are not those written."""
    config = read_json(directory / "config.json", CheckpointConfig)
    weights = directory / "model.safetensors"
    if not weights.is_file() or sha256_file(weights) != config.sha256:
        raise PipelineError(f"{weights}: missing or altered since it was written; run dvc repro pretrain")
    try:
        return config, load_file(weights)
    except SafetensorError as error:
        raise PipelineError(f"{weights}: not readable as safetensors ({error})") from None


def load_model(config: CheckpointConfig, tensors: dict[str, Tensor]) -> GPT:
    """Return the network with the checkpoint's tensors; a missing, extra or misshapen tensor is an error."""
    model = GPT(config.network)
    try:
        model.load_state_dict({**tensors, _TIED: tensors["transformer.wte.weight"]}, strict=True)
    except (RuntimeError, KeyError) as error:
        faults = " ".join(str(error).split())
        raise PipelineError(f"checkpoint step {config.step}: does not fit its network: {faults}") from None
    return model.eval()
