"""The page of `make watch` in a real browser, while rows are appended to a run's live.jsonl."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium, require_chromium
from live_rows import append, live_file, training_row, validation_row, write_committed
from repository import REPOSITORY
from signals import as_in_a_terminal

from tools.live.page import make_server
from tools.live.runs import Watch

pytestmark = pytest.mark.slow("a browser starts, and the page asks every two seconds", minutes=0.5)

DRAWN = "document.querySelector('#loss[data-drawn]')"
# The corners of the lines of a chart, by their colours.
LINES = """Object.fromEntries([...document.querySelectorAll('#{} svg .mark-line path')].map(each =>
    [each.getAttribute('stroke') + ' ' + each.getAttribute('stroke-width'),
     each.getAttribute('d').split(/[ML]/).length - 1]))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    require_chromium()
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "params.yaml").write_text("conditions: {baseline: {}, mul_tokens: {}}\n")
    curve = {step: 7.5 - step / 1000 for step in range(50, 3201, 50)}
    write_committed(tmp_path, "loss", {"train": curve, "val": {800: 6.8, 3200: 4.4}})
    return tmp_path


@pytest.fixture
def address(root) -> Iterator[str]:
    with make_server(Watch(root), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def show(browser: Browser, address: str, width: int = 1200, scheme: str = "light") -> None:
    browser.size(width)
    browser.scheme(scheme)
    browser.logs()
    browser.driver.get(address)
    browser.wait(DRAWN)
    browser.wait("!document.querySelector('[data-chart]:not([data-drawn])')")


def text(browser: Browser, selector: str) -> str:
    return browser.script(f"document.querySelector('{selector}').innerText")


def test_rows_that_training_appends_appear_in_the_chart(browser, root, address):
    show(browser, address)
    assert text(browser, "#state").startswith("Nothing runs here")
    assert [key.split()[0] for key in browser.script(LINES.format("loss"))] == ["#444444"] * 2
    path = live_file(root, condition="baseline")
    append(path, *(training_row(step, 7.4 - step / 1000) for step in range(50, 901, 50)))
    browser.wait("document.getElementById('loss').dataset.rows === '17'")
    browser.wait("document.querySelector('#loss .mark-line path[stroke=\"#0072B2\"]')")
    before = browser.script(LINES.format("loss"))
    assert before["#0072B2 1.2"] == 17
    assert before["#444444 0.8"] == 63, "the committed run, from the same step on"
    append(path, training_row(950, 6.4, loss_spikes=1), validation_row(950, 6.3))
    browser.wait(f"({LINES.format('loss')})['#0072B2 1.2'] === 18")
    assert "loss\t950\t6.4000\t6.5500\t-0.1500" in text(browser, ".run table")
    assert "1 loss spike," in text(browser, ".run .soft")
    assert browser.script("document.title") == "1 running"
    console, addresses = browser.logs()
    assert console == []
    assert {each for each in addresses if not each.startswith(address)} == set()


def test_two_runs_have_the_colours_of_their_conditions_and_an_ended_one_stays(
    browser, root, address
):
    first, second = live_file(root), live_file(root, condition="mul_tokens")
    append(second, training_row(50, 7.0), training_row(100, 6.9))
    show(browser, address)
    assert browser.script(LINES.format("loss"))["#D55E00 1.2"] == 2, "the second condition's"
    append(first, training_row(50, 7.2), training_row(100, 7.1))
    browser.wait(f"({LINES.format('loss')})['#0072B2 1.2'] === 2")
    labels = (
        "[...document.querySelectorAll('#loss .role-legend-label text')].map(e => e.textContent)"
    )
    assert browser.script(labels) == ["baseline", "mul_tokens"]
    first.unlink()
    browser.wait("document.body.innerText.includes('Step 100 of 3,200, ended.')")
    lines = browser.script(LINES.format("loss"))
    assert (lines["#0072B2 1.2"], lines["#D55E00 1.2"]) == (2, 2)


def test_a_name_with_markup_is_text(browser, root, address):
    append(live_file(root, condition="<img src=x onerror=alert(1)>"), training_row(50, 7.0))
    show(browser, address)
    assert text(browser, ".run h3") == "pretrain <img src=x onerror=alert(1)>/seed_1337"
    assert browser.script("document.images.length") == 0
    assert browser.logs()[0] == []


@pytest.mark.parametrize(("scheme", "page"), [("light", "255, 255, 255"), ("dark", "20, 23, 27")])
def test_nothing_is_wider_than_the_window(browser, root, address, scheme, page):
    append(live_file(root), training_row(150_000, 7.0, steps=600_000), validation_row(50, 7.0))
    for width in (320, 400, 800, 1400):
        show(browser, address, width, scheme)
        assert browser.script("document.documentElement.scrollWidth") <= width
    colour = browser.script("getComputedStyle(document.body).backgroundColor")
    assert colour == f"rgb({page})"


def test_charts_follow_the_scheme_and_then_the_rows(browser, root, address):
    path = live_file(root)
    append(path, training_row(50, 7.0), training_row(100, 6.9))
    show(browser, address)
    browser.scheme("dark")
    browser.wait("document.querySelector('#loss .mark-line path[stroke=\"#4FA8DE\"]')")
    append(path, training_row(150, 6.8))
    browser.wait(f"({LINES.format('loss')})['#4FA8DE 1.2'] === 3")


def test_a_page_whose_server_has_ended_says_so(browser, root):
    command = [sys.executable, "-m", "tools.live.watch", "--page", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=as_in_a_terminal,
    ) as process:
        show(browser, process.stdout.readline().split()[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    browser.wait("document.getElementById('state').textContent.startsWith('make watch has ended')")
    browser.logs()  # a refused connection is an error of the console
