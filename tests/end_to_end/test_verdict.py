"""A family of comparisons in words, in tables and as data; and two revisions of one repository
compared.
"""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from committed import committed_tree
from outcome_sample import outcomes
from repository import REPOSITORY

from model.comparison.difference_tables import (
    FIELDS,
    comparison_json,
    comparison_table,
    differences_csv,
    headline,
)
from model.comparison.family import Row, compare_outcomes, judge
from model.comparison.outcomes import Outcomes, Role
from model.comparison.outcomes_file import Key, outcome_lines
from model.comparison.runs import TASK_SCORE, TRUE_ANSWERS
from model.comparison.verdict import limits, sentences
from model.statistics.over_seeds import OverSeeds, Student
from model.statistics.paired import Comparison
from pipeline.declared.lockfile import md5_of
from tools.verdict.revisions import replicate_table


def comparison(
    p: float, seeds: int = 1, difference: float = 0.02, is_answers: bool = True
) -> Comparison:
    several = seeds > 1
    return Comparison(
        first=0.30,
        second=0.30 + difference,
        difference=difference,
        items=1000,
        seeds=seeds,
        clusters=500,
        crossed=None,
        effective_clusters=480.0,
        items_interval_95=(-0.01, 0.05),
        items_p=0.5 if several else p,
        mcnemar_p=None if several else 0.4,
        seeds_interval_95=(-0.03, 0.07) if several else None,
        seeds_p=p if several else None,
        spread=(0.011, 0.012) if several else None,
        is_answers=is_answers,
        student=Student(0.015, 499),
        signs=None,
        over_seeds=OverSeeds(Student(0.01, 4), Student(0.015, 499), 0.5) if several else None,
    )


def family(
    *p_values: float,
    seeds: int = 1,
    models: tuple[str, ...] = ("step 5",),
    second: str = "mul_tokens",
    role: Role = "secondary",
):
    return judge(
        [
            Row(model, f"Figure {n}", "accuracy", second, comparison(p, seeds), role=role)
            for model in models
            for n, p in enumerate(p_values)
        ]
    )


def losses(*p_values: float, seeds: int = 1, role: Role = "secondary"):
    return [
        Row(
            "step 5",
            f"Loss {n}",
            "bits per byte",
            "mul_tokens",
            comparison(p, seeds, is_answers=False),
            role=role,
        )
        for n, p in enumerate(p_values)
    ]


def test_no_difference_is_a_sentence():
    assert sentences("baseline", family(0.04, 0.5, 0.9)) == [
        "Nothing here is evidence about the conditions. "
        "These two networks differ by more than other items explain in none of 3 figures."
    ]
    assert sentences("baseline", family(0.04, 0.5, 0.9, seeds=3)) == [
        "0 of 3 comparisons of secondary figures find one (p < 0.05 after Holm's correction)."
    ]
    assert sentences("baseline", []) == ["There is nothing to compare."]


def test_the_primary_figure_is_tested_alone_and_described_ones_never():
    """Whatever the many described figures show, 0.04 of the primary one is a difference."""
    rows = [
        *(row._replace(figure="validation") for row in losses(0.04, seeds=3, role="primary")),
        *losses(0.02, 0.5, seeds=3),
        *losses(*[1e-6] * 30, seeds=3, role=""),
    ]
    judged = judge(rows)
    assert [each.holm_p for each in judged[:3]] == [0.04, 0.04, 0.5]
    assert [each.comparisons for each in judged[:3]] == [1, 2, 2]
    assert all((each.holm_p, each.detectable) == (None, None) for each in judged[3:])
    assert sum(each.is_different for each in judged) == 2
    assert sentences("baseline", judged)[0] == (
        "mul_tokens differs from baseline in the primary figure, validation bits per byte: +0.0200 "
        "(-0.0300 to +0.0700), p 0.040, 3 seeds each. "
        "1 of 2 comparisons of secondary figures find one (p < 0.05 after Holm's correction)."
    )
    assert len(sentences("baseline", judged)) == 3
    assert len(limits(judged)) == 3, "what is described has no limit"
    described = comparison_json(judged[3])
    assert (described["seeds_p"], described["items_p"], described["differs"]) == (None, None, False)
    two = [*rows, *(row._replace(second="third") for row in rows)]
    assert [each.comparisons for each in judge(two)[:2]] == [2, 4], "by Holm over the conditions"
    assert "2 of 2 comparisons of the primary" not in sentences("baseline", judge(two))[0]
    assert "0 of 2 comparisons of the primary figure" in sentences("baseline", judge(two))[0]


