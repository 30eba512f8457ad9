"""Draw the curves of a faulty exporter beside those of the right one, as one PNG.

    python -m tools.fault_panels main
    python -m tools.fault_panels main --out docs/images/fault.png

Run it on a branch where a faulty exporter was let past the gate (docs/walkthrough.md). The working
tree's plots/ have the curves with the fault, and REVISION has the right ones. The two may differ in
their exports only. Reads plots/curves of both. Writes fault.png, or the file that --out names.
"""

import argparse
import csv
import io
from pathlib import Path
from typing import BinaryIO

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from common.errors import PipelineError, run_stage
from common.files import atomic_file
from model.curves.charts import charts_of
from model.curves.panels import (
    CHANCE_STYLE,
    STYLE,
    TRAIN_STYLE,
    chances,
    condition_handles,
    draw_chart,
    picture,
    seed_handles,
)
from model.curves.points import TRAIN, VAL, Curves, Point
from model.curves.style import GREY
from model.tasks.table import Task
from pipeline.declared.file_trees import GitTree
from pipeline.terminal.command_lines import command_line

SCORES, EXPORTED, MEASURED = (
    "continuation_acc_norm",
    "hellaswag_gold_bits_per_byte",
    "bits_per_byte",
)
CHARTS = charts_of(Task(name, name, "reference") for name in ("hellaswag", "continuation"))


def main() -> None:
    options = _parser().parse_args()
    names = [f"plots/{CHARTS[name].file}" for name in (SCORES, EXPORTED, MEASURED)]
    with_fault = {Path(name).stem: read_points(_of_tree(name), name) for name in names}
    right = {
        Path(name).stem: read_points(
            _of_revision(options.revision, name), f"{options.revision}:{name}"
        )
        for name in names
    }
    refuse_nothing_to_compare(with_fault, right, options.revision)
    try:
        with atomic_file(options.out) as file:
            draw_fault(file, with_fault, right, options.revision)
    except OSError as error:
        raise PipelineError(f"--out: {options.out} cannot be written ({error.strerror})") from None
    print(f"fault_panels: {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.fault_panels", __doc__, changes=True)
    parser.add_argument("revision", help="a commit, branch or tag whose curves are right")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("fault.png"),
        help="the PNG to write (default: %(default)s)",
    )
    return parser


def _of_tree(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{name}: cannot be read ({error}); run this where params.yaml is, after dvc repro"
        ) from None


def _of_revision(revision: str, name: str) -> str:
    try:
        if not revision:
            raise ValueError("that would be the index")
        tree = GitTree(Path.cwd(), revision)
    except ValueError:
        unknown = "no commit, branch or tag of this git repository; git branch --all lists branches"
        raise PipelineError(f"{revision}: {unknown}") from None
    if not tree.has(name):
        raise PipelineError(
            f"{revision}: has no {name}; name a revision whose curves are committed"
        )
    return tree.read(name).decode()


def read_points(text: str, name: str) -> list[Point]:
    """Return the points of a CSV of the curves stage; `name` is for the error if it is damaged."""
    try:
        points = [
            Point(
                condition=row["condition"],
                seed=int(row["seed"]),
                split=row["split"],
                step=int(row["step"]),
                tokens=int(row["tokens"]),
                original_bytes=int(row["original_bytes"]),
                value=float(row["value"]),
                low=float(row["low"]) if row["low"] else None,
                high=float(row["high"]) if row["high"] else None,
                chance=float(row["chance"]) if row["chance"] else None,
            )
            for row in csv.DictReader(io.StringIO(text))
        ]
        if not points:
            raise ValueError("no rows")
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{name}: not a curve of the curves stage ({error!r}); run dvc repro curves"
        ) from None
    return points


def refuse_nothing_to_compare(with_fault: Curves, right: Curves, revision: str) -> None:
    """Raise PipelineError if the curves are the same, or if training differs too.

    An exporter cannot change training.
    """
    if with_fault == right:
        raise PipelineError(
            f"the curves of {revision} and of the working tree are the same; nothing to compare"
        )
    if with_fault[MEASURED] != right[MEASURED]:
        raise PipelineError(
            f"plots/{CHARTS[MEASURED].file}: what training measured differs from {revision}'s, so"
            " more than the exporter was changed; name the revision that the fault was put into"
        )


def draw_fault(file: BinaryIO, with_fault: Curves, right: Curves, revision: str) -> None:
    """Write the PNG to `file`: scores above, bits per byte below, with the fault on the left.

    Both sides have the same axes.
    """
    conditions = list(dict.fromkeys(point.condition for point in right[SCORES]))
    with picture(file, 10, 6.6) as figure:
        grid = figure.subplots(2, 2, sharex=True, sharey="row")
        sides = ((with_fault, "Exported with the fault"), (right, f"Exported right ({revision})"))
        for column, (curves, title) in zip(grid.T, sides, strict=True):
            _draw_side(column, curves, title, conditions)
        for axis in grid[0]:
            axis.set_xlabel("")
        for axis in grid[:, 1]:
            axis.set_ylabel("")
        handles = _legend(conditions, right[SCORES])
        figure.legend(handles=handles, loc="outside lower center", ncols=3)


def _draw_side(axes: list[Axes], curves: Curves, title: str, conditions: list[str]) -> None:
    above, below = axes
    draw_chart(above, CHARTS[SCORES], "tokens", curves[SCORES], conditions, conditions)
    above.set_title(f"{title}\n\nContinuation acc_norm", loc="left")
    first = min(point.tokens or 0 for point in curves[EXPORTED])
    # Draw validation as thin as training: neither depends on the export.
    measured = [
        point._replace(split=TRAIN)
        for point in curves[MEASURED]
        if point.split == VAL and (point.tokens or 0) >= first
    ]
    draw_chart(
        below, CHARTS[EXPORTED], "tokens", [*curves[EXPORTED], *measured], conditions, conditions
    )
    below.set_title("Bits per byte", loc="left")


def _legend(conditions: list[str], scores: list[Point]) -> list[Artist]:
    return [
        *condition_handles(conditions, conditions),
        Line2D(
            [],
            [],
            color=GREY,
            label="thick: the exports, bits of HellaSwag's true endings",
            linewidth=STYLE["linewidth"],
        ),
        Line2D(
            [],
            [],
            color=GREY,
            label="thin: training, on its validation text",
            marker=".",
            markersize=5,
            **TRAIN_STYLE,
        ),
        *seed_handles([(CHARTS[SCORES], scores)]),
        *(Line2D([], [], label=f"chance ({at:.4g})", **CHANCE_STYLE) for at in chances(scores)),
    ]


if __name__ == "__main__":
    run_stage(main)
