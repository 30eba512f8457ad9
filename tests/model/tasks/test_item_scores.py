"""Figures of items whose numbers of endings differ."""

import math

import numpy as np
import pytest

from model.tasks.item_scores import ItemScore, chance, is_acc_norm_right, is_acc_right, summarize
from model.tasks.wordings import WORDINGS


def score(ind: int, nats: list[float], label: int, characters: list[int]) -> ItemScore:
    lengths = [count + 1 for count in characters]
    return ItemScore(ind, f"s{ind}", label, nats, lengths, characters, lengths)


MIXED = [
    score(0, [3.0, 2.0], 1, [2, 2]),
    score(1, [9.0, 8.0, 7.0], 0, [9, 4, 2]),
    score(2, [5.0, 4.0, 3.0, 2.0, 1.0], 4, [1, 1, 1, 1, 1]),
]


def test_each_item_is_answered_among_its_own_endings():
    assert is_acc_right(MIXED).tolist() == [True, False, True]
    # Per character the second item's first ending is the likeliest.
    assert is_acc_norm_right(MIXED, WORDINGS["lm_eval"]).tolist() == [True, True, True]


def test_chance_is_the_mean_of_one_over_the_endings():
    assert chance(MIXED) == pytest.approx((1 / 2 + 1 / 3 + 1 / 5) / 3)
    assert summarize(MIXED, WORDINGS["lm_eval"])["chance"] == chance(MIXED)
    assert chance([score(0, [1.0] * 4, 0, [1] * 4)] * 7) == 0.25


def test_a_guesser_is_right_as_often_as_chance_says():
    generator = np.random.default_rng(0)
    counts = generator.integers(2, 6, 20_000)
    guessed = [
        score(n, generator.random(count).tolist(), int(generator.integers(count)), [1] * count)
        for n, count in enumerate(counts.tolist())
    ]
    assert is_acc_right(guessed).mean() == pytest.approx(chance(guessed), abs=0.012)


def test_bits_per_byte_are_of_the_true_endings():
    found = summarize(MIXED, WORDINGS["lm_eval"])["gold_bits_per_byte"]
    assert found == pytest.approx((2 + 9 + 1) / math.log(2) / (3 + 10 + 2))