def test_a_difference_names_both_values_the_interval_and_p():
    words = sentences("baseline", family(0.0001, 0.5, seeds=3))
    assert words[0].startswith("1 of 2 comparisons of secondary figures find one (p < 0.05 after")
    assert (
        words[1]
        == "step 5, Figure 0: mul_tokens 0.3200, baseline 0.3000, difference +0.0200 (-0.0300 to"
        " +0.0700), p < 0.001."
    )


@pytest.mark.parametrize(
    ("rows", "figures"),
    [
        (losses(0.0001, 0.0001), "2 of 2 figures, both bits per byte"),
        (losses(0.0001, 0.5), "1 of 2 figures, bits per byte"),
        (losses(0.0001, 0.0001, 0.0001), "3 of 3 figures, all bits per byte"),
        ([row for row, *_ in family(0.0001, 0.5)], "1 of 2 figures, an accuracy"),
        ([row for row, *_ in family(0.0001, 0.0001, 0.5)], "2 of 3 figures, both accuracies"),
        (
            [*losses(0.0001, 0.0001), *(row for row, *_ in family(0.0001, 0.5))],
            "3 of 4 figures, 2 of them bits per byte",
        ),
    ],
)
def test_with_one_seed_nothing_is_said_about_conditions(rows, figures):
    words = sentences("baseline", judge(rows))
    assert (
        words[0] == "Nothing here is evidence about the conditions. "
        f"These two networks differ by more than other items explain in {figures}; "
        "the same code with another seed, or in another order of sums, may differ by as much."
    )
    assert not any(", p " in line for line in words if "Loss" in line)
    others = [row._replace(second="third") for row in rows]
    assert (
        "These networks differ from that of baseline by more"
        in sentences("baseline", judge([*rows, *others]))[0]
    )
    assert (
        sentences("main", judge(rows), is_revisions=True)[0]
        == f"The working tree differs from main by more than other items explain in {figures}."
        " Where networks were trained again that may be chance: "
        "the same code with another seed, or in another order of sums, may differ by as much."
    )


def test_losses_of_one_seed_have_no_p_anywhere():
    """They count in the correction, and are said to differ where items do not explain it."""
    judged = judge([*losses(0.0001), *(row for row, *_ in family(0.02))])
    loss, accuracy = map(comparison_json, judged)
    assert (loss["items_p"], loss["seeds_p"], loss["holm_p"], loss["detectable"]) == (
        None,
        None,
        None,
        None,
    )
    assert (loss["differs"], accuracy["holm_p"]) == (True, 0.02)
    line = comparison_table("baseline", judged).markdown().splitlines()[4]
    assert line.endswith("| -0.0100 to +0.0500 |  |  |  |")
    [first, _] = csv.DictReader(io.StringIO(differences_csv(judged).decode()))
    assert (first["holm_p"], first["detectable"], first["differs"]) == ("", "", "yes")
    assert (
        "Loss 0 (bits per byte, less is better): with 1,000 items and one seed, no p: two networks"
        in limits(judged)[0]
    )
    [several] = judge(losses(0.0001, seeds=3, role="primary"))
    assert comparison_json(several)["holm_p"] == 0.0001


def test_what_cannot_be_seen_is_said_once_for_a_figure_of_its_last_checkpoint():
    assert limits(family(0.5, models=("step 5", "step 9", "fine-tuned"))) == [
        f"mul_tokens, {model}, Figure 0: with 1,000 items and one seed, differences under 0.0487"
        " cannot be seen reliably (80% power, corrected for 3 comparisons)."
        for model in ("step 9", "fine-tuned")
    ]
    assert "with 1,000 items and 3 seeds" in limits(family(0.5, seeds=3))[0]


def test_what_is_detectable_is_so_for_the_number_of_comparisons():
    alone, *_ = family(0.5)
    among, *_ = family(*[0.5] * 22)
    assert among.detectable / alone.detectable == pytest.approx(1.39, abs=0.02)
    assert (
        "no possible difference would be found reliably"
        in limits(
            judge(
                [
                    alone.row._replace(
                        comparison=alone.row.comparison._replace(student=Student(0.5, 3))
                    )
                ]
            )
        )[0]
    )
    for difference, words in ((0.0, "no answer differs"), (0.02, "all differ alike")):
        same = comparison(0.5, difference=difference)._replace(student=Student(0.0, 3))
        assert (
            f"one seed, {words}: nothing tells"
            in limits(judge([alone.row._replace(comparison=same)]))[0]
        )


