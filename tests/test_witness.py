"""Fingerprints of a stage's inputs, taken by a process outside its confinement."""

import os

from test_seal import project  # noqa: F401

from graph.instances import read_instances
from graph.tree import WorkingTree
from graph.witness import Witness, fingerprints_of


def test_processes_that_a_stage_forks_ask_one_at_a_time(project):  # noqa: F811
    [instance] = [one for one in read_instances(WorkingTree(project)).values() if one.stage == "fetch"]
    witness = Witness(project, instance)
    expected = fingerprints_of(project, instance)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            same = False
            try:
                same = all(witness.fingerprints() == expected for _ in range(50))
            finally:
                os._exit(not same)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert witness.fingerprints() == expected
    code = project / "model/__init__.py"
    code.write_text(code.read_text() + "# An edit.\n")
    assert witness.fingerprints() == {**expected, "model/__init__.py": code.read_bytes()}
    witness.dismiss()
    assert witness.fingerprints() == {}
