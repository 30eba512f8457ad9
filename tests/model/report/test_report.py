"""The report: what it says of a run, that it needs nothing else, and what `make report` adds."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from report_sample import CONDITIONS, STEPS, write_json, write_rows, write_sample
from repository import REPOSITORY

from model.curves.charts import CHARTS, CURVES
from model.report.figures import thinned
from model.report.lineage import blob_id, read_stages, reduced
from model.report.page import STALE_BEGIN, STALE_END
from model.report.runs import checks, read_exports, sources
from pipeline.declared.code_imports import Code
from pipeline.declared.dvc_yaml import load_yaml, read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from tools.stale_report import filled, stale_html


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """The sample with its report, made by the sealed stage."""
    root = tmp_path_factory.mktemp("report") / "repository"
    root.mkdir()
    write_sample(root)
    run(root)
    return root


def run(root: Path) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (root / "plots/report.html").read_bytes()


@pytest.fixture(scope="module")
def page(sample) -> str:
    return (sample / "plots/report.html").read_text()


class Elements(HTMLParser):
    """All elements with their attributes, in order."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def named(self, *tags: str) -> list[dict]:
        return [attributes for tag, attributes in self.found if tag in tags]


def test_the_same_inputs_give_the_same_bytes(sample, page):
    assert run(sample).decode() == page


def test_the_page_is_small_and_needs_nothing_else(page):
    assert len(page.encode()) < 3_000_000
    elements = Elements(page)
    for attributes in elements.named(
        "script", "img", "link", "iframe", "source", "object", "embed"
    ):
        assert not attributes.get("src")
        assert not attributes.get("data")
        assert not attributes.get("href")
    assert all(attributes["href"].startswith("#") for attributes in elements.named("a"))
    assert re.search(r"url\(|@import", page[: page.index("</style>")]) is None
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page


def test_every_link_leads_somewhere(page):
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for attributes in elements.named("a")} <= set(ids)


def test_the_verdict_comes_first_and_whole(page):
    body = page[page.index("<main") :]
    assert [
        f"Sentence {number}: differences &lt; 0.05 &amp; more." in body for number in range(7)
    ] == [True] * 7
    assert (
        body.index("Sentence 0")
        < body.index("Accuracy &lt;of&gt; all (accuracy)")
        < body.index("Curves</h2>")
    )
    assert "0.3013 [0.270, 0.334]" in body


def test_every_chart_is_named_and_has_its_data_and_its_stage(page):
    elements = Elements(page)
    figures = [attributes for attributes in elements.named("div") if "data-chart" in attributes]
    assert {each["id"] for each in figures} == {
        *(chart.name for chart in CURVES),
        "differences_accuracy",
        "differences_bits_per_byte",
        "fact_usage",
    }
    for each in figures:
        assert each["role"] == "img"
        assert each["aria-label"].startswith("Chart: ")
    assert len(elements.named("figure")) == len(figures)
    parts = page.split("<figure ")[1:]
    assert all("<details>" in part and "<caption>" in part and "#stage-" in part for part in parts)


def test_every_chart_names_a_stage_that_there_is():
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    assert {chart.stage for chart in CHARTS.values()} <= stages.keys()


def test_headings_are_in_order_and_tables_have_headers(page):
    elements = Elements(page)
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert elements.named("html")[0]["lang"] == "en"
    for table in re.findall(r"<table>(.*?)</table>", page[: page.index("<script")], re.DOTALL):
        assert "<caption>" in table
        assert '<th scope="col">' in table
        assert '<th scope="row">' in table
    assert elements.named("main")
    assert elements.named("nav")[0]["aria-label"]


def test_lineage_names_code_by_the_id_that_git_gives_it(sample, page):
    asked = subprocess.run(
        ["git", "hash-object", "model/statistics/rates.py"],
        cwd=sample,
        capture_output=True,
        text=True,
        check=True,
    )
    assert blob_id(sample / "model/statistics/rates.py") == asked.stdout.strip()
    assert f"<code>{asked.stdout.strip()}</code> model/statistics/rates.py" in page


