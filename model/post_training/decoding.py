"""Greedy continuations of prompts, in batches from which a row is removed when its text ends.

transformers' own `generate` gives the same tokens, but computes every row until the last one ends.
Few answers are long: in the demonstration half have at most 13 tokens, and one in a batch has 96.
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
    """The ids after a prompt, without end of text. `stopped`: the model ended the text."""

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
    """Return at most `new_tokens` ids after each prompt, up to end of text, each the likeliest.

    Prompts of similar length share a batch of `batch_rows`; one of the `threads` computes a batch.
    Shorter prompts are padded on the left, which changes nothing: the mask hides the padding, and
    positions do not count it. Raises PipelineError for a prompt that leaves no room for
    `new_tokens` in the model's context.
    """
    room = model.config.n_positions - new_tokens
    longest = max(prompts, key=len, default=[])
    if len(longest) > room:
        raise PipelineError(
            f"{label}: a prompt of {len(longest)} tokens and {new_tokens} new ones exceed the "
            "model's context of "
            f"{model.config.n_positions}; lower new_tokens or raise model.context"
        )
    # Longest first, so that no thread starts a long batch when the others have finished.
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
    """Return the continuations of one batch.

    The prompts [a b c] and [d e], with E for end of text:

        ids      a b c     mask   1 1 1     positions   0 1 2
                 E d e            0 1 1                 0 0 1

    The first step reads all of it and caches its keys and values. Each further step reads one token
    a row. If the second row ends, it is removed from all tensors and from the cache.
    """
    # Any: the model's annotations lack arguments that are passed here.
    network: Any = model
    last = end_of_text(model)
    width = max(map(len, prompts))
    # (rows, time), padded on the left
    ids = torch.tensor(
        [[last] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device
    )
    mask = torch.tensor(
        [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device
    )
    # (rows, time): tokens before this one that are not padding
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    # For each layer keys and values, (rows, heads, tokens read, head width).
    cache = DynamicCache(config=model.config)
    found: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    # The prompt of each row that is still in the batch.
    places = list(range(len(prompts)))
    for _ in range(new_tokens):
        # Set here: whether torch records gradients is a setting of each thread.
        with torch.no_grad():
            logits = network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        # (rows, 1, vocab) to (rows, 1), the next step's input
        ids = logits[:, -1].argmax(-1, keepdim=True)
        tokens = ids[:, 0].tolist()
        for place, token in zip(places, tokens, strict=True):
            if token == last:
                stopped[place] = True
            else:
                found[place].append(token)
        going = [row for row, token in enumerate(tokens) if token != last]
        if not going:
            break
        # (rows, 1)
        positions = positions[:, -1:] + 1
        if len(going) < len(places):
            rows = torch.tensor(going, device=model.device)
            places = [places[row] for row in going]
            ids, mask, positions = ids[rows], mask[rows], positions[rows]
            cache.batch_select_indices(rows)
        # (rows, tokens read + 1): the mask covers the cache and the new token.
        mask = torch.cat([mask, mask.new_ones(len(going), 1)], dim=1)
    return [Continuation(*pair) for pair in zip(found, stopped, strict=True)]
