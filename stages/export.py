"""Export one checkpoint to a directory for the hub, after proving that it computes the same.

Reads checkpoints/CONDITION/seed_S/step_N and data/tokens/CONDITION (tokenizer and validation
tokens). Writes exports/CONDITION/seed_S/step_N and metrics/CONDITION/seed_S/step_N/parity.json. The
gate (model/export/gate.py) stops the stage unless files, weights and logits agree with the
checkpoint. Costs the import of transformers plus a second in the demo, half a minute at 124M
parameters.
"""

import sys
from pathlib import Path

from transformers.utils import logging

from common.errors import run_stage
from common.files import write_json
from common.sections import read_overridden, read_section
from model.conditions.words import settings
from model.export.gate import Parity, keep_export, read_source
from model.export.model_card import model_card
from model.export.writing import write_export
from model.numerics.setting import set_numerics
from model.params.export import ExportParams
from model.params.numerics import NumericsParams
from model.params.tokenize import TokenizeParams


def main() -> None:
    condition, seed, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    params = read_section("export", ExportParams)
    set_numerics(read_section("numerics", NumericsParams))
    logging.disable_progress_bar()
    run = Path(condition) / f"seed_{seed}" / f"step_{step}"
    checkpoint, tokens = Path("checkpoints") / run, Path("data/tokens") / condition
    chosen = read_overridden("tokenize", f"conditions.{condition}.tokenize", TokenizeParams)
    own = {
        "tokenize": read_section(f"conditions.{condition}.tokenize", dict),
        "model": read_section(f"conditions.{condition}.model", dict),
        "pretrain": read_section(f"conditions.{condition}.pretrain", dict),
    }
    source, config, weights = read_source(checkpoint, tokens, (condition, seed, step), chosen)

    def card(parity: Parity) -> str:
        parameters = sum(parameter.numel() for parameter in source.model.parameters())
        return model_card(
            config, weights, parameters, source.tokenizer.mul_facts, settings(own), parity
        )

    parity = keep_export(
        Path("exports") / run,
        lambda output: write_export(checkpoint, tokens, output),
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


if __name__ == "__main__":
    run_stage(main)
