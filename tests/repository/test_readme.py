"""What README and docs say of the committed run is so; their tables are
tests/repository/test_tables.py's.
"""

import json
import re
from typing import Any

import yaml
from committed import committed_text, committed_tree
from repository import REPOSITORY

from model.curves.points import Point
from tools.fault_panels import read_points

PARAMS = yaml.safe_load(committed_text("params.yaml"))
README = committed_text("README.md")
WALK_THROUGH = committed_text("docs/walk_through.md")
RUNS = [
    f"metrics/{condition}/seed_{seed}"
    for condition in PARAMS["conditions"]
    for seed in PARAMS["seeds"]
]


def committed_json(path: str) -> Any:
    return json.loads(committed_tree().read(path))


def committed_points(name: str) -> list[Point]:
    return read_points(committed_tree().read(f"plots/curves/{name}.csv").decode(), name)


def test_what_the_docs_say_of_the_probes_is_so():
    probes = [committed_json(f"{run}/probes/exports.json") for run in RUNS]
    for prompt, groups in probes[0].items():
        for group, ways in groups.items():
            for way in ways:
                rates = [probe[prompt][group][way] for probe in probes]
                assert max(rate["interval_95"][0] for rate in rates) <= min(
                    rate["interval_95"][1] for rate in rates
                )
                assert all(rate["rate"] <= 4 / 81 for rate in rates), (
                    "no oftener than if they always said 12"
                )


def test_the_walk_through_starts_from_the_committed_figures():
    rows = re.findall(
        r"^\| (metrics/\S+) +\| (\S+) +\| (\S+) +\| \S+ +\| \S+ +\|$",
        WALK_THROUGH,
        flags=re.MULTILINE,
    )
    assert len(rows) == 2
    for path, figure, on_main in rows:
        value = committed_json(path)
        for key in figure.split("."):
            value = value[key]
        assert float(on_main) == round(value, 5)
    [(run, tokens)] = re.findall(
        r"^export (\S+): logits differ by at most \S+ on (\d+) tokens$",
        WALK_THROUGH,
        flags=re.MULTILINE,
    )
    assert int(tokens) == committed_json(f"metrics/{run}/parity.json")["tokens"]


def test_how_much_more_text_equal_tokens_hold_is_the_committed_figure():
    read = [
        committed_json(f"metrics/{condition}/seed_{PARAMS['seeds'][0]}/pretrain.json")[
            "original_bytes"
        ]
        for condition in ("baseline", "mul_tokens")
    ]
    [more] = re.findall(r"([\d.]+) % more\b", README)
    assert more == f"{100 * (read[1] / read[0] - 1):.1f}"


def test_the_committed_run_shows_that_networks_learn():
    last = max(point.tokens for point in committed_points("continuation_acc_norm"))
    for point in committed_points("continuation_acc_norm"):
        if point.tokens == last:
            assert point.value >= 0.33
            assert point.low > 0.25
    for condition in PARAMS["conditions"]:
        bits = [
            p.value
            for p in committed_points("hellaswag_gold_bits_per_byte")
            if p.condition == condition
        ]
        assert bits == sorted(bits, reverse=True)


def test_readme_is_short_enough_to_read():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 120


# The script of CI or the test that runs each of README's commands, and what there is of the command
# in it.
RUN_BY = {
    "make repro": (".ci/run", "make repro\n"),
    "make test": (".ci/run", "make test"),
    "make help": ("tests/repository/test_make_help.py", '"help")'),
    "make impact": ("docs/walk_through.md", "$ make impact\n"),  # run by test_pipeline.py
    "make check": ("tests/micro_graph/test_micro_graph.py", '"--old-file=.venv/.ready", "check"]'),
    "make watch": ("tests/repository/test_make_arguments.py", '("watch",)'),
    'python -m tools.ask exports/mul_tokens/seed_1337/step_3200 "What is 6 × 9? It is"': (
        "tests/end_to_end/test_ask_command.py",
        "tools.ask",
    ),
    "make verdict REV=main": ("docs/walk_through.md", "$ make verdict REV=main "),
    "make prune": ("tests/end_to_end/test_pipeline.py", '"prune", "YES=1"]'),
    "cp profiles/gpt2-124m-10b.yaml params.yaml": (
        "docs/first_full_size_run.md",
        "cp profiles/gpt2-124m",
    ),
}


def readme_commands(text: str) -> set[str]:
    """Return the commands in a document's blocks of shell and between its backticks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [re.split(r"\s+#", line)[0] for block in blocks for line in block.splitlines()]
    return {*lines, *re.findall(r"`((?:make|dvc|python|cp|git) [^`]+)`", text)}


def test_every_command_of_the_readme_is_run_by_a_test_or_by_ci():
    assert readme_commands((REPOSITORY / "README.md").read_text()) == RUN_BY.keys()
    for file, text in RUN_BY.values():
        assert text in (REPOSITORY / file).read_text()


def test_a_command_that_nothing_runs_would_be_seen():
    text = "Say `make so`, `not this`.\n\n```sh\nmake it   # now\n```\n"
    assert readme_commands(text) == {"make so", "make it"}


def test_the_committed_run_shows_that_fine_tuning_teaches_to_answer():
    for run in RUNS:
        answers = committed_json(f"{run}/gsm8k.json")
        assert answers["generated"]["strict"]["interval_95"][0] > 0.1
        assert answers["generated"]["stopped"] >= 0.95 * answers["generated"]["strict"]["total"]
        assert answers["gsm8k"]["strict"]["total"] == 1319


def test_the_harness_may_generate_as_much_as_the_stage():
    task = yaml.safe_load((REPOSITORY / "benchmarks/lm_eval_tasks/gsm8k_offline.yaml").read_text())
    assert task["generation_kwargs"]["max_gen_toks"] == PARAMS["generate"]["new_tokens"]
