"""A family of comparisons in words, in tables and as data; and two revisions of one repository compared."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from committed import committed_tree
from conftest import REPOSITORY

from model.comparison import Comparison
from model.outcome_file import Key, outcome_lines
from model.outcomes import Outcomes
from model.verdict import (
    FIELDS,
    Row,
    compare_outcomes,
    comparison_json,
    comparison_table,
    differences_csv,
    headline,
    judge,
    limits,
    sentences,
)


def comparison(p: float, seeds: int = 1, difference: float = 0.02) -> Comparison:
    several = seeds > 1
    return Comparison(
        first=0.30,
        second=0.30 + difference,
        difference=difference,
        items=1000,
        seeds=seeds,
        items_interval_95=(-0.01, 0.05),
        items_p=0.5 if several else p,
        mcnemar_p=None if several else 0.4,
        seeds_interval_95=(-0.03, 0.07) if several else None,
        seeds_p=p if several else None,
        detectable=0.043,
    )


def family(*p_values: float, seeds: int = 1, models: tuple[str, ...] = ("step 5",), second: str = "mul_tokens"):
    return judge(
        [Row(model, f"Figure {n}", "accuracy", second, comparison(p, seeds)) for model in models for n, p in enumerate(p_values)]
    )


def test_no_difference_is_a_sentence():
    words = sentences("baseline", family(0.04, 0.5, 0.9))
    [headline] = words
    assert headline.startswith("No comparison of 3 finds a difference (p < 0.05 after Holm's correction). With one seed each")
    assert sentences("baseline", []) == ["There is nothing to compare."]


def test_a_difference_names_both_values_the_interval_and_p():
    words = sentences("baseline", family(0.0001, 0.5))
    assert words[0].startswith("1 of 2 comparisons find a difference (p < 0.05 after Holm's correction).")
    assert words[1] == "step 5, Figure 0: mul_tokens 0.3200, baseline 0.3000, difference +0.0200 (-0.0100 to +0.0500), p < 0.001."


def test_one_seed_is_no_evidence_for_the_condition():
    assert "not settings" in sentences("baseline", family(0.0001))[0]
    several = sentences("baseline", family(0.0001, seeds=3))
    assert not any("settings" in line for line in several)
    assert several[0].startswith("1 of 1 comparisons find a difference")
    assert "(-0.0300 to +0.0700)" in several[1]


def test_what_cannot_be_seen_is_said_once_for_a_figure_of_its_last_checkpoint():
    assert limits(family(0.5, models=("step 5", "step 9", "fine-tuned"))) == [
        f"mul_tokens, {model}, Figure 0: with 1,000 items and one seed, differences under 0.0430 cannot be seen reliably "
        "(80% power, no correction)."
        for model in ("step 9", "fine-tuned")
    ]
    assert "with 1,000 items and 3 seeds" in limits(family(0.5, seeds=3))[0]


def test_the_table_has_a_row_for_each_comparison():
    lines = comparison_table("baseline", family(0.0001, 0.5)).markdown().splitlines()
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert lines[2].startswith("| Model | Figure | n | baseline | mul_tokens | Difference |")
    cells = "0.3000 | 0.3200 | +0.0200 | -0.0100 to +0.0500 | 0.500 | 0.400 | 0.500 | 0.0430 |"
    assert lines[-1] == f"| step 5 | Figure 1 | 1,000 | {cells}"
    both = [*family(0.5), *family(0.5, second="third")]
    assert "| third 0.3200 |" in comparison_table("baseline", both).markdown(), "with two others a cell says which"


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_json_and_the_chart_have_what_was_computed(seeds):
    [judged] = family(0.03, seeds=seeds)
    found = comparison_json(judged)
    assert found["holm_p"] == 0.03
    assert (found["model"], found["figure"], found["condition"]) == ("step 5", "Figure 0", "mul_tokens")
    assert found.keys() >= set(Comparison._fields)
    [row] = csv.DictReader(io.StringIO(differences_csv([judged]).decode()))
    assert tuple(row) == FIELDS
    low, high = found["seeds_interval_95"] or found["items_interval_95"]
    assert (float(row["low"]), float(row["high"]), float(row["difference"])) == (low, high, found["difference"])


def test_the_headline_has_a_few_figures_of_the_models_named():
    shown = headline("baseline", family(0.5, 0.6, models=("step 5", "step 9")), {"step 9": "pretrained", "fine-tuned": "tuned"})
    figure = {"baseline": 0.3, "mul_tokens": 0.32, "mul_tokens_difference": 0.02, "mul_tokens_holm_p": 1.0}
    assert shown == {"pretrained": {"figure_0": figure, "figure_1": figure}, "tuned": {}}


def outcomes(values: list[float], items: str = "ab", clusters: list[str] | None = None) -> Outcomes:
    return Outcomes(np.array(values), np.ones(len(values)), clusters or list(map(str, range(len(values)))), items, True)


def test_outcomes_of_other_items_are_not_compared():
    arms = [outcomes([1, 0, 1])], [outcomes([1, 1, 1])]
    assert compare_outcomes("step 5", "Figure", "other", arms).comparison.difference == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="step 5, Figure: answered 2 sets of items"):
        compare_outcomes("step 5", "Figure", "other", (arms[0], [outcomes([1, 1, 1], items="cd")]))


def test_an_ending_that_one_context_cuts_elsewhere_is_left_out_of_bits_per_byte():
    def bits(values: list[float], weights: list[float]) -> Outcomes:
        return Outcomes(np.array(values), np.array(weights), list("pqrs"), "ab", False)

    whole, cut = bits([10, 20, 30, 99], [10, 10, 10, 10]), bits([12, 22, 32, 5], [10, 10, 10, 2])
    compared = compare_outcomes("step 5", "Figure", "other", ([whole], [cut])).comparison
    assert (compared.items, compared.first, compared.second) == (3, 2.0, pytest.approx(2.2))
    assert compare_outcomes("step 5", "Figure", "other", ([whole], [whole])).comparison.items == 4
    with pytest.raises(ValueError, match="0 items in 0 clusters"):
        compare_outcomes("step 5", "Figure", "other", ([whole], [bits([1, 1, 1, 1], [9, 9, 9, 9])]))


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> dict[Key, Outcomes]:
    """A repository whose main has two figures of four seeds; 200 items, half of them right."""
    monkeypatch.chdir(tmp_path)
    found = {
        Key("baseline", seed, "step 5", figure): outcomes([n % 2 for n in range(200)])
        for seed in (1, 2, 3, 4)
        for figure in ("one", "other")
    }
    Path("metrics").mkdir()
    git("init", "-q", "-b", "main")
    Path("empty").write_text("")
    git("add", "-A")
    git("commit", "-qm", "before")
    write(found)
    git("add", "-A")
    git("commit", "-qm", "results")
    return found


def write(found: dict[Key, Outcomes]) -> None:
    Path("metrics/outcomes.jsonl").write_text(outcome_lines(found))


def verdict(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.verdict", *arguments]
    return subprocess.run(command, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True)


def test_a_revision_with_the_same_outcomes_is_no_difference(repository):
    lines = verdict("main").stdout.splitlines()
    assert "2 of 2 figures have the same outcome for every item." in lines
    assert not any("|" in line for line in lines)


def test_a_planted_difference_between_revisions_is_found_and_named(repository):
    better = {
        key: of._replace(values=np.array([float(n % 2 or n % 5 == 0) for n in range(200)])) if key.figure == "one" else of
        for key, of in repository.items()
    }
    write(better)
    said = verdict("main").stdout
    assert "1 of 1 comparisons find a difference" in said
    assert "baseline, step 5, one: working tree 0.6000, main 0.5000, difference +0.1000" in said
    assert "1 of 2 figures have the same outcome for every item." in said


def test_what_cannot_be_compared_is_said(repository):
    changed = {
        (key._replace(seed=9) if key.seed == 2 else key): of._replace(items="other") if key.figure == "other" else of
        for key, of in repository.items()
    }
    write(changed)
    said = verdict("main").stdout
    assert "1 figures cannot be compared: baseline, step 5, other: answered 2 sets of items" in said
    assert "2 figures are only in main: baseline, seed 2, step 5" in said
    assert "2 figures are only in the working tree: baseline, seed 9, step 5" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "error: verdict: .*nowhere.*; name a revision that has run compare"),
        (("main~1",), "error: verdict: metrics/outcomes.jsonl at main~1; name a revision that has run compare"),
    ],
)
def test_a_revision_that_has_no_outcomes_is_one_line(repository, arguments, message):
    done = verdict(*arguments)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert re.match(message, line)


@pytest.mark.parametrize("damage", ['{"figure": 1}', "{", '{"items": "ab", "clusters": []}'])
def test_damaged_outcomes_are_named(repository, damage):
    text = Path("metrics/outcomes.jsonl").read_text()
    Path("metrics/outcomes.jsonl").write_text(damage + "\n" + "\n".join(text.splitlines()[1:]))
    done = verdict("main")
    assert done.returncode == 1
    assert "error: verdict: metrics/outcomes.jsonl: not the compare stage's" in done.stderr
    Path("metrics/outcomes.jsonl").unlink()
    assert "run make repro" in verdict("main").stderr


def test_the_committed_comparisons_are_of_the_committed_outcomes():
    """What `make verdict` reads in place of scores/ is what `compare` compared."""
    from model.outcome_file import parse_outcomes

    tree = committed_tree()
    found = parse_outcomes(tree.read("metrics/outcomes.jsonl").decode(), "metrics/outcomes.jsonl")
    compared = json.loads(tree.read("plots/comparisons.json"))
    for said in compared["comparisons"]:
        for side, condition in (("first", compared["first"]), ("second", said["condition"])):
            mine = [of for key, of in found.items() if key[0] == condition and key[2:] == (said["model"], said["figure"])]
            total, weight = (sum(float(part.sum()) for part in parts) for parts in zip(*(of[:2] for of in mine), strict=True))
            assert said[side] == pytest.approx(total / weight, abs=1e-6)
            assert {len(of.values) for of in mine} == {said["items"]}
