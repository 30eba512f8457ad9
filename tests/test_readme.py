"""What README and docs say of the committed run is so; their tables are tests/test_tables.py's."""

import json
import re

import yaml
from conftest import REPOSITORY

from model.curves import Point
from tools.fault_panels import read_points

PARAMS = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
README = (REPOSITORY / "README.md").read_text()
RUNS = {
    (condition, seed): REPOSITORY / f"metrics/{condition}/seed_{seed}"
    for condition in PARAMS["conditions"]
    for seed in PARAMS["seeds"]
}


def committed_points(name: str) -> list[Point]:
    return read_points((REPOSITORY / f"plots/{name}.csv").read_text(), name)


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
