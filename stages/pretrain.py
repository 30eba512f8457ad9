"""Pretrain one condition with one seed.

Reads data/tokens/CONDITION. Writes checkpoints/CONDITION/seed_S (a step_N directory for each of
pretrain.checkpoint_steps), losses/CONDITION/seed_S and metrics/CONDITION/seed_S/pretrain.json.
Costs about two minutes of two cores in the demo; at full size days of one A100 (see README).
"""

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from model.batches import TrainingRows
from model.canary import canary_rows, mean_loss
from model.checkpoints import CheckpointConfig, save_checkpoint
from model.errors import PipelineError, run_stage
from model.files import atomic_directory, checksummed_directory, write_json
from model.gpt import GPT, GPTConfig
from model.params.network import NetworkParams
from model.params.pretrain import PretrainParams
from model.section import read_section
from model.shards import TokenSplit
from model.source_names import DRILL_SOURCE
from model.torch_settings import keep_freed_memory, require_device, set_deterministic
from model.training import Validation, train


def main() -> None:
    condition, seed = sys.argv[1], int(sys.argv[2])
    params = read_section("pretrain", PretrainParams)
    size = read_section("model", NetworkParams)
    require_device("pretrain.device", params.device)
    set_deterministic(params.threads)
    keep_freed_memory()

    tokens = Path("data/tokens") / condition
    splits = {split: TokenSplit(tokens, split) for split in ("train", "val")}
    config = GPTConfig(**size.model_dump(), vocab_size=splits["train"].index.vocab_size)
    model = GPT(config).initialize(torch.Generator().manual_seed(seed)).to(params.device)
    rows = TrainingRows(splits["train"], config.context, seed)
    validation = Validation(splits["val"], params.validation_documents, config.context, DRILL_SOURCE)

    canary, _ = canary_rows(splits["val"], params.canary_documents, config.context)

    run = f"{condition}/seed_{seed}"
    with atomic_directory(Path("checkpoints") / run) as output:
        save = checkpoint_saver(output, condition, seed, params, canary.to(params.device))
        training, validated = train(model, rows, validation, params, save, f"pretrain {run}")
    with checksummed_directory(Path("losses") / run) as output:
        (output / "training.csv").write_bytes(csv_bytes(training))
        (output / "validation.csv").write_bytes(csv_bytes(validated))
    last = validated[-1]._asdict()
    write_json(Path("metrics") / run / "pretrain.json", {**last, "train_loss": training[-1].train_loss})
    print(
        f"pretrain {run}: {last['tokens']} tokens, validation loss {last['val_loss']:.4f}, "
        f"{last['val_bits_per_byte']:.4f} bits per byte"
    )


def checkpoint_saver(
    output: Path, condition: str, seed: int, params: PretrainParams, canary: Tensor
) -> Callable[[int, GPT], None]:
    """Return what writes a checkpoint to `output`; it refuses weights that an earlier step saved already."""
    step_of: dict[str, int] = {}

    def save(step: int, model: GPT) -> None:
        with torch.no_grad():
            canary_loss = mean_loss(model(canary[:, :-1]), canary[:, 1:])
        config = CheckpointConfig(
            canary_documents=params.canary_documents,
            canary_loss=canary_loss,
            condition=condition,
            network=model.config,
            seed=seed,
            step=step,
            tokens=step * params.batch_rows * model.config.context,
        )
        weights = save_checkpoint(output / f"step_{step}", model, config)
        if weights in step_of:
            raise PipelineError(f"pretrain {condition}, seed {seed}: steps {step_of[weights]} and {step} have the same weights")
        step_of[weights] = step

    return save


def csv_bytes(points: list) -> bytes:
    """Return named tuples as CSV with a header; floats are written so that reading gives the same bits back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(points[0]._fields)
    writer.writerows(points)
    return text.getvalue().encode()


if __name__ == "__main__":
    run_stage(main)
