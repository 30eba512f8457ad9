"""Export one checkpoint to a Hub-ready directory that provably computes the same.

Reads checkpoints/CONDITION/seed_S/step_N and data/tokens/CONDITION (tokenizer and validation
tokens). Writes exports/CONDITION/seed_S/step_N, through the gate of model/export/gate.py, and
metrics/CONDITION/seed_S/step_N/parity.json. Costs the import of transformers plus a second in the
demo; half a minute at 124M.
"""

import sys
from importlib import import_module
from pathlib import Path

from transformers.utils import logging

from common.errors import run_stage
from common.files import write_json
from common.sections import read_section
from model.export.gate import Parity, keep_export, read_source
from model.export.hf_tokenizer import to_hugging_face
from model.export.model_card import model_card
from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.network.checkpoints import read_checkpoint
from model.numerics.setting import set_numerics
from model.params.export import ExportParams
from model.params.numerics import NumericsParams
from model.tokens.bpe import Tokenizer


def main() -> None:
    condition, seed, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    params = read_section("export", ExportParams)
    set_numerics(read_section("numerics", NumericsParams))
    logging.disable_progress_bar()
    run = Path(condition) / f"seed_{seed}" / f"step_{step}"
    checkpoint, tokens = Path("checkpoints") / run, Path("data/tokens") / condition
    chosen = import_module(f"model.conditions.{condition}").CONDITION
    source, config, weights = read_source(checkpoint, tokens, (condition, seed, step), chosen)

    def card(parity: Parity) -> str:
        parameters = sum(parameter.numel() for parameter in source.model.parameters())
        return model_card(config, weights, parameters, source.tokenizer.mul_facts, parity)

    parity = keep_export(
        Path("exports") / run,
        lambda output: write(checkpoint, tokens, output),
        source,
        card,
        params.parity_tolerance,
    )
    write_json(
        Path("metrics") / run / "parity.json", {**parity._asdict(), "weights_sha256": weights}
    )
    print(
        f"export {run}: logits differ by at most {parity.max_abs_logit_difference:.2e} on"
        f" {parity.tokens} tokens"
    )


def write(checkpoint: Path, tokens: Path, output: Path) -> None:
    """Write model and tokenizer; the gate, which has read both for itself, decides whether they are
    kept.
    """
    config, tensors = read_checkpoint(checkpoint)
    tokenizer = Tokenizer.load(tokens)
    hugging_face = hugging_face_config(config.network, tokenizer.end_of_text)
    build_hugging_face_model(
        hugging_face, map_tensors(tensors, export_table(config.network.layers))
    ).save_pretrained(output)
    to_hugging_face(tokenizer, config.network.context).save_pretrained(output)


if __name__ == "__main__":
    run_stage(main)
