"""Write a checkpoint as a Hugging Face directory, which model/export/gate.py then verifies."""

from pathlib import Path

from model.export.hf_tokenizer import to_hugging_face
from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.network.checkpoints import read_checkpoint
from model.tokens.bpe import Tokenizer


def write_export(checkpoint: Path, tokens: Path, output: Path) -> None:
    """Write the model of `checkpoint` and the tokenizer of `tokens` into the directory `output`.

    The gate reads the checkpoint and the tokenizer itself and compares.
    """
    config, tensors = read_checkpoint(checkpoint)
    tokenizer = Tokenizer.load(tokens)
    hugging_face = hugging_face_config(config.network, tokenizer.end_of_text)
    build_hugging_face_model(
        hugging_face, map_tensors(tensors, export_table(config.network.layers))
    ).save_pretrained(output)
    to_hugging_face(tokenizer, config.network.context).save_pretrained(output)
