"""What the page of `make watch` answers, and to whom."""

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_rows import append, live_file, training_row, validation_row, write_committed
from repository import REPOSITORY

from common.errors import PipelineError
from model.curves.charts import TRAINING
from model.curves.style import COLOURS
from tools.live import page
from tools.live.page import POLICY, make_server, spec
from tools.live.runs import Watch

PATHS = ("/", "/page.css", "/page.js", "/live.json")


@contextmanager
def served(root: Path) -> Iterator[int]:
    with make_server(Watch(root), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("empty")) as found:
        yield found


def ask(port: int, path: str, host: str | None = None, method: str = "GET"):
    """Return status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.putrequest(method, path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def live(root: Path) -> dict:
    with served(root) as port:
        status, _, content = ask(port, "/live.json")
    assert status == 200
    return json.loads(content)


@pytest.mark.parametrize("path", PATHS)
def test_each_answer_forbids_what_is_not_its_own(port, path):
    status, headers, content = ask(port, path)
    assert status == 200
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"].strip() == "watch"
    assert int(headers["Content-Length"]) == len(content) > 0


def test_the_policy_names_no_other_host_and_runs_no_script_in_the_page(port):
    assert "default-src 'none'" in POLICY
    assert "script-src 'self';" in POLICY
    assert "http" not in POLICY
    text = ask(port, "/")[2].decode()
    assert text.count("<script") == 1
    assert "onload" not in text


@pytest.mark.parametrize(
    "path",
    [
        *("/params.yaml", "/../params.yaml", "/%2e%2e/params.yaml", "//etc/passwd", "/live.json/"),
        *("/live.json?x=1", "/page.html", "*", "http://127.0.0.1/", "/tools/live/page.py"),
    ],
)
def test_any_other_path_is_no_page(port, path):
    status, _, content = ask(port, path)
    assert (status, content) == (404, b"no such page\n")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1:1", "", "localhost"]
)
@pytest.mark.parametrize("path", PATHS)
def test_a_name_that_another_site_has_led_here_gets_no_answer(port, path, host):
    status, _, content = ask(port, path, host.format(port))
    assert (status, content) == (421, b"another host's name\n")


def test_this_machine_s_own_names_are_answered(port):
    assert ask(port, "/live.json", f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_it_only_reads(port, method):
    assert ask(port, "/live.json", method=method)[0] == 501


# A guard that is taken out, and what then is answered to whom it must not be.
GUARDS = {
    "the host's name": (
        'if self.headers.get("Host") not in (f"{ADDRESS}:{port}", f"localhost:{port}"):',
        "if False:",
        ("/live.json", "evil.example"),
    ),
    "the fixed paths": (
        "elif self.path not in answers:",
        "elif self.path == '/params.yaml':\n                self._send(HTTPStatus.OK, 'text/plain',"
        " open('params.yaml', 'rb').read())\n            elif self.path not in answers:",
        ("/params.yaml", None),
    ),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_without_the_guard_the_tests_above_would_fail(guard, tmp_path, monkeypatch):
    before, after, (path, host) = GUARDS[guard]
    text = Path(page.__file__).read_text()
    assert text.count(before) == 1
    changed = {"__name__": "changed", "__file__": page.__file__}
    exec(compile(text.replace(before, after), page.__file__, "exec"), changed)
    monkeypatch.setitem(globals(), "make_server", changed["make_server"])
    with served(tmp_path) as port:
        assert ask(port, path, host)[0] == 200


def test_it_listens_on_this_machine_alone(port):
    with make_server(Watch(Path.cwd()), 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_taken_port_is_one_line(port):
    with pytest.raises(PipelineError, match=f"^port {port} is taken; .* PORT=8891$"):
        make_server(Watch(Path.cwd()), port)
    command = [sys.executable, "-m", "tools.live.watch", "--page", "--port", "99999"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: watch: port 99999 cannot be had")
    assert done.stderr.count("\n") == 1


def test_nothing_runs_is_said_and_the_committed_curves_are_drawn(tmp_path):
    write_committed(tmp_path, "loss", {"train": {100: 7.0, 1000: 6.0, 2000: 5.0}})
    found = live(tmp_path)
    assert found["state"] == "Nothing runs here; this page asks again every two seconds."
    assert found["runs"] == []
    assert [*found["charts"]] == ["loss"]
    rows = found["charts"]["loss"]
    assert rows["running"] == []
    assert [row["step"] for row in rows["committed"]] == ["1000", "2000"], "not the first tenth"


def test_damaged_rows_of_the_committed_curves_are_left_out(tmp_path):
    write_committed(tmp_path, "loss", {"train": {1000: 6.0, 2000: 5.0}})
    with open(tmp_path / "plots/curves/loss.csv", "a") as file:
        file.write("baseline,1337,train,,512,1655,5.0,,\n")
        file.write("baseline,1337,train,x,512,1655,5.0,,\n")
        file.write("baseline,1337,train,2500,512,1655,x,,\n")
        file.write("baseline,1337,train,3000,1,1,4.0,,,,more\n")
        file.write("baseline\nbaseline,1337,train,35")
    rows = live(tmp_path)["charts"]["loss"]["committed"]
    assert [row["step"] for row in rows] == ["1000", "2000", "3000"]


def test_a_run_is_drawn_over_the_committed_one_of_its_condition_and_seed(tmp_path):
    (tmp_path / "params.yaml").write_text("conditions: {baseline: {}, other: {}}\n")
    write_committed(tmp_path, "loss", {"train": {50: 7.5, 100: 7.0}}, condition="other", seed=3)
    append(live_file(tmp_path, condition="other", seed=3), training_row(50, 7.25))
    append(live_file(tmp_path, condition="new"), training_row(50, 7.0), validation_row(50, 7.1))
    found = live(tmp_path)
    assert found["state"] == "2 running."
    assert found["conditions"]["names"] == ["other", "new"]
    assert found["conditions"]["colours"] == list(COLOURS[1:3]), "its place in params.yaml"
    rows = found["charts"]["loss"]
    own = {"condition": "other", "seed": "3", "split": "train", "step": "50"}
    assert {**own, "value": "7.25"} in rows["running"]
    assert [row["split"] for row in rows["running"] if row["condition"] == "new"] == [
        "train",
        "val",
    ]
    assert rows["committed"] == [
        {**own, "value": "7.5"},
        {**own, "step": "100", "value": "7.0"},
    ]
    assert "sft_loss" not in found["charts"]
    [new, other] = found["runs"]
    assert other["name"] == "pretrain other/seed_3"
    assert other["figures"][0] == ["loss", "50", "7.2500", "7.5000", "-0.2500"]
    assert new["figures"][0] == ["loss", "50", "7.0000", "none", ""]


def test_a_run_that_has_ended_stays_on_the_page_until_it_begins_again(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_LEAST_SECONDS", 0.0)
    path = live_file(tmp_path)
    append(path, training_row(50, 7.0))
    with served(tmp_path) as port:
        ask(port, "/live.json")
        append(path, training_row(3200, 4.0))
        path.unlink()
        found = json.loads(ask(port, "/live.json")[2])
        assert [run["words"] for run in found["runs"]] == ["Step 3,200 of 3,200, ended."]
        assert found["charts"]["loss"]["running"]
        append(path, training_row(50, 6.0))
        found = json.loads(ask(port, "/live.json")[2])
        assert [run["words"] for run in found["runs"]] == ["Step 50 of 3,200, 0:49 left."]


@pytest.mark.parametrize("chart", TRAINING, ids=lambda chart: chart.name)
def test_each_chart_has_both_data_and_a_look_for_each_condition(chart):
    text = json.dumps(spec(chart))
    assert text.count('"name": "committed"') == 2
    assert '"data": {"name": "running"}' in text
    assert '{"domain": "<CONDITIONS>", "range": "<COLOURS>"}' in text
    assert "DVC_METRIC" not in text


def test_a_client_that_goes_away_ends_nothing(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /page.js HTTP/1.0\r\n")
    assert ask(port, "/live.json")[0] == 200