def test_few_clusters_are_warned_of_in_words_and_in_the_table():
    [judged] = family(0.5)
    few = judged.row.comparison._replace(effective_clusters=6.6, crossed=7)
    warned = judge([judged.row._replace(comparison=few)])
    assert limits(warned)[:2] == [
        (
            "Products: all facts are asked for, so intervals and p are about other wordings; "
            "answers are clustered by fact and by form."
        ),
        (
            "mul_tokens, step 5, Figure 0: its items are worth 6.6 clusters of equal weight, "
            "fewer than 8: its interval and p are rough."
        ),
    ]
    assert "| 1,000 | 7 (few) |" in comparison_table("baseline", warned).markdown()
    assert comparison_json(warned[0])["effective_clusters"] == 6.6
    assert not any("few" in line for line in limits([judged]))
    assert "few" not in comparison_table("baseline", [judged]).markdown()


def test_figures_with_the_same_outcome_for_every_item_are_one_comparison():
    """Whatever they are called: by their outcomes, of one model and condition."""
    generator = np.random.default_rng(0)
    first, second, third = (
        (generator.random(100) < share).astype(float).tolist() for share in (0.2, 0.5, 0.2)
    )

    def row(model: str, figure: str, other: list[float], condition: str = "other") -> Row:
        return compare_outcomes(model, figure, condition, ([outcomes(first)], [outcomes(other)]))

    rows = [
        row("step 5", "strict", second),
        row("step 5", "other", third),
        row("step 5", "flexible", second),
    ]
    judged = judge(rows)
    assert [each.comparisons for each in judged] == [2, 2, 2]
    assert [each.same_as for each in judged] == [None, None, "strict"]
    assert judged[0].holm_p == judged[2].holm_p == min(1, 2 * rows[0].comparison.p)
    assert "in 1 of 2 figures" in sentences("baseline", judged)[0]
    assert len(sentences("baseline", judged)) == 2
    notes = limits(judged)
    assert (
        "other, step 5, flexible: every item came out as in strict: the two are one comparison."
        in notes
    )
    assert sum("flexible" in line for line in notes) == 1
    other_step = row("step 9", "strict", second)
    assert judge([rows[0], other_step])[1].comparisons == 2, "another model is another comparison"
    other_condition = row("step 5", "flexible", second, condition="third")
    alone = judge([rows[0], other_condition])[1]
    assert (alone.comparisons, alone.same_as) == (1, None), "a condition is a family of its own"
    mirrored = compare_outcomes(
        "step 5", "flexible", "other", ([outcomes(second)], [outcomes(first)])
    )
    assert judge([rows[0], mirrored])[0].comparisons == 2


def test_the_table_has_a_row_for_each_comparison():
    lines = comparison_table("baseline", family(0.0001, 0.5)).markdown().splitlines()
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert lines[2].startswith(
        "| Model | Figure | n | Clusters | baseline | mul_tokens | Difference |"
    )
    cells = "0.3000 | 0.3200 | +0.0200 | -0.0100 to +0.0500 | 0.500 | 0.500 | 0.0464 |"
    assert lines[-1] == f"| step 5 | Figure 1 | 1,000 | 480 | {cells}"
    both = [*family(0.5), *family(0.5, second="third")]
    assert "| third 0.3200 |" in comparison_table("baseline", both).markdown(), (
        "with two others a cell says which"
    )


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_json_and_the_chart_have_what_was_computed(seeds):
    [judged] = family(0.03, seeds=seeds)
    found = comparison_json(judged)
    assert found["holm_p"] == 0.03
    assert (found["model"], found["figure"], found["condition"]) == (
        "step 5",
        "Figure 0",
        "mul_tokens",
    )
    internal = {"is_answers", "student", "signs", "over_seeds"}
    assert found.keys() >= set(Comparison._fields) - internal
    assert json.loads(json.dumps(found, allow_nan=False))["detectable"] == judged.detectable
    [row] = csv.DictReader(io.StringIO(differences_csv([judged]).decode()))
    assert tuple(row) == FIELDS
    low, high = found["seeds_interval_95"] or found["items_interval_95"]
    assert (float(row["low"]), float(row["high"]), float(row["difference"])) == (
        low,
        high,
        found["difference"],
    )


