"""How long a run will still take."""

import time
from itertools import pairwise

import pytest

from pipeline.driver.estimate import Estimate, finishing_time
from pipeline.driver.place import Progress

CHAIN = {"b": ["a"], "c": ["b"]}


def bar(done: int, seconds_left: float) -> Progress:
    return Progress("", done, 100, "step", "", seconds_left)


@pytest.mark.parametrize(
    ("running", "waiting", "upstream", "slots", "expected"),
    [
        ({}, {}, {}, 2, 0),
        ({}, {"a": 3, "b": 4}, {}, 1, 7),
        ({}, {"a": 3, "b": 4}, {}, 2, 4),
        ({}, {"a": 3, "b": 4, "c": 5}, CHAIN, 9, 12),
        ({"a": 1}, {"b": 4, "c": 5}, CHAIN, 1, 10),
        ({"a": 9, "x": 2}, {"b": 1, "y": 3, "z": 3}, {"b": ["a", "done"]}, 2, 10),
        # The long chain goes first, though the short one has been named before it.
        ({}, {"s": 1, "t": 1, "a": 2, "b": 2}, {"b": ["a"]}, 1, 6),
        ({}, {"s": 2, "t": 2, "a": 2, "b": 2, "c": 2}, CHAIN, 2, 6),
        ({"a": 1, "b": 2, "c": 3}, {"d": 1}, {}, 2, 3),  # more run than there are slots
    ],
)
def test_run_ends_when_its_longest_chain_or_its_busiest_slot_does(
    running, waiting, upstream, slots, expected
):
    assert finishing_time(running, waiting, upstream, slots) == expected


def test_thousand_instances_are_estimated_in_an_instant_however_deep_they_are():
    names = [f"s@{number}" for number in range(3000)]
    upstream = {name: [before] for before, name in pairwise(names)}
    assert finishing_time({}, dict.fromkeys(names, 1.0), upstream, 4) == 3000


def test_recorded_duration_counts_until_a_bar_tells_more():
    estimate = Estimate(["a"], {"a": 100.0}, {}, 1)
    estimate.start("a", 0)
    assert estimate.of_running("a", 30) == 70
    estimate.progress({"a": bar(2, 999)})  # has hardly begun
    assert estimate.of_running("a", 30) == 70
    estimate.progress({"a": bar(50, 30)})
    assert estimate.of_running("a", 30) == 30
    estimate.progress({"a": bar(99, 1)})  # the first of several bars
    assert estimate.of_running("a", 30) == 70
    estimate.progress({"a": bar(10, 270)})
    assert estimate.of_running("a", 30) == 270
    assert estimate.of_running("a", 500) == 270


def test_instance_that_never_ran_is_taken_for_one_of_its_stage():
    estimate = Estimate(["x@1", "x@2", "y"], {"x@1": 8.0}, {}, 1)
    for name, expected in (("x@2", 8.0), ("y", None)):
        estimate.start(name, 0)
        assert estimate.of_running(name, 0) == expected
    estimate.finish("y", 5)
    assert estimate.of_run(0) == 16


def test_nothing_is_estimated_where_most_of_it_never_ran():
    estimate = Estimate(["a", "b", "c"], {"a": 8.0}, {}, 1)
    assert estimate.of_run(0) is None
    assert Estimate(["a", "b"], {"a": 8.0}, {}, 1).of_run(0) == 16


def test_slower_machine_is_noticed():
    names = ["a", "b", "c"]
    estimate = Estimate(names, dict.fromkeys(names, 100.0), {}, 1)
    assert estimate.of_run(0) == 300
    for number, name in enumerate(names[:2]):
        estimate.start(name, number * 200)
        estimate.finish(name, 200)
    estimate.start("c", 400)
    assert estimate.of_running("c", 400) == pytest.approx(100 * 420 / 220)


def test_estimate_follows_a_jump_gradually_and_counts_down_with_the_clock():
    estimate = Estimate(["a", "b"], {"a": 10.0, "b": 100.0}, {}, 1)
    estimate.start("a", 0)
    assert estimate.of_run(0) == 110
    assert estimate.of_run(1) == 109
    estimate.drop("b")  # need not run
    shown = [estimate.of_run(now) for now in (1.25, 2, 4, 8)]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] == 108.75
    assert 90 < shown[1] < 100
    assert shown[-1] < 60
    estimate.finish("a", 10)
    assert estimate.of_run(9) == 0


def test_failed_instance_is_estimated_no_longer():
    estimate = Estimate(["a", "b"], {"a": 10.0, "b": 100.0}, {"b": ["a"]}, 1)
    estimate.start("a", 0)
    estimate.drop("a")
    assert estimate.of_run(0) == 100


def test_estimate_of_thousands_that_never_ran_here_takes_no_time_of_the_driver():
    names = [f"s@{number}" for number in range(4000)]
    estimate = Estimate(names, {}, {}, 4)
    for name in names[:2000]:
        estimate.start(name, 0)
        estimate.finish(name, 1.0)
    began = time.process_time()
    assert estimate.of_run(0) == 500
    assert time.process_time() - began < 1
