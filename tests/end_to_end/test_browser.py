"""The report and the page of `dvc plots` in a real browser, without a network: see
tests/helpers/browser.py.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import Browser, chromium, require_chromium
from demo_charts import CHARTS
from report_sample import write_sample

from common.files import atomic_file
from tools.generated.dvc_plots import TEMPLATES, plots_page, templates

pytestmark = pytest.mark.slow("a browser starts, opens each page and draws its charts", minutes=0.5)

CHART = "document.getElementById('{}')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    require_chromium()
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    require_chromium()
    folder = tmp_path_factory.mktemp("report") / "repository"
    folder.mkdir()
    write_sample(folder)
    subprocess.run([sys.executable, "-m", "stages.report"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def report(root) -> Path:
    return root / "plots/report.html"


@pytest.fixture(scope="module")
def plots(root) -> Path:
    """The page that `dvc plots diff` would write: two conditions, two seeds, two revisions."""
    import csv

    from dvc_render import render_html
    from dvc_render.vega import VegaRenderer

    page = root / "dvc_plots/index.html"
    renderers = []
    for name, chart in CHARTS.items():
        with open(root / f"plots/{chart.file}", newline="") as file:
            rows = list(csv.DictReader(file))
        points = [{**row, "rev": rev} for rev in ("workspace", "HEAD") for row in rows]
        x = "step" if chart.shape == "curve" else chart.x[0]
        settings = {"x": x, "y": chart.y, "title": name, "template": name}
        folder = str(root / TEMPLATES)
        renderers.append(VegaRenderer(points, name, **settings, template_dir=folder))
    with atomic_file(root / "plots_page.html") as file:
        file.write(plots_page().encode())
    render_html(renderers, page, html_template=root / "plots_page.html")
    return page


@pytest.fixture(scope="module", autouse=True)
def templates_of(root):
    (root / TEMPLATES).mkdir(parents=True)
    for path, text in templates().items():
        (root / path).write_bytes(text)


def errors_and_requests(browser: Browser, page: Path) -> tuple[list[str], list[str]]:
    console, addresses = browser.logs()
    return console, [address for address in addresses if address != page.as_uri()]


def test_requests_of_a_page_are_seen_and_those_of_chromiums_new_tab_are_not(browser, tmp_path):
    browser.driver.get("chrome://new-tab-page-third-party/")
    assert errors_and_requests(browser, tmp_path / "page.html") == ([], [])
    page = tmp_path / "page.html"
    page.write_text(
        "<img src='https://a.invalid/i.png'><iframe"
        " src='https://b.invalid/f.html'></iframe><script>fetch('https://c.invalid/x').catch(() =>"
        " document.body.dataset.asked = '')</script>"
    )
    browser.open(page)
    browser.wait("document.body.dataset.asked !== undefined")
    console, addresses = errors_and_requests(browser, page)
    assert sorted(addresses) == [
        "https://a.invalid/i.png",
        "https://b.invalid/f.html",
        "https://c.invalid/x",
    ]
    assert console


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_draws_every_chart_without_error_or_request(browser, report, scheme):
    browser.open(report, scheme=scheme)
    for name in browser.script(
        "[...document.querySelectorAll('[data-chart]')].map(each => each.id)"
    ):
        marks = browser.script(
            f"{CHART.format(name)}.querySelectorAll('svg .role-mark path, svg .role-mark"
            " line').length"
        )
        assert marks >= 2, name
    assert errors_and_requests(browser, report) == ([], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dvc_plots_draws_every_chart_without_error_or_request(browser, plots, scheme):
    browser.open(plots, scheme=scheme)
    charts = browser.script("[...document.querySelectorAll('[data-chart]')].map(each => each.id)")
    assert len(charts) == len(CHARTS)
    for name in charts:
        assert (
            browser.script(
                f"{CHART.format(name)}.querySelectorAll('svg .role-mark path, svg .role-mark"
                " line').length"
            )
            >= 2
        ), name
        labels = browser.script(
            f"[...{CHART.format(name)}.querySelectorAll('.role-legend-label text')].map(e =>"
            " e.textContent)"
        )
        assert "mul_tokens" in labels
        assert ("HEAD" in labels) == (name != "fact_usage"), "its rows name the revision themselves"
    assert errors_and_requests(browser, plots) == ([], [])


def test_the_words_are_painted_within_a_second(browser, report):
    browser.open(report)
    [paint] = browser.script(
        "performance.getEntriesByName('first-contentful-paint').map(each => each.startTime)"
    )
    assert paint < 1000


@pytest.mark.parametrize(
    "name", ["loss", "hellaswag_acc_norm", "differences_accuracy", "fact_usage"]
)
def test_a_tooltip_says_what_is_under_the_pointer(browser, report, name):
    browser.open(report)
    chart = browser.driver.find_element("id", name)
    browser.driver.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart
    )
    browser.hover(
        chart.find_elements(
            "css selector", ".role-mark.mark-symbol path, .role-mark.mark-rect path"
        )[-1]
    )
    browser.wait("document.querySelector('#vg-tooltip-element.visible')")
    words = browser.script("document.getElementById('vg-tooltip-element').innerText")
    assert "condition" in words
    assert re.search("baseline|mul_tokens", words)
    assert "undefined" not in words


def test_charts_follow_the_scheme_when_it_changes(browser, report):
    browser.open(report)
    background = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('#loss .role-axis-label text')).fill"
    light = browser.script(background), browser.script(label)
    browser.scheme("dark")
    browser.wait(
        "[...document.querySelectorAll('[data-chart]')].every(each => each.dataset.drawn ==="
        " 'dark')"
    )
    dark = browser.script(background), browser.script(label)
    assert light[0] != dark[0]
    assert light[1] != dark[1]


def test_another_axis_is_chosen_with_the_keyboard(browser, report):
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    title = "document.querySelector('#loss .role-axis-title text').textContent"
    assert "training tokens" in browser.script(
        "[...document.querySelectorAll('#loss .role-axis-title text')].map(e => e.textContent)"
    )
    browser.script("document.querySelector('input[name=x]').focus()")
    browser.press(Keys.ARROW_RIGHT)
    browser.wait(
        "[...document.querySelectorAll('#loss .role-axis-title text')].some(e => e.textContent ==="
        " 'training steps')"
    )
    assert browser.script(title)


def test_the_keyboard_reaches_the_skip_link_and_the_data(browser, report):
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    browser.press(Keys.TAB)
    assert browser.script("document.activeElement.className") == "skip"
    assert browser.script("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press(Keys.ENTER)
    assert browser.script("document.activeElement.id") == "main"
    for _ in range(60):
        browser.press(Keys.TAB)
        if browser.script("document.activeElement.matches('figure summary')"):
            break
    assert browser.script("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press(Keys.ENTER)
    assert browser.script("document.activeElement.parentElement.open")
    assert (
        browser.script("document.activeElement.parentElement.querySelectorAll('tbody tr').length")
        > 1
    )


@pytest.mark.parametrize("width", [320, 800, 1600])
def test_nothing_is_wider_than_the_window(browser, report, plots, width):
    for page in (report, plots):
        browser.open(page, width)
        assert browser.script("document.documentElement.scrollWidth") <= width, page.name
        widths = browser.script(
            "[...document.querySelectorAll('[data-chart] svg')].map(each =>"
            " each.getBoundingClientRect().width)"
        )
        assert max(widths) <= width


def test_the_accessibility_tree_names_everything_that_is_to_be_named(browser, report):
    browser.open(report)
    browser.script("document.querySelectorAll('details').forEach(each => each.open = true)")
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    named = {
        "image",
        "img",
        "figure",
        "link",
        "region",
        "table",
        "radio",
        "navigation",
        "heading",
        "DisclosureTriangle",
    }
    seen = set()
    for node in nodes:
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if role in named and not node.get("ignored"):
            seen.add(role)
            assert name.strip(), json.dumps(node)[:300]
    assert {"figure", "link", "table", "radio", "heading"} <= seen


def test_words_have_contrast_on_both_pages(browser, report):
    for scheme in ("light", "dark"):
        browser.open(report, scheme=scheme)
        style = "getComputedStyle(document.{}).{}"
        page = luminance(browser.script(style.format("body", "backgroundColor")))
        for element in (
            "body",
            "querySelector('figcaption')",
            "querySelector('nav a')",
            "querySelector('summary')",
        ):
            ink = luminance(browser.script(style.format(element, "color")))
            assert (max(ink, page) + 0.05) / (min(ink, page) + 0.05) >= 4.5, (scheme, element)


def luminance(colour: str) -> float:
    """Return the relative luminance of an rgb() colour (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
