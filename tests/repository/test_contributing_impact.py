"""Compare what CONTRIBUTING.md says its edits rerun with what `make impact` finds; run nothing."""

from pathlib import Path

import pytest
import yaml
from committed_clone import copy  # noqa: F401
from conditions import contributed, set_conditions, with_more
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
    if title == "A condition":
        params = copy / "params.yaml"
        params.write_text(with_more(params.read_text(), contributed()))
    else:
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
    assert {name.split("@")[0] for name in new} == {"export", "evaluate", "samples"}
    assert all(name.endswith("-100") for name in new)
    trained = {name for name in graph.instances if name.startswith("pretrain@")}
    assert graph.stale().keys() == new | trained | AFTER | {"distinct"}
    old = {
        name for name in graph.instances if name.startswith(("export@", "evaluate@", "samples@"))
    } - new
    assert old, "which run again only if training comes out different"
    assert old <= graph.downstream(trained)


@pytest.mark.parametrize(
    ("section", "stages"),
    [
        ("tokenize", {"tokenize@mul_tokens", "export@mul_tokens"}),
        ("model", {"pretrain@mul_tokens", "export@mul_tokens"}),
        ("pretrain", {"pretrain@mul_tokens", "export@mul_tokens"}),
        ("sft", {"sft@mul_tokens"}),
    ],
)
def test_an_edit_of_one_section_of_a_condition_reruns_what_reads_it_alone(copy, section, stages):
    """No stage of another condition is stale, or follows a stale one, before `compare`."""
    document = yaml.safe_load((copy / "params.yaml").read_text())
    value = {"tokenize": {"mul_facts": False}, "model": {"width": 192}}.get(
        section, {"learning_rate": 1.0e-3}
    )
    document["conditions"]["mul_tokens"][section] = value
    set_conditions(copy / "params.yaml", document["conditions"])
    graph = Graph(WorkingTree(copy))
    stale = set(graph.stale())
    assert {"-".join(name.split("-")[:1]) for name in stale} == stages | OF_CONDITIONS
    follow = graph.downstream(stale) - stale
    assert {name for name in follow if "baseline" in name} == set()