def test_lineage_has_what_dvc_yaml_gives_each_stage(sample):
    instances = read_instances(WorkingTree(sample)).values()
    versions = load_yaml((sample / "libraries.yaml").read_bytes())
    for stage in read_stages(sample):
        mine = [instance for instance in instances if instance.stage == stage.name]
        assert stage.instances == len(mine)
        assert set(stage.params) == {
            key for instance in mine for key in instance.params.get("params.yaml", ())
        }
        if stage.name != "report":
            code = Code(WorkingTree(sample))
            chosen = set().union(*code.choices(stage.name).values()) & stage.code.keys()
            assert stage.code.keys() == code.closure(stage.name) | chosen, (
                "folders are told by file"
            )
        named = {key for instance in mine for key in instance.params.get("libraries.yaml", ())}
        assert named == ({stage.name} & versions.keys() if stage.name != "report" else set())
        if stage.name != "report":
            assert stage.libraries == versions.get(stage.name, {})
        else:
            assert stage.libraries.items() >= versions["fetch"].items() | versions["sft"].items()
        outs = {
            out
            for instance in instances
            if instance.stage in stage.needs
            for out in instance.outputs
        }
        needed = [
            dep
            for instance in mine
            for dep in instance.deps
            if dep.startswith(("data/", "scores", "exports", "losses"))
        ]
        assert all(
            any(f"{dep}/".startswith(f"{out}/") or out.startswith(f"{dep}/") for out in outs)
            for dep in needed
        )


def test_the_drawn_graph_has_all_stages_and_implies_all_edges(sample):
    stages = read_stages(sample)
    needs = {stage.name: set(stage.needs) for stage in stages}
    drawn = reduced(stages)

    def above(name: str) -> set[str]:
        direct = {upper for upper, lower in drawn if lower == name}
        return direct.union(*map(above, direct))

    assert all(direct <= above(name) for name, direct in needs.items())
    assert len(drawn) < sum(map(len, needs.values()))


def test_integrity_is_said_and_a_fault_is_said(sample, tmp_path):
    assert all(
        check.holds
        for check in checks(
            read_exports(sample / "metrics", list(CONDITIONS), [1, 2], list(STEPS)), 1e-4
        )
    )
    shutil.copytree(sample / "metrics", tmp_path / "metrics")
    folder = tmp_path / "metrics/mul_tokens/seed_2/step_1000"
    same = json.loads((tmp_path / "metrics/baseline/seed_1/step_100/parity.json").read_text())
    write_json(folder / "parity.json", {**same, "max_abs_logit_difference": 1.27})
    write_json(folder / "evaluation.json", {"hellaswag": {"acc_norm": {"total": 999}}})
    write_json(
        tmp_path / "metrics/mul_tokens/tokenize.json", {"train": {"documents_sha256": "e" * 64}}
    )
    found = checks(read_exports(tmp_path / "metrics", list(CONDITIONS), [1, 2], list(STEPS)), 1e-4)
    assert [check.holds for check in found] == [False] * 4
    assert "1.3" in found[0].figures


@pytest.mark.parametrize(
    "profile", ["params.yaml", "profiles/micro.yaml", "profiles/gpt2-124m-10b.yaml"]
)
def test_every_pin_of_params_yaml_is_a_source(profile):
    body = (REPOSITORY / profile).read_text()
    fetch = yaml.safe_load(body)["fetch"]
    pinned = {row[2].split()[1] for row in sources(fetch)}
    section = body[body.index("fetch:") : body.index("\ncorpus:")]
    assert pinned == set(
        re.findall(r"^\s{5,}.*(?:sha256|revision): ([0-9a-f]{40,})", section, re.MULTILINE)
    )


def test_long_curves_are_thinned_and_keep_their_ends():
    rows = [
        {"condition": "a", "seed": "1", "split": split, "step": str(step)}
        for split in ("train", "val")
        for step in range(1000)
    ]
    kept = thinned(rows, 300)
    assert len(kept) <= 600
    assert [row["step"] for row in kept if row["split"] == "val"][-1] == "999"


def test_a_file_without_sentences_stops_the_stage(tmp_path):
    write_sample(tmp_path)
    write_json(tmp_path / "plots/comparisons.json", {"first": "baseline", "comparisons": []})
    done = subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == "error: plots/comparisons.json: no sentences; run dvc repro"
    )


