"""Which state of a run is used and which are kept; test_training_state.py and test_fine_tuning.py
have real ones.
"""

import shutil
from pathlib import Path

import pytest

from common.errors import PipelineError
from model.runtime.step_states import States, steps_of


@pytest.fixture
def states(tmp_path) -> States:
    return States(tmp_path / "run", "states/step_", "an abacus", "r")


def write(directory: Path) -> None:
    (directory / "a").write_text("state")


def read(step: int, directory: Path) -> tuple[int, str]:
    return step, (directory / "a").read_text()


def test_the_newest_two_are_kept_whichever_way_they_come(states):
    for step in (8, 9, 10):
        states.keep(step, write)
    assert steps_of(states.scratch, states.prefix) == [10, 9]
    directory = states.scratch / "states/step_11"
    directory.mkdir()
    write(directory)
    states.complete(11)
    assert steps_of(states.scratch, states.prefix) == [11, 10]
    assert states.newest(read) == (11, "state")


def test_an_old_state_goes_only_when_the_new_one_is_complete(states):
    for step in (1, 2):
        states.keep(step, write)

    def fail(directory: Path) -> None:
        raise PipelineError("no space left")

    with pytest.raises(PipelineError, match="no space"):
        states.keep(3, fail)
    assert steps_of(states.scratch, states.prefix) == [2, 1]


def test_no_state_is_no_error(states):
    assert states.newest(read) is None


def test_names_that_are_no_steps_are_left_alone(states):
    states.keep(3, write)
    for name in ("step_", "step_4.old", ".step_5.partial", "other_6"):
        shutil.copytree(states.scratch / "states/step_3", states.scratch / "states" / name)
    assert steps_of(states.scratch, states.prefix) == [3]


@pytest.mark.parametrize("error", [PipelineError("first\nsecond"), OSError("first; second")])
def test_a_state_that_cannot_be_read_is_one_line_and_is_removed(states, capsys, error):
    for step in (1, 2):
        states.keep(step, write)

    def refuse(step: int, directory: Path) -> tuple[int, str]:
        if step == 2:
            raise error
        return read(step, directory)

    assert states.newest(refuse) == (1, "state")
    assert capsys.readouterr().err.splitlines() == [
        "warning: r: step_2 is not used: first; second",
        "r: resumes from step 1",
    ]
    assert steps_of(states.scratch, states.prefix) == [1]


def test_a_state_of_another_machine_is_used_with_a_warning(states, capsys):
    states.keep(1, write)
    assert states._replace(machine="a slide rule").newest(read) == (1, "state")
    assert capsys.readouterr().err.splitlines() == [
        "warning: r: began on an abacus, resumes on a slide rule: the last bits may differ",
        "r: resumes from step 1",
    ]
