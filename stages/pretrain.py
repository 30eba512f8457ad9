"""Pretrain one condition with one seed; a killed run resumes from its newest state, bit for bit.

Reads data/tokens/CONDITION. Writes, for CONDITION/seed_S,

    checkpoints/   a directory step_N for each of pretrain.checkpoint_steps
    losses/        curves, and each validation document's loss at the last validation
    metrics/       pretrain.json: the last figures
    timings/       pretrain.json: how fast it was; no stage depends on it

docs/operations.md shows how to watch its figures while it trains. Costs about two minutes of two
cores in the demo; at full size hours of eight A100 (docs/first_full_size_run.md).
"""

import csv
import io
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from common.errors import PipelineError, run_stage
from common.files import atomic_directory, checksummed_directory, write_json
from common.sections import read_overridden, read_section
from model.network.canary import canary_rows, mean_loss
from model.network.checkpoints import CheckpointConfig, weights_sha256, write_checkpoint
from model.network.gpt import GPT, GPTConfig
from model.numerics.setting import Numerics, set_numerics
from model.params.network import NetworkParams
from model.params.numerics import NumericsParams
from model.params.pretrain import PretrainParams
from model.params.source_names import DRILL_SOURCE
from model.pretraining.document_losses import DocumentLoss
from model.pretraining.loop import History, Training, TrainingPoint, ValidationPoint
from model.pretraining.state import CHECKPOINT, RunStore
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation
from model.runtime.distributed import joined_processes
from model.runtime.live_figures import LiveFigures
from model.runtime.resumable import publish_piece, scratch_directory
from model.runtime.torch_setup import (
    keep_freed_memory,
    own_device,
    require_device,
    require_dtype,
)
from model.tokens.shards import TokenSplit

# How long a process waits for the others, of which one may be writing a state or a checkpoint, or
# compiling.
_PATIENCE = timedelta(hours=1)


def main() -> None:
    condition, seed = sys.argv[1], int(sys.argv[2])
    params = read_overridden("pretrain", f"conditions.{condition}.pretrain", PretrainParams)
    size = read_overridden("model", f"conditions.{condition}.model", NetworkParams)
    require_device("pretrain.device", params.device)
    require_dtype("params.yaml: pretrain.dtype", params.dtype, params.device)
    numerics = set_numerics(read_section("numerics", NumericsParams))
    keep_freed_memory()

    tokens = Path("data/tokens") / condition
    splits = {split: TokenSplit(tokens, split) for split in ("train", "val")}
    if splits["train"].index.condition != condition:
        raise PipelineError(
            f"{tokens}: holds the tokens of {splits['train'].index.condition}; rerun tokenize"
        )
    # The vocabulary's size comes from the tokens, not from params.yaml.
    config = GPTConfig(**size.model_dump(), vocab_size=splits["train"].index.vocab_size)
    # Of their own where one kind of chance is to be held fixed while the other varies.
    weight_seed = seed if params.weight_seed is None else params.weight_seed
    data_seed = seed if params.data_seed is None else params.data_seed
    run = f"{condition}/seed_{seed}"
    with joined_processes(params.device, _PATIENCE) as processes:
        device = own_device(params.device, processes.local_rank)
        model = GPT(config).initialize(torch.Generator().manual_seed(weight_seed)).to(device)
        begin_documents = params.document_starts == "row"
        rows = TrainingRows(
            splits["train"], config.context, data_seed, params.mixture, begin_documents
        )
        validation = Validation(
            splits["val"],
            params.validation_documents,
            config.context,
            DRILL_SOURCE,
            params.attention_within_documents,
        )
        canary, _ = canary_rows(splits["val"], params.canary_documents, config.context)
        saver = checkpoint_saver(condition, seed, params, numerics, canary.to(device))
        training = Training(model, rows, validation, params, numerics, processes, f"pretrain {run}")
        checkpoints = Path("checkpoints") / run
        with scratch_directory(checkpoints) if processes.rank == 0 else nullcontext() as scratch:
            store = RunStore(scratch, params.checkpoint_steps, saver, processes, f"pretrain {run}")
            live = LiveFigures(scratch, f"pretrain {run}", params.max_steps)
            history = training.run(store, live)
            if scratch:
                publish_checkpoints(scratch, checkpoints, params.checkpoint_steps)
                write_figures(run, history)
                write_json(Path("timings") / run / "pretrain.json", training.speed.summary())


def checkpoint_saver(
    condition: str, seed: int, params: PretrainParams, numerics: Numerics, canary: Tensor
) -> Callable[[Path, int, GPT], None]:
    """Return the function that writes a checkpoint to a directory, with its canary loss.

    `canary` is int64 (rows, context + 1). The function raises PipelineError if an earlier step
    saved the same weights: training has then stopped to change them.
    """

    def save(directory: Path, step: int, model: GPT) -> None:
        # A few rows at a time, since a document may be long.
        with torch.no_grad():
            parts = canary.split(numerics.rows_at_a_time(params.micro_batch_rows))
            # fsum, since Python 3.12 changed how `sum` rounds floats. Each mean counts as often as
            # it has rows.
            total = math.fsum(
                mean_loss(model(rows[:, :-1]), rows[:, 1:]) * len(rows) for rows in parts
            )
        config = CheckpointConfig(
            canary_documents=params.canary_documents,
            canary_loss=total / len(canary),
            condition=condition,
            network=model.config,
            seed=seed,
            step=step,
            tokens=step * params.batch_rows * model.config.context,
        )
        weights = write_checkpoint(directory, model, config)
        for other in sorted(directory.parent.glob("step_*")):
            if weights_sha256(other) == weights:
                same = f"{other.name.removeprefix('step_')} and {step}"
                raise PipelineError(
                    f"pretrain {condition}, seed {seed}: steps {same} have the same weights"
                )

    return save


def publish_checkpoints(scratch: Path, output: Path, steps: list[int]) -> None:
    """Put the checkpoints of `steps` from the scratch folder into the directory `output`."""
    with atomic_directory(output) as partial:
        for step in steps:
            publish_piece(scratch / f"{CHECKPOINT}{step}", partial / f"step_{step}")


def write_figures(run: str, history: History) -> None:
    """Write the curves, the documents' losses and the last figures; print the summary line."""
    with checksummed_directory(Path("losses") / run) as output:
        (output / "training.csv").write_bytes(csv_bytes(history.training))
        (output / "validation.csv").write_bytes(csv_bytes(history.validated))
        (output / "documents.csv").write_bytes(csv_bytes(history.documents))
    last = history.validated[-1]._asdict()
    figures = {
        **last,
        "loss_spikes": history.spikes.count,
        "train_loss": history.training[-1].train_loss,
    }
    write_json(Path("metrics") / run / "pretrain.json", figures)
    print(
        f"pretrain {run}: {last['tokens']} tokens, validation loss {last['val_loss']:.4f}, "
        f"{last['val_bits_per_byte']:.4f} bits per byte"
    )


def csv_bytes(
    points: list[TrainingPoint] | list[ValidationPoint] | list[DocumentLoss],
) -> bytes:
    """Return named tuples as CSV with a header; reading a float gives the same bits back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(points[0]._fields)
    writer.writerows(points)
    return text.getvalue().encode()


if __name__ == "__main__":
    run_stage(main)
