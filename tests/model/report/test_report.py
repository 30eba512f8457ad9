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
from demo_charts import CHARTS, CURVES, TASK_CHARTS
from report_sample import CONDITIONS, STEPS, write_json, write_rows, write_sample
from repository import REPOSITORY

from common.errors import PipelineError
from model.network.gpt import GPT, GPTConfig
from model.report.figures import thinned
from model.report.header import (
    compared,
    facts,
    parameter_count,
    rounded,
    vocabulary_size,
)
from model.report.lineage import blob_id, read_stages, reduced
from model.report.page import STALE_BEGIN, STALE_END
from model.report.runs import checks, read_exports, sources
from model.tokens.bpe import Tokenizer
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
    assert "0.3013 [0.270, 0.334]" in body


def order_of(page: str) -> list[str]:
    """Return the page's parts by their ids, in order."""
    return re.findall(r'<section id="(\w+)"', page)


def test_curves_and_differences_come_before_tables_and_origins(page):
    parts = order_of(page)
    wanted = ["verdict", "curves", "differences", "tables", "integrity", "lineage", "stale"]
    assert [part for part in parts if part in wanted] == wanted
    linked = re.findall(r'<a href="#(\w+)">', page[page.index("<nav") : page.index("</nav>")])
    assert linked == parts
    tables, curves = (page.index(f'<section id="{name}"') for name in ("tables", "curves"))
    moved = page[:curves] + page[tables:] + page[curves:tables]
    assert order_of(moved) != order_of(page), "another order is seen"


def header_of(page: str) -> dict[str, str]:
    header = page[page.index("<header>") : page.index("</header>")]
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", header))


def test_the_header_says_what_is_compared(page):
    said = header_of(page)
    assert "<h1>mul_tokens against baseline</h1>" in page
    assert said["mul_tokens"] == "differs in tokenize.mul_facts false → true"
    for name, words in {
        "Network": "2 layers, 4 heads, width 128, context 256 tokens",
        "Text": "1,000 training documents, 1.7 MB",
        "Tokens": "1,000 steps of 2 × 256 = 512 tokens: 512,000, 1 times the 512,000",
        "Optimizer": "AdamW, learning rate 0.002 to 0.0002 (cosine; 100 steps of warm-up)",
        "Fine-tuning": "7,200 conversations, 900 steps of 8",
        "Seeds": "1, 2",
        "Arithmetic": "float32 on cpu, portable kernels",
    }.items():
        assert words in said[name], name


def test_the_header_says_of_each_condition_what_is_its_own(sample):
    params = yaml.safe_load((sample / "params.yaml").read_text())
    empty = {"tokenize": {}, "model": {}, "pretrain": {}, "sft": {}}
    params["conditions"] = {
        "baseline": empty,
        "mul_tokens": {**empty, "model": {"width": 192}, "pretrain": {"optimizer": "muon"}},
    }
    assert dict(compared(params))["mul_tokens"] == (
        "differs in model.width 128 → 192, pretrain.optimizer adamw → muon"
    )
    said = dict(facts(params, sample / "metrics"))
    assert re.search(r"^baseline: .*width 128,.*; mul_tokens: .*width 192,", said["Network"])
    assert "mul_tokens: Muon (0.02) for the matrices inside blocks" in said["Optimizer"]
    assert ":" not in said["Seeds"]
    params["seeds"].append(3)
    assert dict(facts(params, sample / "metrics"))["Seeds"] == "1, 2, 3"


@pytest.mark.parametrize(
    ("width", "layers", "context"), [(8, 1, 16), (12, 3, 5)], ids=["one block", "three blocks"]
)
def test_the_headers_parameters_are_the_networks(width, layers, context):
    config = {"layers": layers, "heads": 2, "width": width, "context": context}
    network = GPT(GPTConfig(**config, vocab_size=40))
    assert parameter_count(config, 40) == sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (999, "999 "),
        (999_499, "999 k"),
        (999_900, "1 M"),
        (1_600_000, "1.6 M"),
        (15 * 10**11, "1.5 T"),
    ],
)
def test_large_numbers_are_rounded_before_their_letter_is_chosen(number, words):
    assert rounded(number) == words


@pytest.mark.parametrize("kept", [200, 256])
def test_the_headers_vocabulary_is_the_tokenizers(kept):
    ranks = {bytes([number]): number for number in range(256)}
    chosen = dict(list(ranks.items())[:kept]) if kept < 256 else ranks
    size = Tokenizer(ranks, mul_facts=False).size
    assert (vocabulary_size(len(chosen), 256) == size) == (kept == 256)
    assert vocabulary_size(None, 256) == size


def test_tables_of_tokens_without_figures_are_named(sample, tmp_path):
    shutil.copytree(sample / "metrics", tmp_path / "metrics")
    write_json(tmp_path / "metrics/mul_tokens/tokenize.json", {"train": {}})
    params = yaml.safe_load((sample / "params.yaml").read_text())
    with pytest.raises(PipelineError, match=r"mul_tokens/tokenize\.json: not the tokenize stage's"):
        facts(params, tmp_path / "metrics")


def test_every_chart_is_named_and_has_its_data_and_its_stage(page):
    elements = Elements(page)
    figures = [attributes for attributes in elements.named("div") if "data-chart" in attributes]
    compared = [chart for chart in CURVES if chart.compared]
    assert {chart.name for chart in compared} == {
        "bits_per_byte",
        *(chart.name for chart in TASK_CHARTS),
    }
    assert {each["id"] for each in figures} == {
        *(chart.name for chart in CURVES),
        *(f"{chart.name}_paired" for chart in compared),
        "differences_accuracy",
        "differences_bits_per_byte",
        "fact_usage",
    }
    for each in figures:
        assert each["role"] == "img"
        assert each["aria-label"].startswith("Chart: ")
    assert len(elements.named("figure")) == len(figures) - len(compared)
    for chart in compared:
        figure = page[page.index(f'aria-labelledby="{chart.name}-title"') :]
        assert f'id="{chart.name}_paired"' in figure[: figure.index("</figure>")]
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
            closure = Code(WorkingTree(sample)).closure(stage.name)
            assert stage.code.keys() == closure, "folders are told by file"
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
            read_exports(sample / "metrics", list(CONDITIONS), [1, 2], list(STEPS)), 1e-4, {}
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
    exports = read_exports(tmp_path / "metrics", list(CONDITIONS), [1, 2], list(STEPS))
    found = checks(exports, 1e-4, {})
    assert [check.holds for check in found] == [False] * 4
    assert "1.3" in found[0].figures


def test_conditions_that_share_their_pretraining_may_share_weights(sample, tmp_path):
    shutil.copytree(sample / "metrics", tmp_path / "metrics")
    for path in (tmp_path / "metrics/baseline").rglob("parity.json"):
        place = path.relative_to(tmp_path / "metrics/baseline")
        shutil.copy(path, tmp_path / "metrics/mul_tokens" / place)
    exports = read_exports(tmp_path / "metrics", list(CONDITIONS), [1, 2], list(STEPS))
    name = "No two exports have the same weights"
    [alone] = [check for check in checks(exports, 1e-4, {}) if check.name == name]
    assert not alone.holds
    twins = {"mul_tokens": "baseline"}
    [check] = [check for check in checks(exports, 1e-4, twins) if check.name == name]
    assert check.holds
    assert check.figures.endswith("distinct; mul_tokens is pretrained as baseline is")


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
        ("curves/paired", ["chart", "condition"]),
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
