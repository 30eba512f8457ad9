"""What every item says: of each stage's files, and through the file that git keeps."""

import json
from pathlib import Path

import numpy as np
import pytest
from committed import committed_tree
from demo_charts import TASKS
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PipelineError
from common.files import write_checksums, write_jsonl
from model.comparison.outcomes import Outcomes, answered, evaluated, probed, validated
from model.comparison.outcomes_file import Key, outcome_lines, parse_outcomes
from model.post_training.arithmetic_probes import Answer
from model.tasks.item_scores import ItemScore
from model.tasks.labels import task_figures
from model.tasks.table import Task


def checksummed(directory: Path, **files: list[dict]) -> Path:
    directory.mkdir(parents=True)
    for name, rows in files.items():
        write_jsonl(directory / f"{name}.jsonl", rows)
    write_checksums(directory)
    return directory


def score(
    ind: int, nats: list[float], label: int = 0, lengths: tuple[int, ...] = (2, 2, 2, 4)
) -> dict:
    counts = {unit: list(lengths) for unit in ("tokens", "characters", "bytes")}
    return ItemScore(
        ind=ind, source_id=f"video {ind // 2}", label=label, nats=nats, **counts
    )._asdict()


def test_an_ending_is_chosen_by_what_the_convention_divides_by(tmp_path):
    """The fourth ending is twice as long: per token it wins, in total it does not."""
    rows = [score(0, [3.0, 9, 9, 5]), score(1, [3.0, 9, 9, 5], label=3), score(2, [1.0, 9, 9, 5])]
    found = evaluated(
        checksummed(tmp_path / "step", hellaswag=rows, hellaswag_lm_eval=rows),
        [
            Task("hellaswag", "hellaswag", "reference"),
            Task("hellaswag_lm_eval", "hellaswag", "lm_eval"),
        ],
    )
    assert found["HellaSwag acc_norm"].values.tolist() == [0, 1, 1]
    assert found["HellaSwag acc_norm"].clusters == ["video 0", "video 0", "video 1"]
    bits = found["HellaSwag, true endings"]
    assert bits.weights.tolist() == [2, 4, 2]
    assert (bits.values * np.log(2)).tolist() == pytest.approx([3, 5, 1])
    assert not bits.is_answers


def test_validation_is_by_document_of_natural_text(tmp_path):
    """Drills would count for the condition that has their facts as tokens."""
    directory = tmp_path / "losses"
    directory.mkdir()
    (directory / "documents.csv").write_text(
        "document,source,original_bytes,nats\n0,boolq,100,150.0\n4,drills,20,9.0\n7,squad,50,40.0\n"
    )
    write_checksums(directory)
    [(name, found)] = validated(directory).items()
    assert (name, found.role, found.is_answers) == ("validation", "primary", False)
    assert found.weights.tolist() == [100, 50]
    assert (found.values * np.log(2)).tolist() == pytest.approx([150, 40])
    assert found.clusters == ["0", "7"], "documents, not sources, are drawn"
    for damage in ("document,nats\n0,1\n", "", "document,source,original_bytes,nats\n0,a,9,nan\n"):
        (directory / "documents.csv").write_text(damage)
        write_checksums(directory)
        with pytest.raises(PipelineError, match=r"documents\.csv: not the losses of the pretrain"):
            validated(directory)


def test_with_true_endings_every_task_has_bits_per_byte_and_its_chance(tmp_path):
    rows = [score(0, [3.0, 9, 9, 5]), score(1, [3.0, 9, 9, 5], label=3)]
    names = ("hellaswag", "hellaswag_lm_eval", "continuation", "commonsense_qa")
    directory = checksummed(tmp_path / "step", **dict.fromkeys(names, rows))
    tasks = [
        Task("hellaswag", "hellaswag", "reference"),
        Task("hellaswag_lm_eval", "hellaswag", "lm_eval"),
        Task("continuation", "continuation", "reference"),
        Task("commonsense_qa", "commonsense_qa", "lm_eval"),
    ]
    assert "continuation, true endings" not in evaluated(directory, tasks)
    found = evaluated(directory, tasks, has_true_endings=True)
    assert not any(name.startswith("CommonsenseQA, true") for name in found), "they are letters"
    assert not found["continuation, true endings"].is_answers
    accuracy = found["continuation acc_norm"]
    assert (accuracy.chance, accuracy.item_set) == (0.25, "continuation")
    assert found["HellaSwag acc_norm, lm-evaluation-harness"].item_set == "hellaswag"


def test_answers_are_right_where_the_numbers_are_equal_and_none_is_wrong(tmp_path):
    row = {"question": "q", "cluster": "c", "strict_stated": None, "flexible_stated": None}
    rows = [
        {**row, "gold": "18", "strict": "18", "flexible": "36/2"},
        {**row, "gold": "3", "strict": None, "flexible": "4"},
    ]
    found = answered(checksummed(tmp_path / "gsm8k", generated=rows, gsm8k=rows))
    assert found["generated problems, strict"].values.tolist() == [1, 0]
    assert found["GSM8K, flexible"].values.tolist() == [1, 0]
    with pytest.raises(
        PipelineError,
        match=r"generated\.jsonl: not the gsm8k stage's readings .*; run dvc repro gsm8k",
    ):
        answered(checksummed(tmp_path / "old", generated=[{"gold": "18"}], gsm8k=rows))


