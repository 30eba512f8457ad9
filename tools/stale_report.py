"""Write report.html: plots/report.html, with a list of stale results (`make report`).

    python -m tools.stale_report

The report stage cannot list them. It is the last stage, so its list would be true only while it
runs. Reads plots/report.html, which a run makes, and all that `make check` reads. Writes
report.html, which nothing depends on.
"""

import html
import sys
from pathlib import Path

from common.files import write_bytes
from pipeline.declared.faults import told_in_one_line
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.declared.settings import REPRO
from pipeline.terminal.command_lines import command_line

PAGE, COPY = Path("plots/report.html"), Path("report.html")
BEGIN, END = "<!-- stale: begin -->", "<!-- stale: end -->"


def stale_html(graph: Graph) -> str:
    """Return the stale results as HTML: stages with reasons, stages after them, invalid figures."""
    reasons = graph.stale()
    gone = sorted(graph.lock.keys() - graph.instances.keys())
    if not reasons and not gone:
        return (
            "<p>Nothing: every figure was made from the present code, parameters, data and"
            " libraries.</p>"
        )
    following = graph.downstream(set(reasons))
    lines = [
        (
            "<p>These stages would run again, because their code, parameters or data differ from"
            " those of their results:</p>"
        ),
        "<ul>",
    ]
    lines += [
        f"<li>{_link(graph, name)}: {html.escape('; '.join(texts))}</li>"
        for name, texts in reasons.items()
    ]
    lines += [f"<li>{html.escape(name)}: dvc.yaml has no such stage any more</li>" for name in gone]
    lines.append("</ul>")
    if following:
        links = ", ".join(_link(graph, name) for name in graph.instances if name in following)
        lines.append(f"<p>If their new results differ, these run again too: {links}.</p>")
    files = [
        out
        for name, instance in graph.instances.items()
        if name in {*reasons, *following}
        for out in instance.tracked
    ]
    if files:
        lines += ["<p>Until then the figures in these files may be wrong:</p>", "<ul>"]
        lines += [f"<li><code>{html.escape(path)}</code></li>" for path in files]
        lines.append("</ul>")
    return "\n".join([*lines, "<p><code>make repro</code> updates them.</p>"])


def _link(graph: Graph, name: str) -> str:
    return f'<a href="#stage-{html.escape(graph.instances[name].stage)}">{html.escape(name)}</a>'


def filled(page: str, section: str) -> str:
    """Return `page` with `section` between the markers; raise ValueError if it has no markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: not what the report stage writes; {REPRO}")
    return f"{before}{begin}\n{section}\n{end}{after}"


def main() -> None:
    command_line("tools.stale_report", __doc__, changes=True).parse_args()
    root = Path.cwd()
    if not (root / PAGE).is_file():
        sys.exit(f"error: report: no {PAGE}; {REPRO}")
    with told_in_one_line("report"):
        section = stale_html(Graph(WorkingTree(root)))
        page = filled((root / PAGE).read_text(encoding="utf-8"), section)
    write_bytes(root / COPY, page.encode())
    print(COPY)


if __name__ == "__main__":
    main()
