"""Serve the report's charts, with the running curves, on 127.0.0.1 (`make watch PAGE=1`)."""

import errno
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from common.errors import PipelineError
from model.curves.charts import TRAINING, Chart
from model.curves.style import COLOURS, GREY, SHAPES
from model.report.bundle import bundle
from model.report.figures import Rows, thinned
from model.report.vega import Spec, report_chart
from pipeline.driver.live_view import clock
from pipeline.driver.state_file import RunningInstance
from pipeline.driver.view import in_words, spent
from tools.live.runs import CHARTS, Run, Watch, read_table
from tools.live.terminal import BEGINNING, facts, figure_cells, footer

ADDRESS = "127.0.0.1"
# Load nothing from other hosts, and let no page frame this one. unsafe-inline is for styles only:
# vega-embed adds a style element.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOLDER = Path(__file__).parent
_REPORT = _FOLDER.parents[1] / "model/report"
_LEAST_SECONDS = 0.5  # between two reads of the files, however many pages ask


class Answer(NamedTuple):
    kind: str
    content: Callable[[], bytes]


def serve(watch: Watch, port: int) -> None:
    """Serve the page until a KeyboardInterrupt; raise PipelineError if the port is not free."""
    server = make_server(watch, port)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    print(f"{address} shows what runs; Ctrl-C ends.", flush=True)
    with server:
        server.serve_forever()


def make_server(watch: Watch, port: int) -> ThreadingHTTPServer:
    """Return the page's server; port 0 takes a free one. Raise PipelineError if it is not free."""
    answers = {
        "/": Answer("text/html", (_FOLDER / "page.html").read_bytes),
        "/page.css": Answer("text/css", page_style),
        "/page.js": Answer("text/javascript", page_script),
        "/live.json": Answer("application/json", LivePage(watch).content),
    }
    try:
        return _Server((ADDRESS, port), _handler(answers))
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is taken" if taken else f"cannot be had ({error})"
        raise PipelineError(
            f"port {port} {why}; choose another: make watch PAGE=1 PORT=8891"
        ) from None


