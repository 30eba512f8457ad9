"""Export one checkpoint to a Hub-ready directory that provably computes the same.

Reads checkpoints/CONDITION/seed_S/step_N and data/tokens/CONDITION (tokenizer and validation tokens).
Writes exports/CONDITION/seed_S/step_N and metrics/CONDITION/seed_S/step_N/parity.json.
Costs the import of transformers plus a second in the demo; half a minute at 124M.
"""

import sys
from pathlib import Path

from transformers.utils import logging

from model.canary import canary_rows
from model.checkpoints import load_model, read_checkpoint, weights_sha256
from model.errors import PipelineError, run_stage
from model.export_gate import verify_export
from model.files import checksummed_directory, write_json
from model.hf import build_hugging_face_model, export_table, hugging_face_config, map_tensors
from model.hf_tokenizer import to_hugging_face, verify_tokenizer
from model.model_card import model_card
from model.params.export import ExportParams
from model.section import read_section
from model.shards import TokenSplit
from model.tokenizer import Tokenizer
from model.torch_settings import set_deterministic


def main() -> None:
    condition, seed, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    params = read_section("export", ExportParams)
    set_deterministic(params.threads)
    run = Path(condition) / f"seed_{seed}" / f"step_{step}"
    checkpoint, tensors = read_checkpoint(Path("checkpoints") / run)
    if (checkpoint.condition, checkpoint.seed, checkpoint.step) != (condition, seed, step):
        raise PipelineError(f"checkpoints/{run}: holds {checkpoint.condition}, seed {checkpoint.seed}, step {checkpoint.step}")
    tokens = Path("data/tokens") / condition
    tokenizer = Tokenizer.load(tokens)
    network = checkpoint.network
    if network.vocab_size != tokenizer.size:
        raise PipelineError(f"checkpoints/{run}: vocabulary of {network.vocab_size}, {tokens} has one of {tokenizer.size}")
    validation = TokenSplit(tokens, "val")
    rows, documents = canary_rows(validation, checkpoint.canary_documents, network.context)
    texts = [tokenizer.decode(validation.document(number)[1:].tolist()) for number in documents]

    source = load_model(checkpoint, tensors)
    weights = weights_sha256(Path("checkpoints") / run)
    config = hugging_face_config(network, tokenizer.end_of_text)
    model = build_hugging_face_model(config, map_tensors(tensors, export_table(network.layers)))
    logging.disable_progress_bar()
    with checksummed_directory(Path("exports") / run) as output:
        model.save_pretrained(output)
        to_hugging_face(tokenizer, network.context).save_pretrained(output)
        parity = verify_export(output, source, tokenizer.end_of_text, rows, checkpoint.canary_loss, params.parity_tolerance)
        verify_tokenizer(output, tokenizer, texts)
        card = model_card(checkpoint, weights, model.num_parameters(), tokenizer.mul_facts, parity)
        (output / "README.md").write_text(card, encoding="utf-8")
    write_json(Path("metrics") / run / "parity.json", {**parity._asdict(), "weights_sha256": weights})
    print(f"export {run}: logits differ by at most {parity.max_abs_logit_difference:.2e} on {parity.tokens} tokens")


if __name__ == "__main__":
    run_stage(main)