def test_one_condition_has_a_report_too(tmp_path):
    write_sample(tmp_path)
    for name, columns in (
        ("differences", ["model", "figure", "unit"]),
        ("fact_usage", ["condition", "seed"]),
    ):
        write_rows(tmp_path / f"plots/{name}.csv", columns, [])
    assert b"nothing to compare" in run(tmp_path)


def test_the_report_sees_an_edit_of_dvc_yaml_that_reruns_nothing_else(tmp_path):
    assert (REPOSITORY / "stages.yaml").readlink() == Path("dvc.yaml")
    assert "stages.yaml" in read_instances(WorkingTree(REPOSITORY))["report"].deps
    write_sample(tmp_path)
    before = {stage.name: stage for stage in read_stages(tmp_path)}
    of_evaluate = "      - data/items\n      - exports/"
    edited = (
        (tmp_path / "dvc.yaml")
        .read_text()
        .replace(of_evaluate, f"      - data/more\n{of_evaluate}", 1)
    )
    (tmp_path / "dvc.yaml").write_text(edited)
    [name] = [stage.name for stage in read_stages(tmp_path) if stage != before[stage.name]]
    assert "data/more" in {stage.name: stage for stage in read_stages(tmp_path)}[name].inputs


def recorded(root: Path) -> Graph:
    """The sample's graph with a dvc.lock as DVC would write it of the files as they are."""
    tree = WorkingTree(root)
    (root / "dvc.lock").unlink(missing_ok=True)
    graph = Graph(tree)
    stages = {}
    for name, instance in graph.instances.items():
        params = {
            file: {key: graph._param(file, key) for key in keys}
            for file, keys in instance.params.items()
        }
        deps = [{"path": dep, "md5": graph._hash(dep) or "0"} for dep in instance.deps]
        outs = [{"path": out, "md5": "0"} for out in instance.outputs]
        stages[name] = {"cmd": instance.command, "deps": deps, "params": params, "outs": outs}
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    return Graph(tree)


def test_a_folder_of_code_has_the_hash_that_dvc_gives_it(sample):
    from dvc.repo import Repo

    Repo.init(sample, no_scm=True, force=True).close()
    (sample / "model/__pycache__").mkdir(exist_ok=True)
    (sample / "model/__pycache__/x.pyc").write_bytes(b"x")
    with Repo(sample) as repo:
        [stage] = [stage for stage in repo.index.stages if stage.name == "report"]
        [dep] = [dep for dep in stage.deps if dep.def_path == "model"]
        dep.save()
        assert Graph(WorkingTree(sample))._hash("model") == dep.hash_info.value


def test_an_edit_of_any_code_makes_the_report_stale(sample):
    before = recorded(sample)._hash("model")
    path = sample / "model/report/report.css"
    content = path.read_text()
    path.write_text(content + "\n")
    try:
        graph = Graph(WorkingTree(sample))
        assert graph._hash("model") != before
        assert "model has changed" in graph.stale()["report"]
    finally:
        path.write_text(content)


def test_make_report_says_what_is_stale_now(sample, page):
    recorded(sample)
    edited = sample / "model/export/weight_map.py"
    content = edited.read_text()
    edited.write_text(content + "\n# <edited>\n")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tools.stale_report"],
            cwd=sample,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, "report.html\n"), done.stderr
        copy = (sample / "report.html").read_text()
        assert re.search(
            # No git and no cache tell which file of the folder it is.
            r'<a href="#stage-export">export@baseline-1-100</a>: .*model/export has changed',
            copy,
        )
        assert "<code>metrics/baseline/seed_1/step_100/evaluation.json</code>" in copy
        assert copy.replace(
            copy[copy.index(STALE_BEGIN) : copy.index(STALE_END)], ""
        ) == page.replace(page[page.index(STALE_BEGIN) : page.index(STALE_END)], "")
    finally:
        edited.write_text(content)


def test_a_page_without_a_place_for_it_is_refused():
    with pytest.raises(ValueError, match="not what the report stage writes"):
        filled("<html></html>", "x")


def test_without_a_lock_every_stage_is_stale(sample):
    (sample / "dvc.lock").unlink(missing_ok=True)
    assert stale_html(Graph(WorkingTree(sample))).count("has never run") == len(
        read_instances(WorkingTree(sample))
    )
