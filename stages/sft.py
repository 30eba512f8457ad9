"""Fine-tune one final export on conversations; a killed run resumes bit for bit.

The model learns what the assistant writes. Reads exports/CONDITION/seed_S/step_MAX and
data/conversations. Writes sft/CONDITION/seed_S/step_MAX, a Hugging Face directory like an export,
sft_losses/CONDITION/seed_S and metrics/CONDITION/seed_S/sft.json. Costs about forty seconds of two
cores in the demo; at full size minutes of one GPU, by an estimate of 5 × 10¹⁵ operations.
"""

import csv
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from common.errors import PipelineError, run_stage
from common.files import checksummed_directory, verified_directory, write_json
from common.sections import read_overridden, read_section
from model.data.conversations import Conversation, read_kept
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import end_of_text, load_hugging_face_model
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.params.sft import SftParams
from model.post_training.chat_format import Row, conversation_row
from model.post_training.chat_template import write_chat_tokenizer
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

The export of the same name, fine-tuned on conversations. {own}

A conversation is end of text, then a line for each message, `User: …` (or `System: …`), then
`Assistant:`, the answer and end of text. The chat template writes it so:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
messages = [{{"role": "user", "content": "A box has 6 rows of 9 eggs. How many eggs is that?"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
output = model.generate(
    **inputs, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.eos_token_id
)
answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
print(answer)
```

The same with a pipeline, and a second question after the answer:

```python
from transformers import pipeline

chat = pipeline("text-generation", model=".")
messages += [
    {{"role": "assistant", "content": answer}},
    {{"role": "user", "content": "And 7 rows of 8 eggs?"}},
]
print(chat(messages, max_new_tokens=24, do_sample=False)[0]["generated_text"][-1]["content"])
```

A message that spells `<|endoftext|>` is text: the template puts U+2060, a character without width, after its `<`.
Without the template this tokenizer reads that spelling as the token (the tokenizer of the export reads it as text).

If the condition has fact tokens, an answer shows them by their names, `<MUL_6_9_54>`. In a message such a name is text.
"""  # noqa: E501


def main() -> None:
    condition, seed = sys.argv[1], int(sys.argv[2])
    params = read_overridden("sft", f"conditions.{condition}.sft", SftParams)
    own = read_section(f"conditions.{condition}.sft", dict)
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
    # Longer conversations are cut at the context, and counted below.
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
        save(model.cpu(), export, output, own)
        write_figures(run, curve, counts)


def save(model: GPT2LMHeadModel, export: Path, output: Path, own: dict[str, Any]) -> None:
    """Write the model with the export's tokenizer and a card, and check it by reading it back.

    The card names the condition's `own` values of the section `sft`. Raises PipelineError if the
    weights that are read back are not those that were trained.
    """
    settings = ", ".join(f"sft.{key} {value}" for key, value in own.items())
    with checksummed_directory(output) as partial:
        model.save_pretrained(partial)
        for name in _OF_THE_EXPORT:
            if not (export / name).is_file():
                raise PipelineError(
                    f"{export}: no {name}, which every export has; run dvc repro export"
                )
            shutil.copyfile(export / name, partial / name)
        write_chat_tokenizer(partial)
        (partial / "README.md").write_text(
            _CARD.format(
                name=f"{output.parts[1]}, {output.parts[2]}",
                own=f"In place of params.yaml's values this condition has {settings}."
                if settings
                else "This condition has params.yaml's values of sft.",
            ),
            encoding="utf-8",
        )
        trained, kept = model.state_dict(), load_hugging_face_model(partial).state_dict()
        different = [
            name
            for name, tensor in trained.items()
            if name not in kept or not torch.equal(tensor, kept[name])
        ]
        if different or trained.keys() != kept.keys():
            raise PipelineError(
                f"{output}: {', '.join(different[:4])} differ from the trained weights when read"
                " back; run it again"
            )


def write_figures(run: str, curve: list[LossPoint], counts: dict[str, int]) -> None:
    """Write the loss curve and the run's metrics; print the summary line."""
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
