"""Which instance runs next, and with what share."""

import pytest

from pipeline.driver.place import Machine
from pipeline.driver.schedule import Schedule

# train → export → evaluate for a and b, then join.
UPSTREAM = {
    "start": [],
    **{f"train@{name}": ["start"] for name in "ab"},
    **{f"evaluate@{name}": [f"train@{name}"] for name in "ab"},
    "join": ["evaluate@a", "evaluate@b"],
}


def schedule(slots=2, cores=4, devices=(), seconds=None, needs=None, upstream=UPSTREAM):
    return Schedule(upstream, Machine(slots, cores, tuple(devices)), seconds or {}, needs or {})


def names(one: Schedule) -> list[str]:
    found = []
    while (taken := one.take()) is not None:
        found.append(taken[0])
    return found


def test_what_waits_starts_when_all_that_it_depends_on_is_done():
    one = schedule(slots=9)
    order = []
    while not one.finished:
        ready = names(one)
        order.append(ready)
        for name in ready:
            one.done(name)
    assert order == [["start"], ["train@a", "train@b"], ["evaluate@a", "evaluate@b"], ["join"]]


def test_no_more_run_than_there_are_slots():
    one = schedule(slots=1)
    one.done(*names(one))
    assert names(one) == ["train@a"]
    one.done("train@a")
    assert len(names(one)) == 1


def test_the_one_that_begins_the_longest_way_goes_first():
    one = schedule(slots=1, seconds={"evaluate@b": 30.0, "train@a": 20.0})
    one.done(*names(one))
    assert names(one) == ["train@b"]


def test_free_cores_are_shared_among_what_can_start():
    one = schedule(slots=2, cores=5)
    assert one.take()[1].threads == 5, "alone"
    one.done("start")
    assert [one.take()[1].threads for _ in range(2)] == [2, 3]
    one.done("train@a")
    assert one.take()[1].threads == 2
    assert schedule(slots=9, cores=1).take()[1].threads == 1


def test_a_gpu_belongs_to_one_instance():
    one = schedule(slots=4, devices="01", needs={"train@a": 1, "train@b": 1, "join": 2})
    one.done(*names(one))
    given = [one.take()[1].devices for _ in range(2)]
    assert given == [("0",), ("1",)]
    for name in ("train@a", "train@b", *names(one)):
        one.done(name)
    for name in names(one):
        one.done(name)
    assert one.take() == ("join", one._taken["join"])
    assert one._taken["join"].devices == ("0", "1")


def test_what_waits_for_several_gpus_is_not_overtaken_by_what_wants_one():
    upstream = {"one": [], "two": [], "both": [], "none": []}
    needs = {"one": 1, "two": 1, "both": 2}
    one = schedule(
        slots=9, devices="01", needs=needs, upstream=upstream, seconds={"one": 9.0, "both": 5.0}
    )
    assert names(one) == ["one", "none"], "two would take what both waits for"
    one.done("one")
    assert names(one) == ["both"]


@pytest.mark.parametrize("devices", [(), ("0",)])
def test_more_gpus_than_there_are_is_all_of_them(devices):
    one = schedule(devices=devices, needs={"start": 8})
    assert one.take()[1].devices == devices


def test_a_failed_instance_gives_back_its_share_and_starts_nothing():
    one = schedule(slots=1, devices="0", needs={"start": 1})
    one.take()
    one.give_back("start")
    assert one.take() is None
    assert not one.finished