def test_the_headline_has_a_few_figures_of_the_models_named():
    shown = headline(
        "baseline",
        family(0.5, 0.6, models=("step 5", "step 9")),
        {"step 9": "pretrained", "fine-tuned": "tuned"},
    )
    figure = {"baseline": 0.3, "mul_tokens": 0.32, "mul_tokens_difference": 0.02}
    assert shown == {
        "pretrained": {"figure_0": figure, "figure_1": figure},
        "tuned": {},
    }, "no p of one seed"
    [row] = [row for row, *_ in family(0.5, models=("step 9",), seeds=2, role="primary")]
    assert list(headline("baseline", judge([row._replace(figure="validation")]), {"step 9": "x"}))[
        -1
    ].startswith("bits_per_byte"), "make diff sorts by name"
    shown = headline(
        "baseline", family(0.5, 0.6, models=("step 9",), seeds=2), {"step 9": "pretrained"}
    )
    assert shown["pretrained"]["figure_0"] == {**figure, "mul_tokens_holm_p": 1.0}


def test_outcomes_of_other_items_are_not_compared():
    arms = [outcomes([1, 0, 1])], [outcomes([1, 1, 1])]
    assert compare_outcomes(
        "step 5", "Figure", "other", arms
    ).comparison.difference == pytest.approx(1 / 3)
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


def test_products_are_compared_by_fact_and_by_form():
    """Whichever revision says how they are crossed: files of before did not."""
    facts, forms = ([str(part) for part in parts.ravel()] for parts in np.indices((9, 7)))
    first = outcomes([0.0] * 63, clusters=facts)._replace(crossed=forms)
    second = outcomes([float(form == "3") for form in forms], clusters=facts)._replace(
        crossed=forms
    )
    compared = compare_outcomes("step 5", "products", "other", ([first], [second])).comparison
    assert (compared.clusters, compared.crossed, compared.effective_clusters) == (9, 7, 7)
    assert compared.items_p > 0.05
    for arms in (
        ([first._replace(crossed=None)], [second]),
        ([first], [second._replace(crossed=None)]),
    ):
        assert compare_outcomes("step 5", "products", "other", arms).comparison == compared
    neither = [first._replace(crossed=None)], [second._replace(crossed=None)]
    assert compare_outcomes("step 5", "products", "other", neither).comparison.items_p < 0.05


