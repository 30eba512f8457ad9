"""Conditions that train the same network are named before a step is trained, whatever made them
the same.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conditions import conditions
from repository import REPOSITORY
from small_objects import write_token_split

from common.errors import PipelineError
from common.files import write_checksums
from model.tokens.shards import write_shard
from pipeline.declared.dvc_yaml import read_instances, verdicts
from pipeline.declared.file_trees import WorkingTree
from pipeline.leftover.withdrawn import refusal
from stages.distinct import main

DOCUMENTS = {"one": [[0, 1, 2], [0, 3]], "other": [[0, 1, 9], [0, 3]], "third": [[0, 7, 7], [0, 3]]}
PASSED = b"no two conditions have the same effect\n"
BASE = {
    "tokenize": {"pattern": None, "mul_facts": False},
    "model": {"width": 32},
    "pretrain": {
        "learning_rate": 0.01,
        "optimizer": "adamw",
        "muon_learning_rate": 0.02,
        "schedule": "cosine",
        "decay_steps": 10,
    },
    "sft": {"learning_rate": 0.1},
}


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    """Write the tokens of conditions, each by the name of its documents, and run the stage.

    `own` has what conditions have of their own.
    """
    monkeypatch.chdir(tmp_path)

    def written(own: dict[str, dict] | None = None, **documents: str) -> None:
        section = conditions(**{name: (own or {}).get(name, {}) for name in documents})
        Path("params.yaml").write_text(yaml.safe_dump({**BASE, "conditions": section}))
        for condition, text in documents.items():
            write_token_split(Path("data/tokens") / condition, DOCUMENTS[text])
        main()

    return written


def refused(tokens, own: dict[str, dict] | None = None, **documents: str) -> str:
    with pytest.raises(PipelineError) as caught:
        tokens(own, **documents)
    assert not Path("data/distinct.ok").exists()
    [line] = str(caught.value).splitlines()
    return line


def test_other_tokens_pass_with_the_same_bytes_for_any_conditions(tokens):
    tokens(baseline="one")
    assert Path("data/distinct.ok").read_bytes() == PASSED
    tokens(baseline="one", mul_tokens="other", digits="third")
    assert Path("data/distinct.ok").read_bytes() == PASSED


@pytest.mark.parametrize(
    "own",
    [
        {"model": {"width": 64}},
        {"pretrain": {"learning_rate": 0.02}},
        {"sft": {"learning_rate": 0.2}},
    ],
    ids=lambda own: next(iter(own)),
)
def test_the_same_tokens_pass_where_another_section_differs(tokens, own):
    tokens({"other": own}, baseline="one", other="one")
    assert Path("data/distinct.ok").read_bytes() == PASSED


@pytest.mark.parametrize(
    "own",
    [
        {"model": {"width": 32}},
        {"tokenize": {"mul_facts": True}},
        {"tokenize": {"mul_facts": True}, "sft": {"learning_rate": 0.2}},
    ],
    ids=["the base's own value", "no effect", "no effect, and another sft"],
)
def test_a_value_without_effect_is_refused(tokens, own):
    said = refused(tokens, {"other": own}, baseline="one", other="one")
    assert said.startswith("distinct: baseline and other train the same network on the same 5")


def test_two_conditions_with_the_same_tokens_are_named_with_what_to_do(tokens):
    said = refused(tokens, baseline="one", mul_tokens="one")
    assert said.startswith(
        "distinct: baseline and mul_tokens train the same network on the same 5 tokens; "
    )
    assert "in params.yaml give one of them another value" in said
    assert "raise corpus.drill_fraction" in said


def test_of_many_conditions_those_are_named_that_are_the_same(tokens):
    said = refused(tokens, a="one", b="other", c="one", d="third", e="other", f="one")
    same = "train the same network on the same 5 tokens"
    assert f"a, c and f {same}; b and e {same}; " in said
    assert "d" not in said.split(";")[0].split()


def test_a_condition_that_changes_validation_text_only_is_named(tokens):
    refused(tokens, baseline="one", validated="one")
    folder = Path("data/tokens/validated")
    table = np.array([(3, 4, 0), (2, 2, 0)])
    write_shard(folder, "val", 0, [np.array(document) for document in DOCUMENTS["other"]], table)
    write_checksums(folder)
    with pytest.raises(PipelineError, match="baseline and validated train the same network"):
        main()


@pytest.mark.parametrize(
    ("text", "same"), [("Two dogs and 12 cats.", True), ("So 6 * 9 = 54.", False)]
)
def test_a_text_without_products_is_the_same_in_both_conditions(
    tokens, baseline_tokenizer, tokenizer, monkeypatch, text, same
):
    for name, each in (("plain", baseline_tokenizer), ("facts", tokenizer)):
        encoded = each.encode_document(text).tokens
        monkeypatch.setitem(DOCUMENTS, name, [[0, *np.asarray(encoded).tolist()]])
    if same:
        assert "baseline and mul_tokens train the same network" in refused(
            tokens, baseline="plain", mul_tokens="facts"
        )
    else:
        tokens(baseline="plain", mul_tokens="facts")


def test_tokens_of_a_withdrawn_condition_are_refused_before_the_stage_begins(tmp_path):
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "params.yaml").write_text((REPOSITORY / "profiles/micro.yaml").read_text())
    instances = list(read_instances(WorkingTree(tmp_path)).values())
    for name in ("baseline/index.json", ".baseline.scratch/piece"):
        (tmp_path / "data/tokens" / name).parent.mkdir(parents=True)
        (tmp_path / "data/tokens" / name).write_text("")
    (tmp_path / "data/tokens/digits/deeper").mkdir(parents=True)
    assert refusal(tmp_path, instances) is None
    (tmp_path / "data/tokens/digits/index.json").write_text("")
    said = refusal(tmp_path, instances)
    assert said.startswith(
        "params.yaml no longer names condition digits, whose results are still here "
    )
    assert said.endswith(" (data/tokens/digits/index.json); run make prune")


def test_a_damaged_index_is_named(tokens):
    tokens(baseline="one", mul_tokens="other")
    Path("data/tokens/mul_tokens/index.json").write_text("{}")
    with pytest.raises(
        PipelineError, match=r"data/tokens/mul_tokens/index\.json: missing or altered"
    ):
        main()


def test_training_waits_for_the_verdict_and_reruns_for_its_own_tokens_only():
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    [verdict] = stages["distinct"]["outs"]
    assert verdict in stages["pretrain"]["deps"]
    assert "data/tokens" not in stages["pretrain"]["deps"]
    assert verdict in verdicts(read_instances(WorkingTree(REPOSITORY)).values())
    order = list(stages)
    assert order.index("tokenize") < order.index("distinct") < order.index("pretrain")


@pytest.mark.parametrize(
    ("idle", "needed"),
    [
        ({"muon_learning_rate": 0.01}, {"optimizer": "muon"}),
        ({"decay_steps": 20}, {"schedule": "wsd"}),
    ],
)
def test_a_key_that_nothing_uses_makes_no_condition(tokens, idle, needed):
    own = {"baseline": {}, "other": {"pretrain": idle}}
    assert "baseline and other" in refused(tokens, own, baseline="one", other="one")
    own = {"baseline": {"pretrain": needed}, "other": {"pretrain": {**needed, **idle}}}
    tokens(own, baseline="one", other="one")
