"""Fingerprints of a stage's inputs, taken by a process outside its confinement."""

import hashlib
import os
import random
import signal
import time

import pytest
from sealed_project import project  # noqa: F401

from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.seal.input_witness import Witness, fingerprints_of


@pytest.fixture(autouse=True)
def _ended_where_a_turn_does_not_come():
    signal.alarm(120)  # and below the processes that it forks, which would keep pytest waiting
    yield
    signal.alarm(0)


def test_processes_that_a_stage_forks_ask_one_at_a_time(project):
    [instance] = [
        one for one in read_instances(WorkingTree(project)).values() if one.stage == "fetch"
    ]
    witness = Witness(project, instance)
    expected = fingerprints_of(project, instance)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            same = False
            signal.alarm(60)
            try:
                same = all(witness.fingerprints() == expected for _ in range(50))
            finally:
                os._exit(not same)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert witness.fingerprints() == expected
    code = project / "model/__init__.py"
    code.write_text(code.read_text() + "# An edit.\n")
    edited = hashlib.sha256(code.read_bytes()).hexdigest()
    assert witness.fingerprints() == {**expected, "model/__init__.py": edited}
    witness.dismiss()
    assert witness.fingerprints() == {}


def test_who_is_killed_while_asking_holds_up_nobody_and_leaves_no_answer_to_the_next(project):
    [instance] = [
        one for one in read_instances(WorkingTree(project)).values() if one.stage == "fetch"
    ]
    witness = Witness(project, instance)
    code = project / "model/__init__.py"
    for number in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                while True:
                    witness.fingerprints()
            finally:
                os._exit(0)
        time.sleep(random.Random(number).random() / 50)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        code.write_text(f"# Edit {number}.\n")
        assert witness.fingerprints() == fingerprints_of(project, instance)
    witness.dismiss()
