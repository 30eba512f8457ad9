"""The figures of README and docs are those of the committed run."""

import csv
import json
import re

import pytest
import yaml
from conftest import REPOSITORY

from model.arithmetic_table import arithmetic_table
from model.curves import CHARTS, Point, Progress, results_table
from model.data_table import data_table
from model.post_training import post_training_table

PARAMS = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
README, *_ = TEXTS = [
    (REPOSITORY / name).read_text() for name in ("README.md", "docs/figures.md", "docs/data.md", "docs/post_training.md")
]
RUNS = {
    (condition, seed): REPOSITORY / f"metrics/{condition}/seed_{seed}"
    for condition in PARAMS["conditions"]
    for seed in PARAMS["seeds"]
}


def committed_points(name: str) -> list[Point]:
    with open(REPOSITORY / f"plots/{name}.csv", newline="") as file:
        return [
            Point(
                row["condition"],
                int(row["seed"]),
                row["split"],
                *(int(row[field]) for field in Progress._fields),
                float(row["value"]),
                *(float(row[bound]) if row[bound] else None for bound in ("low", "high")),
            )
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("chart", [chart for chart in CHARTS if chart.table_title], ids=lambda chart: chart.name)
def test_the_results_in_readme_or_docs_are_the_committed_ones(chart):
    tokens_per_step = PARAMS["pretrain"]["batch_rows"] * PARAMS["model"]["context"]
    at_tokens = {step: step * tokens_per_step for step in PARAMS["pretrain"]["checkpoint_steps"]}
    steps = {point.tokens for point in committed_points(chart.name)}
    assert set(at_tokens.values()) <= steps, "plots/ is not of this params.yaml: run make repro, and put its tables here"
    table = results_table(chart, committed_points(chart.name), PARAMS["conditions"], at_tokens)
    assert sum(table in text for text in TEXTS) == 1


def test_the_tables_in_the_docs_are_the_committed_ones():
    conditions, seeds = PARAMS["conditions"], PARAMS["seeds"]
    tables = [data_table({condition: REPOSITORY / "metrics" / condition / "tokenize.json" for condition in conditions})]
    for models, words in (("exports", "final export"), ("sft", "fine-tuned")):
        probes = {run: folder / f"probes/{models}.json" for run, folder in RUNS.items()}
        tables.append(arithmetic_table(words, probes, conditions, seeds))
    tables.append(post_training_table(RUNS, PARAMS["pretrain"]["max_steps"], conditions, seeds))
    for table in tables:
        assert sum(table in text for text in TEXTS) == 1, table
    rows = tables[-1].splitlines()[2:]
    shown = [line for line in README.splitlines() if line.startswith(("| pretrained |", "| fine-tuned |"))]
    assert len(shown) >= 4
    assert set(shown) < set(rows)


def test_what_the_docs_say_of_the_probes_is_so():
    probes = [json.loads((folder / "probes/exports.json").read_text()) for folder in RUNS.values()]
    for prompt, groups in probes[0].items():
        for group, ways in groups.items():
            for way in ways:
                rates = [probe[prompt][group][way] for probe in probes]
                assert max(rate["interval_95"][0] for rate in rates) <= min(rate["interval_95"][1] for rate in rates)
                assert all(rate["rate"] <= 4 / 81 for rate in rates), "no oftener than if they always said 12"


def test_the_walk_through_starts_from_the_committed_figures():
    rows = re.findall(r"^\| (metrics/\S+) +\| (\S+) +\| (\S+) +\| \S+ +\| \S+ +\|$", README, flags=re.MULTILINE)
    assert len(rows) == 2
    for path, figure, on_main in rows:
        value = json.loads((REPOSITORY / path).read_text())
        for key in figure.split("."):
            value = value[key]
        assert float(on_main) == round(value, 5)
    [(run, tokens)] = re.findall(r"^export (\S+): logits differ by at most \S+ on (\d+) tokens$", README, flags=re.MULTILINE)
    assert int(tokens) == json.loads((REPOSITORY / f"metrics/{run}/parity.json").read_text())["tokens"]


def test_how_much_more_text_equal_tokens_hold_is_the_committed_figure():
    read = [
        json.loads((REPOSITORY / f"metrics/{condition}/seed_{PARAMS['seeds'][0]}/pretrain.json").read_text())["original_bytes"]
        for condition in ("baseline", "mul_tokens")
    ]
    assert f"(at equal tokens `mul_tokens` read {100 * (read[1] / read[0] - 1):.1f} % more)" in README


def test_the_committed_run_shows_that_networks_learn():
    last = max(point.tokens for point in committed_points("continuation_acc_norm"))
    for point in committed_points("continuation_acc_norm"):
        if point.tokens == last:
            assert point.value >= 0.33
            assert point.low > 0.25
    for condition in PARAMS["conditions"]:
        bits = [p.value for p in committed_points("hellaswag_gold_bits_per_byte") if p.condition == condition]
        assert bits == sorted(bits, reverse=True)


def test_readme_is_short_enough_to_read():
    assert len(README.splitlines()) < 200


def test_the_committed_run_shows_that_fine_tuning_teaches_to_answer():
    for folder in RUNS.values():
        answers = json.loads((folder / "gsm8k.json").read_text())
        assert answers["generated"]["strict"]["interval_95"][0] > 0.1
        assert answers["generated"]["stopped"] >= 0.95 * answers["generated"]["strict"]["total"]
        assert answers["gsm8k"]["strict"]["total"] == 1319


def test_the_harness_may_generate_as_much_as_the_stage():
    task = yaml.safe_load((REPOSITORY / "benchmarks/lm_eval_tasks/gsm8k_offline.yaml").read_text())
    assert task["generation_kwargs"]["max_gen_toks"] == PARAMS["generate"]["new_tokens"]