def test_products_are_those_asked_in_text(tmp_path):
    answers = [
        Answer(
            a,
            b,
            "form",
            group,
            injected,
            f"{a} × {b} =",
            a * b if a < 3 else None,
            9 if b == 3 else None,
            "",
        )._asdict()
        for group in ("seen", "held_out_pair", "held_out_form")
        for injected in (False, True)
        for a, b in ((2, 4), (4, 2), (3, 3))
    ]
    found = probed(checksummed(tmp_path / "exports", answers=answers))
    assert found["products, seen"].values.tolist() == [1, 0, 1], (
        "in text, not at all, by a fact's token"
    )
    assert len(set(found["products, seen"].clusters)) == 2, "2 × 4 and 4 × 2 are one fact"
    assert found["products, seen"].crossed == ["form"] * 3


figures = st.lists(st.booleans(), min_size=1, max_size=40)


@given(figures, st.lists(st.floats(0, 500), min_size=1, max_size=9), st.booleans())
def test_outcomes_come_back_from_the_file(right, bits, is_crossed):
    answers = Outcomes(
        np.array(right, dtype=float),
        np.ones(len(right)),
        [str(n // 2) for n in range(len(right))],
        "ab",
        True,
    )
    weights = np.arange(1.0, len(bits) + 1)
    if is_crossed:
        answers = answers._replace(crossed=[str(n % 3) for n in range(len(right))])
    values = Outcomes(np.array(bits), weights, ["one"] * len(bits), "cd", False)
    found = {
        Key("baseline", 1, "step 5", "a"): answers,
        Key("mul_tokens", 2, "fine-tuned", "b"): values,
    }
    found[Key("digits", 2, "fine-tuned", "b")] = values._replace(
        weights=weights + 1
    )  # the same items, cut elsewhere
    read = parse_outcomes(outcome_lines(found), "file")
    assert list(read) == list(found)
    for ours, theirs in zip(found.values(), read.values(), strict=True):
        assert theirs.values == pytest.approx(ours.values, abs=1e-4)
        assert theirs.weights.tolist() == ours.weights.tolist()
        assert (theirs.items, theirs.is_answers) == (ours.items, ours.is_answers)
        assert theirs.crossed == ours.crossed
        numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(ours.clusters))}
        again = {cluster: number for number, cluster in enumerate(dict.fromkeys(theirs.clusters))}
        assert [numbers[cluster] for cluster in ours.clusters] == [
            again[cluster] for cluster in theirs.clusters
        ]


def token(value: dict, keys: tuple[str, ...]) -> int:
    """How many of the same products were right by a fact's token."""
    return value[keys[0]][keys[1]]["fact_token"]["correct"]


def test_the_committed_outcomes_are_the_committed_metrics():
    """The same counts by another way: through the stages' own summaries."""
    tree = committed_tree()
    text = tree.read("metrics/outcomes.jsonl").decode()
    found = parse_outcomes(text, "metrics/outcomes.jsonl")
    for key, of in found.items():
        run = f"metrics/{key.condition}/seed_{key.seed}"
        step = key.model.replace(" ", "_")
        probes = "sft" if key.model == "fine-tuned" else "exports"
        group = {"seen": "seen", "held-out pair": "held_out_pair", "held-out form": "held_out_form"}
        path, keys = {
            **{
                figure.label: (f"{step}/evaluation.json", (figure.task, figure.metric))
                for figure in task_figures(TASKS)
            },
            "continuation, true endings": (
                f"{step}/evaluation.json",
                ("continuation", "gold_bits_per_byte"),
            ),
            "validation": ("pretrain.json", ("val_bits_per_byte",)),
            **{
                f"{words}, {rule}": ("gsm8k.json", (name, rule))
                for name, words in (("generated", "generated problems"), ("gsm8k", "GSM8K"))
                for rule in ("strict", "flexible")
            },
            **{
                f"products, {words}": (f"probes/{probes}.json", ("plain", name, "text"))
                for words, name in group.items()
            },
        }[key.figure]
        value = json.loads(tree.read(f"{run}/{path}"))
        for part in keys:
            value = value[part]
        if key.figure.startswith("products"):
            assert len(of.values) == value["total"]
            by_token = token(json.loads(tree.read(f"{run}/{path}")), keys)
            assert value["correct"] <= of.values.sum() <= value["correct"] + by_token, key
        elif of.is_answers:
            assert (of.values.sum(), len(of.values)) == (value["correct"], value["total"]), key
        else:
            assert of.values.sum() / of.weights.sum() == pytest.approx(value, abs=1e-6)
