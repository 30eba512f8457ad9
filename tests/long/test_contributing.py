"""CONTRIBUTING.md, followed to the letter on the micro profile: each section's example and README's
ablations, then one run of all of them together.
"""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from conditions import ABLATIONS, contributed, shown, with_more
from contributing import blocks, commands
from micro_graph import AUTHOR, edit, micro_clone, shell

from common.sections import read_json
from model.tokens.bpe import Tokenizer
from pipeline.check import check, declaration_findings
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph

pytestmark = pytest.mark.slow("three conditions more and a task, of a whole micro graph", minutes=5)


def follow(clone: Path, title: str) -> str:
    return "".join(shell(["bash", "-ec", command], clone) for command in commands(title))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The micro graph with README's ablations and after all four sections, regenerated."""
    directory = tmp_path_factory.mktemp("contributing") / "clone"
    micro_clone(directory)
    params = directory / "params.yaml"
    params.write_text(with_more(params.read_text(), contributed() + shown(*ABLATIONS)))
    sha256 = follow(directory, "A task").split()[0]
    source, asked = blocks("A task", "yaml")
    edit(
        directory / "params.yaml",
        "\n  ranks:\n",
        f"\n{source.replace('SHA256', sha256)}  ranks:\n",
    )
    edit(directory / "params.yaml", "\ncorpus:\n", f"{asked}\ncorpus:\n")
    lines, _, sha256, _ = follow(directory, "A source of text").split()
    params = (directory / "params.yaml").read_text()
    before = re.search(r"  passages:\n(    .*\n)+", params)[0]
    [block] = blocks("A source of text", "yaml")
    edit(directory / "params.yaml", before, block.replace("LINES", lines).replace("SHA256", sha256))
    follow(directory, "A checkpoint step")
    assert declaration_findings(WorkingTree(directory)) == []
    shell(["make", "repro"], directory)
    return directory


def test_the_examples_make_a_graph_that_is_declared_and_recorded(clone):
    shell(["git", "add", "-A"], clone)
    shell(["git", *AUTHOR, "commit", "-qm", "contributed"], clone)
    assert check(WorkingTree(clone)) == []


def test_the_new_condition_goes_all_the_way(clone):
    tokenizer = Tokenizer.load(clone / "data/tokens/digits")
    assert len(tokenizer.encode_text("1234567")) == 7
    for folder in ("exports", "sft"):
        exported = json.loads(
            (clone / folder / "digits/seed_1/step_200/tokenizer.json").read_text()
        )
        assert tokenizer.pattern in json.dumps(
            exported["pre_tokenizer"], ensure_ascii=False
        ).replace("\\\\", "\\")
    compared = {
        row["condition"]
        for row in json.loads((clone / "plots/comparisons.json").read_text())["comparisons"]
    }
    assert compared == {"mul_tokens", "digits", *ABLATIONS}
    assert "Digits" in (clone / "plots/results.md").read_text()


def test_the_new_task_is_asked_and_compared(clone):
    metrics = read_json(clone / "metrics/digits/seed_1/step_100/evaluation.json", dict)
    assert metrics["counting"]["acc_norm"]["total"] == 8
    assert "counting acc_norm" in (clone / "plots/comparisons.md").read_text()
    assert "**Counting acc_norm** (accuracy)" in (clone / "plots/results.md").read_text()
    points = (clone / "plots/curves/counting_acc_norm.csv").read_text().splitlines()[1:]
    assert len(points) == (3 + len(ABLATIONS)) * 2, "of each condition at each step"
    assert 'id="counting_acc_norm"' in (clone / "plots/report.html").read_text()
    assert "curves/counting_acc_norm.csv:" in (clone / "plots/dvc.yaml").read_text()


def test_the_new_source_is_all_that_is_read(clone):
    texts = {json.loads(line)["text"] for line in (clone / "texts.jsonl").read_text().splitlines()}
    assert len(texts) > 300
    script = (
        "from model.data.documents import read_split; from pathlib import Path; import json\n"
        "print(json.dumps([d.text for d in read_split(Path('data/raw/passages'), 'passages')]))"
    )
    assert set(json.loads(shell([sys.executable, "-c", script], clone))) == texts


def test_the_new_step_has_checkpoint_export_and_evaluation(clone):
    for condition in ("baseline", "mul_tokens", "digits", *ABLATIONS):
        for folder in ("checkpoints", "exports", "scores", "metrics"):
            assert {
                path.name for path in (clone / folder / condition / "seed_1").glob("step_*")
            } == {"step_100", "step_200"}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_goes_all_the_way_and_is_told_in_words(clone, name):
    [own] = yaml.safe_load(shown(name)).values()
    [[section, values]] = [(key, values) for key, values in own.items() if values]
    card = (clone / f"exports/{name}/seed_1/step_200/README.md").read_text()
    results = (clone / "plots/results.md").read_text()
    report = (clone / "plots/report.html").read_text()
    for key, value in values.items():
        assert f"{section}.{key} {value}" in card
        assert f"| {name} | {section}." in results
        assert f"{section}.{key} " in report
        assert f" → {value}" in results
        assert f" → {value}" in report


def test_conditions_that_tokenize_alike_are_in_the_cache_once(clone):
    cache = clone / ".dvc/cache/files/md5"
    lock = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]

    def shards(condition: str) -> set[str]:
        [out] = [out for out in lock[f"tokenize@{condition}"]["outs"] if "tokens/" in out["path"]]
        listing = cache / out["md5"][:2] / out["md5"][2:]
        entries = json.loads(listing.read_text())
        return {entry["md5"] for entry in entries if entry["relpath"].endswith(".bin")}

    assert shards("baseline") == shards("fast") == shards("wide")
    assert not shards("baseline") & shards("digits")
    assert all((cache / md5[:2] / md5[2:]).is_file() for md5 in shards("baseline"))


def test_an_edit_of_one_condition_reruns_its_own_stages(clone):
    before = (clone / "params.yaml").read_text()
    edit(clone / "params.yaml", "{width: 192}", "{width: 160}")
    stale = set(Graph(WorkingTree(clone)).stale())
    (clone / "params.yaml").write_text(before)
    assert {name for name in stale if "@" in name} == {
        "pretrain@wide-1",
        "export@wide-1-100",
        "export@wide-1-200",
    }


def test_a_wrong_value_of_a_condition_is_refused_before_anything_runs(clone):
    before = (clone / "params.yaml").read_text()
    edit(clone / "params.yaml", "{width: 192}", "{widht: 192}")
    said = shell(["dvc", "repro"], clone, check=False)
    (clone / "params.yaml").write_text(before)
    assert "error: params.yaml: conditions.wide.model.widht: unknown key; remove it or " in said
    assert set(re.findall(r"Running stage '([^']+)'", said)) == {"params"}
