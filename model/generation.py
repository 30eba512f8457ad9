"""Greedy continuations of prompts, by transformers' own `generate`."""

from collections import defaultdict

import torch
from tqdm import tqdm
from transformers import GenerationConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from model.errors import PipelineError


def continue_greedily(
    model: GPT2LMHeadModel, prompts: list[list[int]], new_tokens: int, batch_rows: int, label: str
) -> list[list[int]]:
    """Return the ids that follow each prompt: at most `new_tokens`, none from end of text on.

    Prompts of one length share batches, so that none is padded. Replaces `model.generation_config`. Raises PipelineError for
    a prompt that leaves no room.
    """
    room = model.config.n_positions - new_tokens
    longest = max(prompts, key=len, default=[])
    if len(longest) > room:
        raise PipelineError(
            f"{label}: a prompt of {len(longest)} tokens and {new_tokens} new ones exceed the model's context of "
            f"{model.config.n_positions}; lower probes.new_tokens or raise model.context"
        )
    end_of_text = model.config.eos_token_id
    # Instead of the export's own: what a call sets would be mixed with it, a repetition penalty, say.
    model.generation_config = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=new_tokens, eos_token_id=end_of_text, pad_token_id=end_of_text
    )
    places = defaultdict(list)
    for place, prompt in enumerate(prompts):
        places[len(prompt)].append(place)
    batches = [group[at : at + batch_rows] for _, group in sorted(places.items()) for at in range(0, len(group), batch_rows)]
    continuations: list[list[int]] = [[] for _ in prompts]
    with tqdm(total=len(prompts), desc=label, unit="prompt", disable=None) as progress:
        for batch in batches:
            rows = torch.tensor([prompts[place] for place in batch], device=model.device)
            # Without a mask, `generate` would take the end of text that a document begins with for padding.
            output = model.generate(rows, attention_mask=torch.ones_like(rows))
            for place, row in zip(batch, output[:, rows.shape[1] :].tolist(), strict=True):
                continuations[place] = row[: row.index(end_of_text)] if end_of_text in row else row
            progress.update(len(batch))
    return continuations
