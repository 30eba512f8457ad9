"""Greedy continuations of prompts, by transformers' own `generate`."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import GenerationConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from common.errors import PipelineError
from model.hugging_face.loading import end_of_text


class Continuation(NamedTuple):
    """What follows a prompt, without the end of text; `stopped` tells whether there was one."""

    ids: list[int]
    stopped: bool


def continue_greedily(
    model: GPT2LMHeadModel, prompts: list[list[int]], new_tokens: int, batch_rows: int, label: str
) -> list[Continuation]:
    """Return the ids that follow each prompt: at most `new_tokens`, none from end of text on.

    Prompts of like length share batches; shorter ones are padded on the left, where the mask hides it and positions are not
    counted. Replaces `model.generation_config`. Raises PipelineError for a prompt that leaves no room.
    """
    room = model.config.n_positions - new_tokens
    longest = max(prompts, key=len, default=[])
    if len(longest) > room:
        raise PipelineError(
            f"{label}: a prompt of {len(longest)} tokens and {new_tokens} new ones exceed the model's context of "
            f"{model.config.n_positions}; lower new_tokens or raise model.context"
        )
    last = end_of_text(model)
    # Instead of the export's own: what a call sets would be mixed with it, a repetition penalty, say.
    model.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=new_tokens,
        eos_token_id=last,
        pad_token_id=last,
    )
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    continuations: list[Continuation] = [Continuation([], False)] * len(prompts)
    with tqdm(total=len(prompts), desc=label, unit="prompt", disable=None) as progress:
        for start in range(0, len(prompts), batch_rows):
            places = by_length[start : start + batch_rows]
            for place, ids in zip(
                places,
                _continue(model, [prompts[place] for place in places], last),
                strict=True,
            ):
                stopped = last in ids
                continuations[place] = Continuation(
                    ids[: ids.index(last)] if stopped else ids, stopped
                )
            progress.update(len(places))
    return continuations


def _continue(model: GPT2LMHeadModel, prompts: list[list[int]], padding: int) -> list[list[int]]:
    width = max(map(len, prompts))
    rows = torch.tensor(
        [[padding] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device
    )
    # Without it, `generate` would take the end of text that a document begins with for padding.
    mask = torch.tensor(
        [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device
    )
    generator: Any = model  # transformers annotates `generate` for other classes than its GPT-2
    found: Tensor = generator.generate(rows, attention_mask=mask)
    continuations: list[list[int]] = found[:, width:].tolist()
    return continuations