def git(*arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def repository(tmp_path, monkeypatch) -> dict[Key, Outcomes]:
    """A repository whose main has two figures of four seeds; 200 items, half of them right."""
    monkeypatch.chdir(tmp_path)
    found = {
        Key("baseline", seed, "step 5", figure): outcomes([n % 2 for n in range(200)])
        for seed in (1, 2, 3, 4)
        for figure in ("one", "other")
    }
    found = {
        key: of._replace(role="secondary" if key.figure == "one" else "")
        for key, of in found.items()
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
    return subprocess.run(
        command, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )


def test_a_revision_with_the_same_outcomes_is_no_difference(repository):
    lines = verdict("main").stdout.splitlines()
    assert "2 of 2 figures have the same outcome for every item." in lines
    assert not any("|" in line for line in lines)


def test_a_planted_difference_between_revisions_is_found_and_named(repository):
    write(other_rounding(repository))
    said = verdict("main").stdout
    assert "1 of 1 comparisons of secondary figures find one" in said
    assert "baseline, step 5, one: working tree 0.6000, main 0.5000, difference +0.1000" in said
    assert "1 of 2 figures have the same outcome for every item." in said


def lock(
    cell: str = "code",
    command: str = "python -m stages.compare",
    data: str = "data",
    seeds: tuple = (1,),
) -> str:
    """A lock of four stages: what one makes of data is trained on and compared; the weights differ
    each time.
    """
    recorded = md5_of(Path("metrics/outcomes.jsonl").read_bytes())
    weights = md5_of((recorded + cell).encode()) + ".dir"
    stages = {
        "corpus": {"cmd": "python -m stages.corpus", "outs": [("data/corpus", data)]},
        "pretrain": {
            "deps": [("data/corpus", data), ("model/network/gpt.py", cell)],
            "outs": [("scores", weights)],
        },
        "compare": {
            "cmd": command,
            "deps": [("scores/baseline", weights)],
            "outs": [("metrics/outcomes.jsonl", recorded)],
        },
        "curves": {
            "deps": [("metrics/outcomes.jsonl", recorded), ("model/curves/points.py", weights)]
        },
    }
    entries = {
        name: {
            "cmd": stage.get("cmd", name),
            "params": {"params.yaml": {"seeds": list(seeds)}} if name == "pretrain" else {},
            **{
                key: [{"path": path, "md5": md5} for path, md5 in stage.get(key, ())]
                for key in ("deps", "outs")
            },
        }
        for name, stage in stages.items()
    }
    return yaml.safe_dump({"schema": "2.0", "stages": entries})


def other_rounding(found: dict[Key, Outcomes]) -> dict[Key, Outcomes]:
    better = np.array([float(n % 2 or n % 5 == 0) for n in range(200)])
    return {
        key: of._replace(values=better) if key.figure == "one" else of for key, of in found.items()
    }


@pytest.mark.slow("runs the command eleven times")
def test_where_code_parameters_and_data_are_equal_only_rounding_differs(repository):
    """The same differences are findings where code, parameters or data differ, or dvc.lock is of
    other outcomes.
    """
    Path("params.yaml").write_text("seeds: [1]\n")
    Path("dvc.yaml").write_text("stages:\n  compare:\n    cmd: python -m stages.compare\n")
    Path("dvc.lock").write_text(lock())
    git("add", "-A")
    git("commit", "-qm", "lock")
    write(other_rounding(repository))
    Path("dvc.lock").write_text(lock())
    said = verdict("main").stdout
    assert (
        "Both were made by the same code, of the same parameters, libraries and data: only rounding"
        " differs." in said
    )
    assert "| baseline, step 5 | one, accuracy | 200 | 0.5000 | 0.6000 | +0.1000 |" in said
    assert "comparisons of secondary" not in said
    assert " p " not in said.replace("| p |", "")
    changes = (
        {"cell": "edited"},
        {"command": "python -m stages.compare again"},
        {"data": "other"},
        {"seeds": (1, 2)},
    )
    for change in changes:
        Path("dvc.lock").write_text(lock(**change))
        assert "1 of 1 comparisons of secondary figures find one" in verdict("main").stdout, change
    Path("dvc.lock").write_text(lock())
    write({key: of for key, of in other_rounding(repository).items() if key.seed < 4})
    assert "rounding" not in verdict("main").stdout, "outcomes that dvc.lock does not record"
    for broken in ("", "stages: [", "stages: 3"):
        Path("dvc.lock").write_text(broken)
        assert "rounding" not in verdict("main").stdout


def test_a_rerun_of_one_seed_is_a_replicate():
    """Two networks, made twice: 0.02 and 0.04 apart. variance = (0.0002 + 0.0008) / 2."""
    shares = {("baseline", 0): 0.30, ("baseline", 1): 0.32, ("other", 0): 0.50, ("other", 1): 0.54}

    def made(number: int) -> dict[Key, Outcomes]:
        return {
            Key(condition, 1, "step 5", "one"): outcomes(
                [float(n < 100 * share) for n in range(100)]
            )
            for condition in ("baseline", "other")
            for share in [shares[condition, number]]
        }

    table = replicate_table(made(0), made(1))
    [row] = table.rows
    assert [cell.text for cell in row[:4]] == ["other, step 5", "one", "100", "+0.2200"]
    items, wide = row[4].value, row[5].value
    over = 4.302653 * np.sqrt(2 * (0.02**2 / 2 + 0.04**2 / 2) / 2)
    for side in (0, 1):
        assert abs(wide[side] - 0.22) == pytest.approx(np.hypot(items[side] - 0.22, over))
    several = {key._replace(seed=seed): of for key, of in made(0).items() for seed in (1, 2)}
    assert replicate_table(several, several) is None, "seeds are better than reruns"


def test_with_the_same_outcomes_nothing_is_said_of_rounding(repository):
    Path("dvc.lock").write_text(lock())
    git("add", "-A")
    git("commit", "-qm", "lock")
    assert "rounding" not in verdict("main").stdout


def test_what_cannot_be_compared_is_said(repository):
    changed = {
        (key._replace(seed=9) if key.seed == 2 else key): (
            of._replace(items="other") if key.figure == "other" else of
        )
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
        (
            ("main~1",),
            (
                "error: verdict: metrics/outcomes.jsonl at main~1; name a revision that has run"
                " compare"
            ),
        ),
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
    from model.comparison.outcomes_file import parse_outcomes

    tree = committed_tree()
    found = parse_outcomes(tree.read("metrics/outcomes.jsonl").decode(), "metrics/outcomes.jsonl")
    compared = json.loads(tree.read("plots/comparisons.json"))
    for said in compared["comparisons"]:
        if said["model"].startswith("mean of") or said["figure"] in (TASK_SCORE, TRUE_ANSWERS):
            continue  # of several figures: tests/model/comparison/test_runs.py
        for side, condition in (("first", compared["first"]), ("second", said["condition"])):
            mine = [
                of
                for key, of in found.items()
                if key[0] == condition and key[2:] == (said["model"], said["figure"])
            ]
            total, weight = (
                sum(float(part.sum()) for part in parts)
                for parts in zip(*(of[:2] for of in mine), strict=True)
            )
            assert said[side] == pytest.approx(total / weight, abs=1e-6)
            assert {len(of.values) for of in mine} == {said["items"]}