def _handler(answers: Mapping[str, Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """A handler that answers GET for the fixed paths; no path leads to a file."""

        server_version, sys_version = "watch", ""

        def do_GET(self) -> None:
            # DNS rebinding: another site may let its own name point to 127.0.0.1, and its page
            # could then read this one. The Host header has the name that the browser used.
            port = self.connection.getsockname()[1]
            if self.headers.get("Host") not in (f"{ADDRESS}:{port}", f"localhost:{port}"):
                self._send(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"another host's name\n")
            elif self.path not in answers:
                self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")
            else:
                answer = answers[self.path]
                self._send(HTTPStatus.OK, answer.kind, answer.content())

        def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print no traceback when a browser has closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def page_style() -> bytes:
    return b"\n".join(path.read_bytes() for path in (_REPORT / "report.css", _FOLDER / "page.css"))


@cache
def page_script() -> bytes:
    """Return one script: Vega, the report's drawing code, the charts, and the code of the page."""
    charts = [
        {"name": chart.name, "title": chart.title, "caption": _caption(chart), "spec": spec(chart)}
        for chart in TRAINING
    ]
    parts = [
        bundle(),
        (_REPORT / "charts.js").read_text(encoding="utf-8"),
        f"window.liveCharts = {json.dumps(charts)};",
        (_FOLDER / "page.js").read_text(encoding="utf-8"),
    ]
    return "\n".join(parts).encode()


def spec(chart: Chart) -> Spec:
    """Return the report's chart by step, with the committed curves below the running ones.

    Its data are named `running` and `committed`. page.js fills in the conditions and their looks.
    """
    # Not fitted to the later values: both data sets come without the beginning.
    found = _with_looks(report_chart(chart._replace(is_fitted=False), "step", 2))
    numbers = [{"calculate": f"toNumber(datum.{name})", "as": name} for name in ("step", "value")]
    is_training = "datum.split === 'train'"
    line: Spec = {
        "data": {"name": "committed"},
        "transform": numbers,
        "mark": {"type": "line", "color": GREY, "opacity": 0.6, "tooltip": None},
        "encoding": {
            "color": {"value": GREY},
            "strokeWidth": {"condition": {"test": is_training, "value": 0.8}, "value": 1.4},
            "detail": [{"field": field} for field in ("condition", "seed", "split")],
        },
    }
    points: Spec = {
        "data": {"name": "committed"},
        "transform": numbers,
        "mark": {"type": "point", "filled": True, "size": 120, "opacity": 0},
        "encoding": {
            "color": {"value": GREY},
            "tooltip": [
                {"field": "condition", "type": "nominal", "title": "committed"},
                {"field": "seed", "type": "nominal"},
                {"field": "split", "type": "nominal"},
                {"field": "step", "type": "quantitative", "format": ","},
                {"field": "value", "type": "quantitative", "format": ".5~g"},
            ],
        },
    }
    return {**found, "data": {"name": "running"}, "layer": [line, points, *found["layer"]]}


def _with_looks(part: Any) -> Any:
    """Return a part of a specification with one look for each condition, the same in all charts."""
    looks = {"color": "<COLOURS>", "shape": "<SHAPES>"}
    if isinstance(part, list):
        return [_with_looks(each) for each in part]
    if not isinstance(part, dict):
        return part
    changed = {key: _with_looks(value) for key, value in part.items()}
    for channel, anchor in looks.items():
        if isinstance(changed.get(channel), dict) and changed[channel].get("field") == "condition":
            scale = {"domain": "<CONDITIONS>", "range": anchor}
            changed[channel] = {**changed[channel], "scale": scale}
    return changed


def _caption(chart: Chart) -> str:
    has_validation = (chart.name, "val") in CHARTS[chart.stage].values()
    lines = " Thin lines are training, thick ones validation." if has_validation else ""
    wide = " Where curves lie on each other, the first is the widest." if chart.may_coincide else ""
    return f"Vertical: {chart.y_label}.{lines}{wide}"


class LivePage:
    """The content of the page: all that runs, and the rows of the charts."""

    def __init__(self, watch: Watch):
        self._watch = watch
        self._ended: dict[str, Run] = {}  # by instance, runs that have ended since the start
        self._turn = threading.Lock()  # each request has its own thread
        self._looked = -_LEAST_SECONDS

    def content(self) -> bytes:
        with self._turn:
            if time.monotonic() - self._looked >= _LEAST_SECONDS:
                self._ended |= {run.instance: run for run in self._watch.poll() if run.steps}
                self._looked = time.monotonic()
            return json.dumps(self._state(), allow_nan=False).encode()

    def _state(self) -> dict[str, Any]:
        watch = self._watch
        running = watch.running
        for run in running:
            self._ended.pop(run.instance, None)
        runs = [*running, *watch.stopped, *self._ended.values()]
        named = _conditions(watch.root)
        shown = list(dict.fromkeys(run.condition for run in runs))
        names = sorted(shown, key=lambda name: named.index(name) if name in named else len(named))
        places = [named.index(name) if name in named else len(named) for name in names]
        driver = watch.driver
        count = len(running) + len(watch.others)
        state = footer(driver).plain + "." if driver else ""
        if not count and not driver:
            state = "Nothing runs here; this page asks again every two seconds."
        return {
            "title": f"{count} running" if count else "Nothing runs",
            "state": state or f"{count} running.",
            "runs": [*map(_run, runs), *map(_instance, watch.others)],
            "charts": self._charts(runs),
            "conditions": {
                "names": names,
                "colours": [COLOURS[place % len(COLOURS)] for place in places],
                "shapes": [SHAPES[place % len(SHAPES)] for place in places],
            },
        }

    def _charts(self, runs: list[Run]) -> dict[str, dict[str, Rows]]:
        """Return the rows of each chart that has any."""
        charts = {}
        for chart in TRAINING:
            mine = [run for run in runs if run.stage == chart.stage]
            splits = {
                key: split
                for key, (name, split) in CHARTS[chart.stage].items()
                if name == chart.name
            }
            if runs:
                rows = {
                    "running": [
                        row
                        for run in mine
                        for key, split in splits.items()
                        for row in _rows(run, run.curve(key), split, _first(chart, run.step))
                    ],
                    "committed": [
                        row
                        for run in mine
                        for key, split in splits.items()
                        for row in _rows(
                            run, run.committed.get(key, {}), split, _first(chart, run.step)
                        )
                    ],
                }
            else:
                rows = {"running": [], "committed": _committed(self._watch.root, chart)}
            if any(rows.values()):
                charts[chart.name] = rows
        return charts


def _first(chart: Chart, last: int) -> float:
    """Return the first step to draw if `last` is the newest."""
    return BEGINNING * last if chart.is_fitted else 0


def _rows(run: Run, curve: Mapping[int, float], split: str, first: float) -> Rows:
    names = {"condition": run.condition, "seed": str(run.seed), "split": split}
    points = [(step, value) for step, value in sorted(curve.items()) if step >= first]
    return thinned([{**names, "step": str(step), "value": repr(value)} for step, value in points])


def _committed(root: Path, chart: Chart) -> Rows:
    """Return the committed curves of all runs."""
    columns = ("condition", "seed", "split", "step", "value")
    table = read_table(root / "plots" / chart.file)
    rows = [{column: row[column] for column in columns} for row in table if _is_point(row, columns)]
    first = _first(chart, max((int(row["step"]) for row in rows), default=0))
    return thinned([row for row in rows if int(row["step"]) >= first])


def _is_point(row: Mapping[str, str | None], columns: Iterable[str]) -> bool:
    """Return whether a row of a table has all columns; one that was cut short lacks some."""
    cells = {column: row.get(column) for column in columns}
    try:
        int(cells["step"] or ""), float(cells["value"] or "")
    except ValueError:
        return False
    return None not in cells.values()


def _run(run: Run) -> dict[str, Any]:
    left, words = run.last("seconds_left"), [f"Step {run.step:,} of {run.steps:,}"]
    if run.has_ended:
        words.append("ended")
    elif not run.is_running:
        words.append(f"stopped {spent(run.quiet, whole=True)} ago")
    elif left:
        words.append(f"{clock(left)} left")
    return {
        "name": run.name,
        "share": run.step / run.steps,
        "words": ", ".join(words) + ".",
        "figures": [figure_cells(figure) for figure in run.compared()],
        "facts": [", ".join(facts(run))],
    }


def _instance(instance: RunningInstance) -> dict[str, Any]:
    bar = instance.bar
    said = f": {in_words(bar)}" if bar else ""
    return {
        "name": instance.name,
        "share": bar.done / bar.total if bar and bar.total else None,
        "words": f"Runs for {spent(instance.seconds, whole=True)}{said}.",
        "figures": [],
        "facts": [],
    }


def _conditions(root: Path) -> list[str]:
    """Return the conditions of params.yaml; their order gives each its look."""
    try:
        found = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))["conditions"]
        return [str(name) for name in found]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return []
