"""Simulate how often the intervals of `compare` cover the truth, and find a difference.

    python -m benchmarks.intervals [EXPERIMENTS]

Each experiment draws networks, items and answers whose truth is known, and calls the code that
`compare` calls. Prints the table of docs/lab_notes.md. If the conditions do not differ, it counts
coverage and false positives; if they do, how often the difference is found (power). The level is
.05 for one figure alone. Variances are those of the demonstration's networks. Takes ten minutes on
one core for 1,000 experiments of each row.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from model.statistics import paired
from model.statistics.paired import Comparison, Paired, Term, compare, compare_sum

Generator = np.random.Generator
Experiment = Callable[[Generator, int, float], Comparison]

# The part of an answer that the item decides. With 0.97, two networks differ in 6 % of the answers.
_ALIKE = 0.97


class Case(NamedTuple):
    """One kind of figure: its words, the true difference for power, and how to draw it.

    `experiment` maps a generator, the number of seeds and the true difference to a comparison.
    """

    words: str
    effect: float
    experiment: Experiment


def accuracies(
    generator: Generator,
    seeds: int,
    effect: float,
    items: int = 1000,
    of_seeds: float = 0.0025,
    alike: float = _ALIKE,
) -> Paired:
    """Draw the answers of two conditions, about 30 % right, by a probit model.

    `of_seeds` is the standard deviation of a network's accuracy over the whole population of items.
    """
    slope = 0.348  # d accuracy / d probit at 30 %: the normal density there
    ease = np.sqrt(alike) * generator.normal(size=items)
    arms = []
    for better in (0.0, effect):
        shifts = (better + of_seeds * generator.normal(size=(seeds, 1))) / slope
        noise = np.sqrt(1 - alike) * generator.normal(size=(seeds, items))
        arms.append((ease + shifts + noise > 0.524).astype(float))
    return Paired(arms[0], arms[1], np.ones(items), np.arange(items))


def losses(
    generator: Generator, seeds: int, effect: float, of_seeds: float = 0.002, documents: int = 767
) -> Paired:
    """Draw bits per byte by document; networks of one seed correlate by 0.8.

    Over all documents together, they shift a condition by 0.0009 bits per byte (standard
    deviation), and a single network by half of that.
    """
    weights = generator.integers(100, 1500, size=documents).astype(float)
    hard = generator.normal(2.2, 0.3, size=documents)
    shared = np.sqrt(0.8) * generator.normal(size=(seeds, 1))
    arms = []
    for better in (0.0, effect):
        own = np.sqrt(0.2) * generator.normal(size=(seeds, 1))
        suits = 0.0006 * np.sqrt(documents) * generator.normal(size=documents)
        noise = 0.0004 * np.sqrt(documents) * generator.normal(size=(seeds, documents))
        arms.append((hard + better + of_seeds * (shared + own) + suits + noise) * weights)
    return Paired(arms[0], arms[1], weights, np.arange(documents))


def _accuracy(of_seeds: float) -> Experiment:
    def experiment(generator: Generator, seeds: int, effect: float) -> Comparison:
        return compare(accuracies(generator, seeds, effect, of_seeds=of_seeds), True)

    return experiment


def _loss(of_seeds: float) -> Experiment:
    def experiment(generator: Generator, seeds: int, effect: float) -> Comparison:
        return compare(losses(generator, seeds, effect, of_seeds), False)

    return experiment


def _checkpoints(count: int) -> Experiment:
    """Return an experiment on the mean of `count` checkpoints.

    Each checkpoint changes its answer to 2.65 % of the items. This gives the measured errors:
    0.0083 for one checkpoint, 0.0054 for the mean of four.
    """

    def experiment(generator: Generator, seeds: int, effect: float) -> Comparison:
        run = accuracies(generator, seeds, effect, alike=0.998)
        means = []
        for answers in run[:2]:
            drawn = [
                np.where(generator.random(answers.shape) < 0.0265, 1 - answers, answers)
                for _ in range(count)
            ]
            means.append(np.mean(drawn, axis=0))
        return compare(run._replace(first=means[0], second=means[1]), True)

    return experiment


def _tasks(generator: Generator, seeds: int, effect: float) -> Comparison:
    """Compare the mean over five tasks of (accuracy - chance) / (1 - chance), with chance 0.25."""
    both = generator.normal(size=(2, seeds, 1))  # a network's advantage in all tasks together
    terms = []
    for _ in range(5):
        task = accuracies(generator, seeds, 0.75 * effect, items=500)
        moved = 0.003 * both
        first, second = (
            _moved(arm, by, generator) for arm, by in zip(task[:2], moved, strict=True)
        )
        scale = 1 / 5 / 0.75
        terms.append(
            Term(task._replace(first=first, second=second), scale=scale, offset=-0.25 * scale)
        )
    return compare_sum(terms, True)


def _moved(answers: np.ndarray, by: np.ndarray, generator: Generator) -> np.ndarray:
    """Make the share `by`, (seeds, 1), of each network's answers right, or wrong if negative."""
    drawn = generator.random(answers.shape)
    share = np.where(by > 0, by / (1 - answers.mean()), -by / answers.mean())
    changed = (drawn < share) & (answers == np.where(by > 0, 0.0, 1.0))
    return np.where(changed, 1 - answers, answers)


CASES = {
    "accuracy, u 0.0025": Case("accuracy of 1,000 items, u 0.0025", 0.02, _accuracy(0.0025)),
    "accuracy, u 0.005": Case("the same, u 0.005", 0.02, _accuracy(0.005)),
    "one checkpoint": Case("the last of 4 checkpoints, u 0.0025", 0.015, _checkpoints(1)),
    "checkpoints": Case("the mean of 4 checkpoints, u 0.0025", 0.015, _checkpoints(4)),
    "tasks": Case("task score of 5 tasks of 500 items, u 0.004", 0.015, _tasks),
    "loss, u 0.001": Case("bits per byte of 767 documents, u 0.001", 0.003, _loss(0.001)),
    "loss, u 0.002": Case("the same, u 0.002", 0.005, _loss(0.002)),
    "loss, u 0.011": Case("the same, u 0.011", 0.02, _loss(0.011)),
}
SEEDS = (1, 2, 3, 5)


class Found(NamedTuple):
    """Shares of experiments: without a difference, covered and false positives; with one, found."""

    covered: float
    false: float
    power: float


def simulate(case: Case, seeds: int, experiments: int) -> Found:
    """Return the shares for `case` with `seeds` networks of each condition."""
    null, real = (
        [
            case.experiment(np.random.default_rng([number, seeds]), seeds, effect)
            for number in range(experiments)
        ]
        for effect in (0.0, case.effect)
    )
    intervals = [each.seeds_interval_95 or each.items_interval_95 for each in null]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    false, power = (np.mean([each.p < 0.05 for each in found]) for found in (null, real))
    return Found(float(covered), float(false), float(power))


def main() -> None:
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    paired.RESAMPLES = 199
    print(f"{experiments} experiments each, with and without a difference")
    print("| Figure | Difference | Seeds | Covers | False positives | Power |")
    print("|---|---:|---:|---:|---:|---:|")
    for case in CASES.values():
        for seeds in SEEDS:
            found = simulate(case, seeds, experiments)
            shares = " | ".join(f"{share:.3f}" for share in found)
            print(f"| {case.words} | {case.effect:+g} | {seeds} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
