"""Nothing that comes from data or parameters becomes markup: in the report, in Markdown, on a
terminal.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
import yaml
from browser import chromium, require_chromium
from conditions import conditions
from report_sample import CONDITIONS, write_rows, write_sample
from repository import REPOSITORY

from common.errors import printable
from common.files import write_checksums, write_jsonl
from model.report.page import STALE_BEGIN, STALE_END
from model.results.markdown_table import Table, words
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from tools.stale_report import stale_html

# Without dots, since the condition is a key of params.yaml: conditions.NAME.tokenize.
HOSTILE = (
    "</script><img src=x onerror=\"pwned='image'\">'`{{7*7}}${7*7}\u2028|<!-- stale: end -->"
    "<svg onload=pwned=1>&lt;b&amp;\n"
    "</title></style></textarea><script>pwned='script'</script>\"onmouseover=\"pwned='attribute'"
)
# Elements of the page itself; one more of them would be the hostile text's.
_OURS = ("script", "style", "title", "meta", "svg", "main")


def spoil(value):
    """Return JSON with the hostile text put behind every text in it."""
    if isinstance(value, dict):
        return {key: spoil(each) for key, each in value.items()}
    if isinstance(value, list):
        return [spoil(each) for each in value]
    return value + HOSTILE if isinstance(value, str) else value


def spoil_repository(root: Path) -> None:
    """Put the hostile text into all that the report stage reads and has not written itself: names,
    tables, sources, figures.
    """
    hostile = CONDITIONS[1] + HOSTILE.replace("/", "∕")  # conditions are folders' names
    for path in sorted((root / "plots").rglob("*.csv")):
        with open(path, newline="") as file:
            header, *rows = csv.reader(file)
        rows = [[hostile if cell == CONDITIONS[1] else cell for cell in row] for row in rows]
        for name in ("model", "figure", "where"):
            if name in header:
                rows = [
                    [
                        cell + HOSTILE if key == name else cell
                        for key, cell in zip(header, row, strict=True)
                    ]
                    for row in rows
                ]
        write_rows(path, header, rows)
    for name in ("comparisons", "results"):
        path = root / f"plots/{name}.json"
        kept = {"tables": [{"name": "acc"}], "table": {}} if name == "results" else {}
        spoiled = spoil(json.loads(path.read_text()))
        for table, old in zip(spoiled.get("tables", []), kept.get("tables", []), strict=True):
            table["name"] = old["name"]
        path.write_text(json.dumps(spoiled))
    for name in ("metrics", "samples"):
        (root / f"{name}/{CONDITIONS[1]}").rename(root / f"{name}/{hostile}")
    for path in (root / "samples").rglob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row |= {key: spoil(row[key]) for key in ("prompt", "answer")}
        write_jsonl(path, rows)
        write_checksums(path.parent)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["samples"] = {**params["samples"], "prompts": spoil(params["samples"]["prompts"])}
    params["conditions"] = conditions(**{CONDITIONS[0]: {}, hostile: {"sft": {"a": HOSTILE}}})
    params["fetch"] = {**params["fetch"], "passages": spoil(params["fetch"]["passages"])}
    (root / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=False))


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory) -> Path:
    """A repository in small, full of hostile texts, with its report by the sealed stage."""
    root = tmp_path_factory.mktemp("spoiled") / "repository"
    root.mkdir()
    write_sample(root)
    spoil_repository(root)
    done = subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return root


def page_without_charts(root: Path) -> str:
    """Return the report of `root` without the scripts of others, which take most of its time."""
    (root / "model/report/bundle.py").write_text("def bundle() -> str:\n    return ''\n")
    done = subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (root / "plots/report.html").read_text()


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("clean") / "repository"
    root.mkdir()
    write_sample(root)
    return page_without_charts(root)


class Elements(HTMLParser):
    """How many elements of each kind there are, every attribute's name, and the text of the
    scripts.
    """

    def __init__(self, page: str):
        super().__init__()
        self.counts: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attributes}
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data


def faults(page: str, clean: str) -> list[str]:
    """Return what of `page` is markup that the same report without hostile texts has not."""
    found, expected = Elements(page), Elements(clean)
    problems = [f"<{tag}>" for tag in found.counts.keys() - expected.counts.keys()]
    problems += [
        f"{found.counts.get(tag)} <{tag}>"
        for tag in _OURS
        if found.counts.get(tag) != expected.counts.get(tag)
    ]
    problems += sorted(found.attributes - expected.attributes)
    problems += [f"{mark} twice" for mark in (STALE_BEGIN, STALE_END) if page.count(mark) != 1]
    return problems


def test_hostile_texts_become_no_markup_in_the_report(spoiled, clean):
    page = (spoiled / "plots/report.html").read_text()
    assert page.count("pwned=") > 100
    assert faults(page, clean) == []


def test_the_data_of_charts_are_json_that_ends_no_script(spoiled):
    page = (spoiled / "plots/report.html").read_text()
    [data] = re.findall(
        r'<script type="application/json" id="chart-data">(.*?)</script>', page, re.DOTALL
    )
    assert "<" not in data
    assert any(
        HOSTILE.splitlines()[1] in str(rows) for rows in json.loads(data)["fact_usage"]["data"]
    )


@pytest.mark.parametrize("fault", ["autoescape", "chart data", "sentences", "samples"])
def test_a_report_that_does_not_escape_is_seen(spoiled, clean, fault, tmp_path):
    root = tmp_path / "repository"
    shutil.copytree(spoiled, root, ignore=shutil.ignore_patterns("__pycache__"))
    file, right, wrong = {
        "autoescape": ("model/report/page.py", "autoescape=True", "autoescape=False"),
        "chart data": ("model/report/page.py", '"<", "\\\\u003c"', '"<", "<"'),
        "sentences": (
            "model/report/report.html",
            "<li>{{ sentence }}</li>",
            "<li>{{ sentence | safe }}</li>",
        ),
        "samples": (
            "model/report/samples.html",
            "{{ part.text }}",
            "{{ part.text | safe }}",
        ),
    }[fault]
    assert right in (root / file).read_text()
    (root / file).write_text((root / file).read_text().replace(right, wrong))
    assert faults(page_without_charts(root), clean)


def test_only_our_own_texts_are_declared_safe_in_the_template():
    template = "".join(
        path.read_text() for path in sorted((REPOSITORY / "model/report").glob("*.html"))
    )
    assert sorted(re.findall(r"(\w+) \| safe", template)) == [
        "chart_data",
        "scripts",
        "stale_begin",
        "stale_end",
        "style",
    ]
    tree = jinja2.Environment(autoescape=True).parse(template)
    assert not list(tree.find_all(jinja2.nodes.ScopedEvalContextModifier))  # {% autoescape false %}


def test_what_is_stale_is_escaped(tmp_path):
    write_sample(tmp_path)
    hostile = json.dumps(HOSTILE.replace("${", "{"))  # which would be a reference to params.yaml
    stage = (
        f"  {hostile}:\n    cmd: python -m stages.a\n    deps: [{hostile}]\n    metrics:"
        f" [{hostile}: {{cache: false}}]\n"
    )
    text = (tmp_path / "dvc.yaml").read_text()
    assert "\n  report:\n" in text
    (tmp_path / "dvc.yaml").write_text(text.replace("  report:\n", f"{stage}  report:\n"))
    section = stale_html(Graph(WorkingTree(tmp_path)))
    assert "pwned=" in section
    assert Elements(section).counts.keys() <= {"p", "ul", "li", "a", "code"}
    assert Elements(section).attributes == {"href"}


def test_a_cell_of_markdown_stays_one_cell():
    table = Table(
        "t",
        "Title",
        "unit",
        ["Figure", HOSTILE],
        [[words("a"), words(HOSTILE)], [words("p < 0.001"), words("x|y")]],
    )
    lines = table.markdown().splitlines()
    assert len(lines) == 6
    for line in lines[2:]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
        assert not re.search(r"<[A-Za-z/!?]", line)
    assert "p < 0.001" in lines[-1]


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J\x1b]0;x\x07", "a\rb", "\x9b31m", "a\nb", "\u202eabc", "\ud800", "\u2028"],
    ids=ascii,
)
def test_nothing_moves_the_cursor(text):
    assert printable(text).isprintable()
    assert printable(f"{text}: é × 54 …").endswith(": é × 54 …")


def test_an_error_of_a_stage_is_printable():
    code = (
        "from common.errors import *\ndef main(): raise"
        " PipelineError('a\\x1b[2Jb\\nc\\u2028d')\nrun_stage(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: a\\x1b[2Jb\nerror: c\nerror: d\n"


def test_the_page_of_dvc_plots_asks_nobody_for_anything_and_runs_no_attribute():
    page = (REPOSITORY / "tools/generated/dvc_plots.html").read_text()
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src-attr"] == "'none'"
    assert "http" not in policy


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    require_chromium()
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def test_a_hostile_name_runs_no_script_in_the_report(browser, spoiled):
    browser.open(spoiled / "plots/report.html")
    assert browser.script("window.pwned || 'nothing'") == "nothing"
    assert (
        browser.script(
            "document.querySelectorAll('img, [onerror], [onload], [onmouseover]').length"
        )
        == 0
    )
    chart = browser.driver.find_element("id", "fact_usage")
    browser.driver.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart
    )
    browser.hover(
        chart.find_elements(
            "css selector", ".role-mark.mark-symbol path, .role-mark.mark-rect path"
        )[-1]
    )
    browser.wait("document.querySelector('#vg-tooltip-element.visible')")
    assert "onerror" in browser.script("document.getElementById('vg-tooltip-element').innerText")
    assert browser.script("document.querySelectorAll('#vg-tooltip-element img').length") == 0
    assert browser.script("window.pwned || 'nothing'") == "nothing"
    console, addresses = browser.logs()
    assert (console, [address for address in addresses if not address.startswith("file:")]) == (
        [],
        [],
    )
