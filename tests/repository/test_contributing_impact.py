"""What CONTRIBUTING.md says that its edits of params.yaml rerun, by what `make impact` reads:
nothing runs.
"""

from pathlib import Path

from committed_clone import copy  # noqa: F401
from contributing import SECTIONS, commands
from micro_graph import shell

from pipeline.declared.file_trees import GitTree, WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.impact import describe

AFTER = {"params", "compare", "curves", "report"}
OF_CONDITIONS = AFTER | {"distinct"}


def edited(copy: Path, title: str) -> tuple[Graph, set[str]]:
    """Return the graph after a section's commands, and the stages that the edit adds."""
    before = set(Graph(WorkingTree(copy)).instances)
    for command in commands(title):
        shell(["bash", "-ec", command], copy)
    graph = Graph(WorkingTree(copy))
    assert before < set(graph.instances), "none is gone"
    return graph, set(graph.instances) - before


def test_a_condition_reruns_its_own_stages_and_what_compares_all(copy):
    graph, new = edited(copy, "A condition")
    assert {name.split("@")[0] for name in new} >= {
        "tokenize",
        "pretrain",
        "export",
        "evaluate",
        "sft",
        "gsm8k",
        "probes",
    }
    assert all("digits" in name for name in new)
    assert graph.stale().keys() == new | OF_CONDITIONS
    assert graph.downstream(set(graph.stale())) == {"contents"}, "nor does any other depend on them"
    assert "  params: params.yaml has changed" in describe(graph, GitTree(copy, "HEAD"), {})
    for name in OF_CONDITIONS:
        assert f"`{name}`" in SECTIONS["A condition"], "the page names it"


def test_a_checkpoint_step_leaves_exports_and_evaluations_of_the_old_ones(copy):
    graph, new = edited(copy, "A checkpoint step")
    assert {name.split("@")[0] for name in new} == {"export", "evaluate"}
    assert all(name.endswith("-100") for name in new)
    trained = {name for name in graph.instances if name.startswith("pretrain@")}
    assert graph.stale().keys() == new | trained | AFTER
    old = {name for name in graph.instances if name.startswith(("export@", "evaluate@"))} - new
    assert old, "which run again only if training comes out different"
    assert old <= graph.downstream(trained)
