"""The part `generation`: greedy continuations at 124M, ours and transformers' `generate`.

The network is random, so no text ends early and no row leaves its batch: all rows compute all new
tokens, in both ways. On a trained model ours gains more (benchmarks/generate.py).
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from benchmarks.scoring import random_gpt2
from model.hugging_face.loading import load_hugging_face_model
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.post_training.decoding import continue_greedily

ROUNDS = 3
Answer = Callable[[list[list[int]]], list[list[int]]]


def measure(rehearse: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return prompts a second of both ways, their ratio, and how many texts are the same."""
    count, rows, new_tokens = (6, 3, 4) if rehearse else (256, 64, 96)
    numerics = set_numerics(NumericsParams(kernels="native", threads=torch.get_num_threads()))
    with tempfile.TemporaryDirectory() as folder:
        size = {"n_layer": 2, "n_head": 2, "n_embd": 32} if rehearse else {}
        random_gpt2(Path(folder), **size)
        model = load_hugging_face_model(Path(folder)).to("cpu" if rehearse else "cuda")
    generator = random.Random(0)
    prompts = [
        [generator.randrange(50256) for _ in range(generator.randint(16, 160))]
        for _ in range(count)
    ]

    def ours(prompts: list[list[int]]) -> list[list[int]]:
        label = "generation"
        found = continue_greedily(model, prompts, new_tokens, rows, label, numerics.side_by_side)
        return [continuation.ids for continuation in found]

    ways = {"ours": ours, "transformers": _with_generate(model, rows, new_tokens)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, list[list[int]]] = {}
    for number in range(ROUNDS + 1):
        for way, answer in ways.items():
            began = time.perf_counter()
            answers[way] = answer(prompts)  # as lists, so the device has finished
            if number:
                seconds[way].append(time.perf_counter() - began)
    ratios = [their / our for our, their in zip(*seconds.values(), strict=True)]
    same = sum(one == other for one, other in zip(*answers.values(), strict=True))
    return {
        "prompts": count,
        "new_tokens": new_tokens,
        "batch_rows": rows,
        "prompts_per_second": round(count / statistics.median(seconds["ours"]), 1),
        "transformers_prompts_per_second": round(
            count / statistics.median(seconds["transformers"]), 1
        ),
        "ratio": [round(v, 3) for v in (statistics.median(ratios), min(ratios), max(ratios))],
        "same_texts": f"{same} of {count}",
    }


def _with_generate(model: GPT2LMHeadModel, rows: int, new_tokens: int) -> Answer:
    """Return a function that calls `generate` on batches of prompts of similar length."""
    last = int(model.config.eos_token_id)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, eos_token_id=last, pad_token_id=last
    )

    def answer(prompts: list[list[int]]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
        for start in range(0, len(order), rows):
            places = order[start : start + rows]
            width = max(len(prompts[place]) for place in places)
            # (rows, width), padded on the left
            padded = [[last] * (width - len(prompts[p])) + prompts[p] for p in places]
            masks = [[0] * (width - len(prompts[p])) + [1] * len(prompts[p]) for p in places]
            ids, mask = (torch.tensor(each, device=model.device) for each in (padded, masks))
            texts = model.generate(ids, attention_mask=mask, generation_config=settings)
            for place, row in zip(places, texts[:, width:].tolist(), strict=True):
                found[place] = row[: row.index(last)] if last in row else row
        return found

    return answer
