"""`make plan`: the formula, by simulation too, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from repository import REPOSITORY

from common.errors import PipelineError
from model.comparison.outcomes import VALIDATION, Outcomes
from model.comparison.outcomes_file import Key, outcome_lines
from model.statistics.over_seeds import Student, over_seeds
from tools.plan import look, plan, seeds_needed


def outcomes(seeds: int, of_seeds: float = 0.002, documents: int = 700) -> dict[Key, Outcomes]:
    generator = np.random.default_rng(1)
    weights = generator.integers(100, 900, documents).astype(float)
    hard, suits = generator.normal(2, 0.2, documents), 0.01 * generator.normal(size=documents)
    found = {}
    for seed in range(seeds):
        for number, condition in enumerate(("baseline", "other")):
            rate = hard + of_seeds * generator.normal() + suits * number
            found[Key(condition, seed, "step 9", VALIDATION)] = Outcomes(
                rate * weights,
                weights,
                [str(n) for n in range(documents)],
                "ab",
                False,
                role="primary",
            )
    return found


def command(path: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tools.plan", *arguments],
        cwd=path.parent,
        env={"PYTHONPATH": str(REPOSITORY)},
        text=True,
        capture_output=True,
    )


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(outcome_lines(outcomes(5)))
    return path


def test_a_smaller_difference_needs_more_seeds_and_the_least_needs_items(path):
    [seen] = look(VALIDATION, path)
    assert seen.of_network == pytest.approx(0.002**2, rel=1.0)
    needed = [seeds_needed(x, seen.of_network, seen.of_items) for x in (0.02, 0.005, 0.002)]
    assert needed == sorted(needed)
    assert seeds_needed(0.001, seen.of_network, 0.0005**2) is None
    words = plan(0.005, VALIDATION, path)
    assert words[0] == (
        f"other, validation (bits per byte, less is better): a true difference of 0.005 is found"
        f" four times in five, at .05 for this figure alone, with {needed[1]} seeds of each"
        " condition."
    )
    assert "five it takes more than" in words[2]


@pytest.mark.parametrize("of_items", [0.0, 0.001])
def test_so_many_seeds_find_the_difference_four_times_in_five(of_items):
    """Of normal figures by seed, by the very interval that `compare` has."""
    generator, difference, u = np.random.default_rng(0), 0.005, 0.0025
    seeds = seeds_needed(difference, u**2, of_items**2)
    items = Student(max(of_items, 1e-6), 700)
    found = []
    for _ in range(2000):
        first, second = u * generator.normal(size=(2, seeds))
        true = difference + of_items * generator.normal()
        two = over_seeds(first, second + true, items, own=0.0, is_paired=True)
        found.append(two.p(float((second - first).mean()) + true) < 0.05)
    assert 0.78 <= np.mean(found) <= 0.92


def test_one_seed_does_not_tell(tmp_path):
    (tmp_path / "one.jsonl").write_text(outcome_lines(outcomes(1)))
    with pytest.raises(PipelineError, match="has 1 of seeds and 2 of conditions; how much seeds"):
        look(VALIDATION, tmp_path / "one.jsonl")


def test_an_unknown_figure_and_a_missing_file_are_one_line(path):
    for arguments, message in (
        (("--figure", "gsm"), "no figure 'gsm', but validation"),
        (("--outcomes", "nowhere"), "nowhere: cannot be read"),
    ):
        done = command(path, "0.01", "--outcomes", str(path), *arguments)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith("error: plan: ")
        assert message in line


def test_a_difference_of_nothing_is_a_wrong_argument(path):
    assert command(path, "0").returncode == 2


def test_with_one_seed_here_the_committed_run_of_five_seeds_tells(path):
    """Of an experiment with seeds of its own, its own count."""
    for folder, seeds in (("metrics", 1), ("docs/seeds", 5)):
        (path.parent / folder).mkdir(parents=True)
        (path.parent / folder / "outcomes.jsonl").write_text(outcome_lines(outcomes(seeds)))
    assert command(path, "0.01").stdout.startswith("By docs/seeds/outcomes.jsonl:\n")
    (path.parent / "metrics/outcomes.jsonl").write_text(outcome_lines(outcomes(4)))
    said = command(path, "0.01").stdout
    assert said.startswith("By metrics/outcomes.jsonl:\n")
    assert "From 4 seeds" in said
