"""Continue one prompt token by token, greedily or by seeded sampling, so that a person can follow.

The network is called as in model/post_training/decoding.py for a batch of one prompt, so greedy
tokens are those of the stage `generate`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from model.hugging_face.loading import end_of_text


class Sampling(NamedTuple):
    """How a token is drawn from logits; with a temperature of 0 it is the most likely one.

    In order: divide the logits by `temperature`, keep the `top_k` most likely tokens, of these keep
    the fewest with a joint probability of `top_p`, draw one. Each prompt starts from `seed` again.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


def next_tokens(
    model: GPT2LMHeadModel, prompt: list[int], new_tokens: int, sampling: Sampling
) -> Iterator[int]:
    """Yield the ids that follow `prompt`: at most `new_tokens`, up to the end of text.

    Prompt and new tokens together must fit the model's context.
    """
    network: Any = model  # its annotations lack arguments that are passed here
    last = end_of_text(model)
    generator = torch.Generator().manual_seed(sampling.seed)
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prompt], device=model.device)  # (1, tokens)
    mask = torch.ones_like(ids)
    positions = mask.cumsum(1) - 1
    for _ in range(new_tokens):
        with torch.no_grad():
            logits = network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        token = draw(logits[0, -1], sampling, generator)
        yield token
        if token == last:
            return
        ids = torch.tensor([[token]], device=model.device)
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Return one id, drawn by `logits`  (vocab,)."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    # On the CPU in float64, so that the same logits and seed give the same token on every device.
    # ranked.values (vocab,), largest first; a stable sort fixes the order of equal logits.
    ranked = (logits.double().cpu() / sampling.temperature).sort(descending=True, stable=True)
    likely = ranked.values[: sampling.top_k].softmax(0)
    if sampling.top_p is not None:
        # Probabilities .5 .3 .2 have sums before each of 0 .5 .8; top_p = .6 keeps the first two.
        # The first sum is 0, so one token is always kept.
        likely = likely[likely.cumsum(0) - likely < sampling.top_p]
    sums = likely.cumsum(0)
    point = torch.rand((), generator=generator, dtype=torch.float64) * sums[-1]
    place = int(torch.searchsorted(sums, point, right=True))
    return int(ranked.indices[min(place, len(sums) - 1)])
