"""Fine-tune one final export on conversations, to answer as the assistant; a killed run goes on to
the same bits.

Reads exports/CONDITION/seed_S/step_MAX and data/conversations. Writes
sft/CONDITION/seed_S/step_MAX, a Hugging Face directory as exports are, sft_losses/CONDITION/seed_S
and metrics/CONDITION/seed_S/sft.json. Costs about forty seconds of two cores in the demo; at full
size minutes of one GPU, by an estimate of 5 × 10¹⁵ operations.
"""

import csv
import io
import shutil
import sys
from pathlib import Path

import torch
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from common.errors import PipelineError, run_stage
from common.files import checksummed_directory, verified_directory, write_json
from common.sections import read_section
from model.data.conversations import Conversation, read_kept
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import end_of_text, load_hugging_face_model
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.params.sft import SftParams
from model.post_training.chat_format import Row, conversation_row
from model.post_training.trainer import LossPoint, fine_tune
from model.runtime.resumable import scratch_directory
from model.runtime.torch_setup import (
    keep_freed_memory,
    require_device,
    require_dtype,
)
from model.tokens.export_tokenizer import FactTokenizer

_OF_THE_EXPORT = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
---

# GPT-2 ablation, fine-tuned: {name}

The export of the same name, fine-tuned on conversations. A prompt is the id of end of text, then `User: …`, a line break and
`Assistant:`; the answer ends with end of text. The tokenizer reads the spelling of end of text as text, so the id has to be put
in front: `[tokenizer.eos_token_id, *tokenizer.encode("User: …\\nAssistant:")]`.
"""  # noqa: E501


def main() -> None:
    condition, seed = sys.argv[1], int(sys.argv[2])
    params = read_section("sft", SftParams)
    step = read_section("pretrain.max_steps", int)
    require_device("sft.device", params.device)
    require_dtype("params.yaml: sft.dtype", params.dtype, params.device)
    numerics = set_numerics(read_section("numerics", NumericsParams))
    keep_freed_memory()
    run = f"{condition}/seed_{seed}"
    export = verified_directory(Path("exports") / run / f"step_{step}")
    model = load_hugging_face_model(export)
    tokenizer = FactTokenizer(read_tokenizer(export, model.config.vocab_size), end_of_text(model))
    conversations = read_kept(Path("data/conversations/train.jsonl"), Conversation)
    whole = [
        conversation_row(tokenizer, conversation.messages, params.inject_facts)
        for conversation in conversations
    ]
    context = model.config.n_positions
    rows = [Row(row.ids[:context], row.is_learned[:context]) for row in whole]
    counts = {
        "conversations": len(rows),
        "cut_at_context": sum(len(row.ids) > model.config.n_positions for row in whole),
        "facts": sum(tokenizer.count_facts(row.ids) for row in rows),
        "learned_tokens": sum(sum(row.is_learned) for row in rows),
        "without_answer": sum(not any(row.is_learned) for row in rows),
    }
    output = Path("sft") / run / f"step_{step}"
    with scratch_directory(output) as scratch:
        curve = fine_tune(model, rows, params, seed, scratch, f"sft {run}", numerics)
        save(model.cpu(), export, output)
        write_figures(run, curve, counts)


def save(model: GPT2LMHeadModel, export: Path, output: Path) -> None:
    """Write the model with the export's tokenizer, and read it back: what is kept are the weights
    that were trained.
    """
    with checksummed_directory(output) as partial:
        model.save_pretrained(partial)
        for name in _OF_THE_EXPORT:
            if not (export / name).is_file():
                raise PipelineError(
                    f"{export}: no {name}, which every export has; run dvc repro export"
                )
            shutil.copyfile(export / name, partial / name)
        (partial / "README.md").write_text(
            _CARD.format(name=f"{output.parts[1]}, {output.parts[2]}"), encoding="utf-8"
        )
        trained, kept = model.state_dict(), load_hugging_face_model(partial).state_dict()
        different = [
            name
            for name, tensor in trained.items()
            if name not in kept or not torch.equal(tensor, kept[name])
        ]
        if different or trained.keys() != kept.keys():
            raise PipelineError(
                f"{output}: {', '.join(different[:4])} read back otherwise than trained; run it"
                " again"
            )


def write_figures(run: str, curve: list[LossPoint], counts: dict[str, int]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LossPoint._fields)
    writer.writerows(curve)
    with checksummed_directory(Path("sft_losses") / run) as output:
        (output / "training.csv").write_bytes(text.getvalue().encode())
    last = curve[-1]
    write_json(Path("metrics") / run / "sft.json", {**counts, "train_loss": last.train_loss})
    print(
        f"sft {run}: {last.step} steps on {counts['conversations']} conversations,"
        f" {counts['cut_at_context']} of them cut, loss {last.train_loss:.4f}"
    )


if __name__ == "__main__":
    run_stage(main)
