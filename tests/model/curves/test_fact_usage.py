import csv
import io
import json

import pytest

from common.errors import PipelineError
from common.files import json_bytes
from model.curves.fact_usage import Usage, document_usage, run_usage, usage_csv


@pytest.fixture
def folder(tmp_path):
    """A condition's tokenize.json, and beside it one run's metrics."""
    forms = {"dot": {"changed": 3, "found": 4}, "times": {"changed": 5, "found": 6}}
    contents = {
        "tokenize": {"expressions": forms, "train": {"mul_fact_tokens": 7, "tokens": 100}},
        "sft": {"facts": 2, "learned_tokens": 50},
        "gsm8k": {
            "generated": {"facts": 1, "strict": {"total": 4}},
            "gsm8k": {"facts": 3, "strict": {"total": 8}},
        },
    }
    (tmp_path / "probes").mkdir()
    for number, models in enumerate(("exports", "sft")):
        groups = [
            {
                "fact_token": {"correct": number + more, "total": 20},
                "text": {"correct": 9, "total": 20},
            }
            for more in (0, 1)
        ]
        contents[f"probes/{models}"] = {
            "plain": {"seen": groups[0], "unseen": groups[1]},
            "injected": {"seen": groups[1]},
        }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_bytes(json_bytes(content))
    return tmp_path


def test_usages_are_counted_over_forms_groups_and_problems(folder):
    documents = [
        Usage("mul_tokens", None, "expressions in documents that became tokens", 8, 10),
        Usage("mul_tokens", None, "tokens of training documents that are facts", 7, 100),
    ]
    assert document_usage(folder / "tokenize.json", "mul_tokens") == documents
    assert [
        (usage.where, usage.facts, usage.total) for usage in run_usage(folder, "mul_tokens", 1)
    ] == [
        ("tokens learned in fine-tuning that are facts", 2, 50),
        ("answers to generated problems that have a fact", 1, 4),
        ("answers to GSM8K that have a fact", 3, 8),
        ("right products by a fact's token: pretrained, plain prompts", 1, 40),
        ("right products by a fact's token: pretrained, injected prompts", 1, 20),
        ("right products by a fact's token: fine-tuned, plain prompts", 3, 40),
        ("right products by a fact's token: fine-tuned, injected prompts", 2, 20),
    ]


def test_the_table_has_the_share_and_no_seed_where_there_is_none(folder):
    usages = [
        *document_usage(folder / "tokenize.json", "mul_tokens"),
        Usage("mul_tokens", 1, "nothing, of nothing", 0, 0),
    ]
    rows = list(csv.DictReader(io.StringIO(usage_csv(usages).decode())))
    assert list(rows[0]) == ["condition", "seed", "where", "facts", "total", "share"]
    assert [(row["seed"], row["where"][:7], row["share"]) for row in rows] == [
        ("", "express", "0.8"),
        ("", "tokens ", "0.07"),
        ("1", "nothing", "0.0"),
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sft": 1}'])
@pytest.mark.parametrize("name", ["tokenize", "sft", "gsm8k", "probes/exports", "probes/sft"])
def test_a_damaged_file_is_named(folder, name, content):
    (folder / f"{name}.json").write_text(content)
    with pytest.raises(PipelineError, match=rf"^[^\n]*{name}\.json: [^\n]*$"):
        read_all(folder)


def read_all(folder) -> list[Usage]:
    return [
        *document_usage(folder / "tokenize.json", "mul_tokens"),
        *run_usage(folder, "mul_tokens", 1),
    ]


@pytest.mark.parametrize("facts", [51, -1, "2", None, 2.5])
def test_counts_that_cannot_be_are_refused(folder, facts):
    assert read_all(folder)
    (folder / "sft.json").write_text(json.dumps({"facts": facts, "learned_tokens": 50}))
    with pytest.raises(
        PipelineError, match=r"sft\.json: not the sft stage's \(.* of 50.*\); run dvc repro sft$"
    ):
        read_all(folder)
