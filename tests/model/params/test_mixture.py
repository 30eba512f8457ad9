from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.params.mixture import mix, shares

WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100), min_size=1)


@given(WEIGHTS, st.integers(1, 5000))
def test_shares_add_up_and_are_within_one_of_the_weights(weights, count):
    found = shares(weights, count)
    assert sum(found.values()) == count
    for name, share in found.items():
        assert abs(share - count * weights[name] / sum(weights.values())) < 1 + 1e-6


def test_a_mixture_has_each_source_in_proportion_and_each_member_equally_often():
    sources = {"a": [f"a{n}" for n in range(10)], "b": [f"b{n}" for n in range(7)], "c": ["c0"]}
    found = mix(sources, {"a": 3.0, "b": 1.0}, 100, seed=0)
    assert Counter(name[0] for name in found) == {"a": 75, "b": 25}
    counts = Counter(found)
    assert {counts[name] for name in sources["a"]} == {7, 8}
    assert {counts[name] for name in sources["b"]} == {3, 4}


def test_parts_go_on_where_the_last_one_ended():
    sources = {"a": [f"a{n}" for n in range(10)], "b": [f"b{n}" for n in range(7)]}
    weights = {"a": 1.0, "b": 3.0}
    parts = [mix(sources, weights, 8, seed=0, part=part) for part in range(15)]
    counts = Counter(member for part in parts for member in part)
    assert {counts[name] for name in sources["a"]} == {3}  # 2 in each of 15 parts, of 10
    assert {counts[name] for name in sources["b"]} == {12, 13}  # 6 in each, of 7
    assert parts[0] == mix(sources, weights, 8, seed=0)
    places = [[member[0] for member in part].index("a") for part in parts]
    assert len(set(places)) > 1, "each part is shuffled in another way"


def test_the_order_is_drawn_by_the_seed_and_mixes_sources():
    sources = {"a": list(range(50)), "b": list(range(100, 150))}
    weights = {"a": 1.0, "b": 1.0}
    found = mix(sources, weights, 60, seed=1)
    assert found == mix(sources, weights, 60, seed=1)
    assert found != mix(sources, weights, 60, seed=2)
    assert 10 < sum(member < 50 for member in found[:30]) < 20


def test_the_order_of_weights_does_not_count():
    """DVC takes mappings of another order as equal, and reruns nothing."""
    sources = {"a": list(range(50)), "b": list(range(100, 150))}
    found = mix(sources, {"a": 1.0, "b": 2.0}, 59, seed=1)
    assert found == mix(sources, {"b": 2.0, "a": 1.0}, 59, seed=1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_ties_go_to_the_first(count):
    assert list(shares({"a": 1.0, "b": 1.0}, count).values()) == [(count + 1) // 2, count // 2]


@pytest.mark.parametrize("weight", [1e308, 5e-324, 2.0**-1074, 0.1])
def test_no_weight_overflows_and_only_their_ratio_counts(weight):
    assert shares({"a": weight, "b": weight, "c": weight}, 7200) == {
        "a": 2400,
        "b": 2400,
        "c": 2400,
    }


def test_a_source_of_no_weight_to_speak_of_gets_nothing():
    assert shares({"a": 1e308, "b": 5e-324}, 7200) == {"a": 7200, "b": 0}
