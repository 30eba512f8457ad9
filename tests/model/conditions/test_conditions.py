"""What conditions have of their own, in words, and which of them share a pretrained network."""

import pytest
from conditions import DIGITS, conditions
from repository import REPOSITORY

from model.conditions.effective import effective_sections, twins
from model.conditions.words import differences, settings
from model.curves.conditions_table import conditions_table
from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree

BASE = {
    "tokenize": {"pattern": None, "mul_facts": False},
    "model": {"width": 128},
    "pretrain": {"optimizer": "adamw", "learning_rate": 0.002, "mixture": {"squad": 1.0}},
    "sft": {"learning_rate": 0.003},
}
MUON = {"pretrain": {"optimizer": "muon", "learning_rate": 0.02}}


def test_each_condition_is_told_from_the_first_one():
    section = conditions(baseline={}, muon=MUON, digits={"tokenize": {"pattern": DIGITS}})
    assert differences(BASE, section) == {
        "muon": ["pretrain.optimizer adamw → muon", "pretrain.learning_rate 0.002 → 0.02"],
        "digits": [f"tokenize.pattern null → {DIGITS}"],
    }


def test_the_first_condition_may_have_values_of_its_own():
    section = conditions(muon=MUON, baseline={}, wide={**MUON, "model": {"width": 192}})
    assert differences(BASE, section) == {
        "baseline": ["pretrain.optimizer muon → adamw", "pretrain.learning_rate 0.02 → 0.002"],
        "wide": ["model.width 128 → 192"],
    }


def test_a_key_within_a_key_is_told_by_its_whole_name():
    section = conditions(a={}, b={"pretrain": {"mixture": {"squad": 2.0, "coqa": 1.0}}})
    assert differences(BASE, section)["b"] == [
        "pretrain.mixture.squad 1.0 → 2.0",
        "pretrain.mixture.coqa null → 1.0",
    ]


def test_a_value_that_is_the_bases_own_is_no_difference():
    assert differences(BASE, conditions(a={}, b={"model": {"width": 128}})) == {"b": []}


def test_settings_are_those_of_a_condition_alone():
    assert settings(conditions(muon=MUON)["muon"]) == [
        "pretrain.optimizer muon",
        "pretrain.learning_rate 0.02",
    ]
    assert settings(conditions(baseline={})["baseline"]) == []


def test_effective_sections_are_those_of_the_base_with_own_values():
    assert effective_sections(BASE, conditions(muon=MUON)["muon"]) == {
        **BASE,
        "pretrain": {**BASE["pretrain"], "optimizer": "muon", "learning_rate": 0.02},
    }


def test_conditions_that_differ_in_fine_tuning_alone_share_their_pretraining():
    section = conditions(
        baseline={},
        gentle={"sft": {"learning_rate": 0.001}},
        muon=MUON,
        both={**MUON, "sft": {"learning_rate": 0.001}},
        digits={"tokenize": {"pattern": DIGITS}},
    )
    assert twins(BASE, section) == {"gentle": "baseline", "both": "muon"}


def test_the_table_has_a_row_for_each_condition_but_the_first():
    [table] = conditions_table(BASE, conditions(baseline={}, muon=MUON))
    assert table.columns == ["Condition", "Against baseline"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["muon", "pretrain.optimizer adamw → muon, pretrain.learning_rate 0.002 → 0.02"]
    ]
    assert conditions_table(BASE, conditions(baseline={})) == []


@pytest.mark.parametrize("stage", ["compare", "curves", "report"])
def test_the_order_of_conditions_is_an_input_of_what_shows_them(stage):
    """DVC takes mappings of another order as equal: the file is what tells."""
    assert "params.yaml" in read_instances(WorkingTree(REPOSITORY))[stage].deps
