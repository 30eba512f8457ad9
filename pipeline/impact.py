"""List what an edit reruns, which committed figures it invalidates, and the time (`make impact`).

    python -m pipeline.impact          uncommitted edits and all that dvc.lock does not match
    python -m pipeline.impact main     the working tree against results recorded at main
    python -m pipeline.impact v1..v2   the code of v2 against the results recorded at v1

Reads dvc.yaml, dvc.lock, params.yaml, code and metrics/ of the trees that it compares, and how long
each stage's last run took on this machine (.dvc/tmp/durations). Writes nothing, runs nothing.
"""

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.declared.dvc_yaml import Instance, below
from pipeline.declared.faults import told_in_one_line
from pipeline.declared.file_trees import GitTree, Tree, WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.declared.timings import DURATIONS
from pipeline.terminal.command_lines import command_line


def describe(graph: Graph, results: Tree, durations: dict[str, float]) -> list[str]:
    """Return the report's lines; `results` is the tree whose committed metrics may be invalid."""
    reasons = graph.stale()
    gone = sorted(graph.lock.keys() - graph.instances.keys())
    if not reasons and not gone:
        return [
            "impact: no stage would rerun; make check tells whether the figures are as they were "
            "recorded"
        ]
    direct, following = set(reasons), graph.downstream(set(reasons))
    lines = [f"these stages are gone: {', '.join(gone)}"] if gone else []
    if reasons:
        lines.append("these stages rerun:")
    lines += _by_reason(graph, reasons)
    if following:
        lines += [
            "and if their outputs come out different, these:",
            "  " + _by_stage(graph, following),
        ]
    lines += _invalid(graph, direct | following, gone, results)
    lines.append(_time(graph, direct, following, durations))
    return lines


def absent(graph: Graph, root: Path) -> list[str]:
    """Return a line about outputs missing from the working tree, if there are any."""
    outs = sorted(out for instance in graph.instances.values() for out in instance.outs)
    gone = [out for out in outs if not (root / out).exists()]
    if not gone:
        return []
    return [
        f"{len(gone)} of {len(outs)} outputs are not here ({gone[0]}): make pull or dvc repro "
        "fetches or makes them"
    ]


def _by_reason(graph: Graph, reasons: dict[str, list[str]]) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, texts in reasons.items():
        why = "; ".join(texts[:2]) + (f"; and {len(texts) - 2} more" if texts[2:] else "")
        groups.setdefault((graph.instances[name].stage, why), []).append(name)
    counts = Counter(instance.stage for instance in graph.instances.values())
    return [
        f"  {_by_stage(graph, set(names)) if len(names) == counts[stage] else ', '.join(names)}: "
        f"{why}"
        for (stage, why), names in groups.items()
    ]


def _invalid(graph: Graph, names: set[str], gone: list[str], results: Tree) -> list[str]:
    """Return lines on the committed figures and plots of the stages `names`, and of `gone` ones."""
    tracked = [
        out
        for name, instance in graph.instances.items()
        if name in names
        for out in instance.tracked
    ]
    tracked += [out for name in gone for out in graph.lock[name].outs if out not in tracked]
    metrics = [
        out
        for out in tracked
        if out.endswith(".json") and below(out, "metrics") and results.has(out)
    ]
    figures = {out: _figures(json.loads(results.read(out))) for out in metrics}
    plots = [
        out for out in tracked if below(out, "plots") and (results.has(out) or results.files(out))
    ]
    if not figures and not plots:
        return ["no committed figures are of these stages"]
    total = sum(figures.values())
    lines = [
        f"until then these {total} figures and {len(plots)} plots committed at {results.name} are "
        "invalid:"
    ]
    lines += [f"  {out}: {count}" for out, count in figures.items()]
    return lines + [f"  {out}" for out in plots]


def _time(graph: Graph, direct: set[str], following: set[str], durations: dict[str, float]) -> str:
    seconds = {
        name: _duration(instance, graph, durations) for name, instance in graph.instances.items()
    }
    unknown = {name for name in direct | following if seconds[name] is None}
    if unknown == direct | following:
        return "time: not recorded on this machine yet; make repro records it"
    first, rest = (sum(seconds[name] or 0 for name in names) for names in (direct, following))
    text = f"time: {_clock(first)}" + (
        f", or {_clock(first + rest)} with what follows" if following else ""
    )
    recorded = [value for value in seconds.values() if value is not None]
    if len(recorded) == len(seconds):
        text += f", {(first + rest) / sum(recorded):.0%} of the whole graph's"
    return text + (
        f"; without {_by_stage(graph, unknown)}, not recorded here yet" if unknown else ""
    )


def _duration(instance: Instance, graph: Graph, durations: dict[str, float]) -> float | None:
    """Return the instance's recorded seconds, else the median of its stage's other instances."""
    if instance.name in durations:
        return durations[instance.name]
    others = [
        durations[name]
        for name, other in graph.instances.items()
        if other.stage == instance.stage and name in durations
    ]
    return statistics.median(others) if others else None


def read_durations(root: Path) -> dict[str, float]:
    """Return the seconds of each instance's last run, by name."""
    texts = {path.name: path.read_text().split() for path in (root / DURATIONS).glob("*")}
    return {
        name: float(text[0]) for name, text in texts.items() if text
    }  # empty while a stage's first run is under way


def _figures(value: Any) -> int:
    """Count the numbers in a JSON value."""
    if isinstance(value, dict | list):
        return sum(
            _figures(child) for child in (value.values() if isinstance(value, dict) else value)
        )
    return isinstance(value, int | float)


def _by_stage(graph: Graph, names: set[str]) -> str:
    counts = Counter(instance.stage for name, instance in graph.instances.items() if name in names)
    return ", ".join(
        f"{count} × {stage}" if count > 1 else stage for stage, count in counts.items()
    )


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def main() -> None:
    root = Path.cwd()
    parser = command_line("pipeline.impact", __doc__)
    parser.add_argument(
        "revisions",
        nargs="?",
        default="",
        metavar="A | A..B",
        help="revisions of git (default: uncommitted edits)",
    )
    before, dots, after = parser.parse_args().revisions.partition("..")
    if dots and not (before and after):
        parser.error("a range needs both of its ends: A..B")
    with told_in_one_line("impact"):
        code = GitTree(root, after) if after else WorkingTree(root)
        results = GitTree(root, before or "HEAD")
        graph = Graph(code, results if before else None)
        lines = describe(graph, results, read_durations(root))
        print("\n".join(lines if after else lines + absent(graph, root)))


if __name__ == "__main__":
    main()
