"""Tokens one by one: greedy ones are the stage's, drawn ones follow seed and probabilities."""

from collections import Counter

import pytest
import torch
from tiny_fine_tuning import PARAMS, new_project
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from model.numerics.side_by_side import SideBySide
from model.post_training.decoding import continue_greedily
from tools.ask.sampling import Sampling, draw, next_tokens

LOGITS = torch.tensor([0.0, 2.0, 1.5, -1.0, 2.5, 0.5, -3.0])


@pytest.fixture(scope="module")
def project(tmp_path_factory, tokenizer):
    return new_project(tmp_path_factory.mktemp("gpt2"), tokenizer)


@pytest.fixture(scope="module")
def model(project, tmp_path_factory):
    short = PARAMS.model_copy(update={"max_steps": 20})
    return project.train(tmp_path_factory.mktemp("states"), short)[0]


def prompts(project) -> list[list[int]]:
    return [row.ids[:length] for row, length in zip(project.rows, (1, 5, 12, 20), strict=False)]


def test_greedy_tokens_are_those_of_batches(project, model):
    new = 16
    batched = continue_greedily(model, prompts(project), new, 2, "test", SideBySide(1))
    for prompt, (ids, stopped) in zip(prompts(project), batched, strict=True):
        end = [project.tokenizer.end_of_text] * stopped
        assert list(next_tokens(model, prompt, new, Sampling())) == ids + end


def test_a_seed_gives_the_same_tokens_again_and_another_seed_others(project, model):
    prompt = prompts(project)[1]

    def drawn(seed: int) -> list[int]:
        torch.manual_seed(seed + 1)  # of no matter
        return list(next_tokens(model, prompt, 16, Sampling(temperature=2.0, seed=seed)))

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(4)}) == 4


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("top_k", [None, 1, 3, 99])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.6, 0.9, 1.0])
def test_tokens_are_drawn_as_often_as_transformers_would(temperature, top_k, top_p):
    scores = TemperatureLogitsWarper(temperature)(None, LOGITS[None])
    if top_k:
        scores = TopKLogitsWarper(min(top_k, len(LOGITS)))(None, scores)
    if top_p:
        scores = TopPLogitsWarper(top_p)(None, scores)
    expected = scores[0].softmax(0).tolist()
    generator, draws = torch.Generator().manual_seed(0), 400
    sampling = Sampling(temperature, top_k, top_p)
    counts = Counter(draw(LOGITS, sampling, generator) for _ in range(draws))
    for token, share in enumerate(expected):
        assert (counts[token] > 0) <= (share > 0)
        # Four standard errors.
        assert abs(counts[token] / draws - share) <= 4 * (share * (1 - share) / draws) ** 0.5


def test_without_a_temperature_the_most_likely_token_is_taken():
    assert draw(LOGITS, Sampling(top_k=3, seed=5), torch.Generator()) == 4
