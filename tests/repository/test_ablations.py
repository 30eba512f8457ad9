"""Check the conditions that README and CONTRIBUTING show: each is valid at each scale."""

import pytest
import yaml
from conditions import ABLATIONS, DIGITS, contributed, shown, with_more
from repository import REPOSITORY

from common.yaml_file import load
from model.conditions.words import differences
from model.params.all_sections import read_conditions

SCALES = ("params.yaml", "profiles/micro.yaml")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [*ABLATIONS, "digits"])
def test_a_condition_that_is_shown_is_read_and_differs(name, scale):
    block = contributed() if name == "digits" else shown(name)
    text = with_more((REPOSITORY / scale).read_text(), block)
    document = load(text.encode(), scale)
    conditions = read_conditions(document, REPOSITORY / scale)
    assert list(conditions) == ["baseline", "mul_tokens", name]
    assert differences(document, document["conditions"])[name]


def test_the_readme_shows_each_ablation_that_is_run():
    assert {*ABLATIONS, "muon"} == set(yaml.safe_load(shown()))


def test_the_contributed_pattern_splits_digits():
    [own] = yaml.safe_load(contributed()).values()
    assert own["tokenize"]["pattern"] == DIGITS
