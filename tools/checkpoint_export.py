"""Export a checkpoint to a temporary directory, for commands that read exports."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import PipelineError
from common.files import CHECKSUMS, verified_directory
from common.sections import read_json, read_overridden, read_section
from model.params.export import ExportParams
from model.params.tokenize import TokenizeParams
from model.runtime.resumable import publish


def is_checkpoint(directory: Path) -> bool:
    """Return whether a directory holds a checkpoint of `pretrain`, or a part of one."""
    config = directory / "config.json"
    if not config.is_file():  # a training run is still writing it, under a hidden name
        return directory.name.startswith(".step_") or directory.parent.name == "checkpoints"
    try:
        return "canary_loss" in json.loads(config.read_bytes())
    except ValueError:  # whoever loads the model reports the fault
        return False


@contextmanager
def exported(checkpoint: Path) -> Iterator[tuple[Path, str]]:
    """Export a checkpoint as the stage `export` does, through the same gate; delete it at the end.

    Yields the export, and the gate's result in words. The checkpoint may lie in the scratch folder
    of a run that trains now. It is linked or copied first, because that run deletes it at its end.
    Nothing is written beside it. Raises PipelineError if the checkpoint is incomplete.
    """
    from transformers.utils import logging  # seconds

    from model.export.gate import keep_export, read_source
    from model.export.writing import write_export
    from model.network.checkpoints import CheckpointConfig

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        own = _copied(checkpoint, Path(folder) / "checkpoint")
        config = read_json(own / "config.json", CheckpointConfig)
        name = config.condition
        tokens = Path("data/tokens") / name
        chosen = read_overridden("tokenize", f"conditions.{name}.tokenize", TokenizeParams)
        source, _, _ = read_source(own, tokens, (name, config.seed, config.step), chosen)
        export = Path(folder) / "export"
        parity = keep_export(
            export,
            lambda output: write_export(own, tokens, output),
            source,
            lambda _: "",
            read_section("export", ExportParams).parity_tolerance,
        )
        yield (
            export,
            f"{checkpoint}: exported for this; logits differ by at most "
            f"{parity.max_abs_logit_difference:.2e} on {parity.tokens} tokens",
        )


def _copied(checkpoint: Path, own: Path) -> Path:
    if checkpoint.is_dir() and not (checkpoint / CHECKSUMS).is_file():
        raise PipelineError(
            f"{checkpoint}: not a whole checkpoint, since it has no {CHECKSUMS}; if a run is "
            "writing it, wait a moment"
        )
    own.mkdir()
    try:
        for file in sorted(checkpoint.iterdir()):
            publish(file, own / file.name)
    except FileNotFoundError:
        raise PipelineError(
            f"{checkpoint}: was deleted while it was copied; a run that has finished leaves its "
            "checkpoints in checkpoints/CONDITION/seed_S"
        ) from None
    return verified_directory(own)
