"""Greedy continuations of prompts, in batches that lose each row when its text ends.

transformers' own `generate` gives the same tokens and computes every row until the last one ends.
Few answers are long: of the demonstration's, half have 13 tokens at most, and one in a batch 96.
"""

from typing import Any, NamedTuple

import torch
from tqdm import tqdm
from transformers import DynamicCache
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from common.errors import PipelineError
from model.hugging_face.loading import end_of_text
from model.numerics.side_by_side import SideBySide


class Continuation(NamedTuple):
    """What follows a prompt, without the end of text; `stopped` tells whether there was one."""

    ids: list[int]
    stopped: bool


def continue_greedily(
    model: GPT2LMHeadModel,
    prompts: list[list[int]],
    new_tokens: int,
    batch_rows: int,
    label: str,
    threads: SideBySide,
) -> list[Continuation]:
    """Return the ids that follow each prompt: at most `new_tokens`, none from end of text on.

    Prompts of similar length share batches, and each batch is computed by one thread. Shorter ones
    are padded on the left; the mask hides the padding, and positions do not count it. Raises
    PipelineError for a prompt that leaves no room.
    """
    room = model.config.n_positions - new_tokens
    longest = max(prompts, key=len, default=[])
    if len(longest) > room:
        raise PipelineError(
            f"{label}: a prompt of {len(longest)} tokens and {new_tokens} new ones exceed the "
            "model's context of "
            f"{model.config.n_positions}; lower new_tokens or raise model.context"
        )
    # The longest first, so that no thread begins a long batch when the others are done.
    by_length = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    batches = [
        by_length[start : start + batch_rows] for start in range(0, len(prompts), batch_rows)
    ]
    with tqdm(total=len(prompts), desc=label, unit="prompt", disable=None) as progress:

        def answer(places: list[int]) -> list[Continuation]:
            found = _continue(model, [prompts[place] for place in places], new_tokens)
            progress.update(len(places))
            return found

        answers = threads.map(answer, batches)
    continuations = [Continuation([], False)] * len(prompts)
    for places, found in zip(batches, answers, strict=True):
        for place, continuation in zip(places, found, strict=True):
            continuations[place] = continuation
    return continuations


def _continue(
    model: GPT2LMHeadModel, prompts: list[list[int]], new_tokens: int
) -> list[Continuation]:
    """Return the continuations of one batch."""
    network: Any = model  # its annotations lack what is passed here
    last = end_of_text(model)
    width = max(map(len, prompts))
    # (rows, width), padded on the left
    ids = torch.tensor(
        [[last] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device
    )
    mask = torch.tensor(
        [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device
    )
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    found: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    places = list(range(len(prompts)))  # of the rows that go on
    for _ in range(new_tokens):
        # The threads do not have the caller's gradient mode.
        with torch.no_grad():
            logits = network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)  # (rows, 1)
        tokens = ids[:, 0].tolist()
        for place, token in zip(places, tokens, strict=True):
            if token == last:
                stopped[place] = True
            else:
                found[place].append(token)
        going = [row for row, token in enumerate(tokens) if token != last]
        if not going:
            break
        positions = positions[:, -1:] + 1
        if len(going) < len(places):
            rows = torch.tensor(going, device=model.device)
            places = [places[row] for row in going]
            ids, mask, positions = ids[rows], mask[rows], positions[rows]
            cache.batch_select_indices(rows)
        mask = torch.cat([mask, mask.new_ones(len(going), 1)], dim=1)
    return [Continuation(*pair) for pair in zip(found, stopped, strict=True)]
