"""Lay out the graph of stages as a picture: every stage stands below all stages that it needs."""

from typing import NamedTuple

from model.report.lineage import Stage, reduced

# A stage's box, and the distances from one box to the next, in pixels.
_WIDTH, _HEIGHT = 104, 30
_ACROSS, _DOWN = 120, 62


class Box(NamedTuple):
    """The box of stage `name`, with its upper left corner in pixels."""

    name: str
    x: float
    y: float


class Drawing(NamedTuple):
    """The boxes, and the lines between them as SVG paths. Sizes are in pixels."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[str]
    box_width: int = _WIDTH
    box_height: int = _HEIGHT


def draw_graph(stages: list[Stage]) -> Drawing:
    """Return the drawing: a layer for each depth, its boxes centred."""
    depth: dict[str, int] = {}
    for stage in stages:
        _depth(stage.name, {each.name: each.needs for each in stages}, depth)
    layers = [
        [stage.name for stage in stages if depth[stage.name] == level]
        for level in range(max(depth.values()) + 1)
    ]
    width = _ACROSS * max(map(len, layers))
    boxes = {}
    for level, names in enumerate(layers):
        start = (width - _ACROSS * len(names)) / 2
        for number, name in enumerate(names):
            boxes[name] = Box(
                name, start + _ACROSS * number + (_ACROSS - _WIDTH) / 2, 4 + _DOWN * level
            )
    lines = [
        _line(boxes[above], boxes[below], depth[below] - depth[above])
        for above, below in reduced(stages)
    ]
    # Room on the right for lines that bend around boxes.
    return Drawing(width + 80, _DOWN * len(layers), list(boxes.values()), lines)


def _depth(name: str, needs: dict[str, list[str]], depth: dict[str, int]) -> int:
    """Return the length of the longest way to stage `name`, and store it in `depth`."""
    # A stage that needs no other has depth 1 + -1 = 0.
    if name not in depth:
        depth[name] = 1 + max((_depth(other, needs, depth) for other in needs[name]), default=-1)
    return depth[name]


def _line(above: Box, below: Box, levels: int) -> str:
    """Return the SVG path from a box to one that is `levels` layers below it.

    A path that passes other layers bends to the right, around the boxes between.
    """
    start, end = (above.x + _WIDTH / 2, above.y + _HEIGHT), (below.x + _WIDTH / 2, below.y)
    bend = 0 if levels == 1 else 40 + 24 * levels
    middle = (end[1] - start[1]) / 2
    # A cubic Bézier curve: two control points, then the end.
    points = (start[0] + bend, start[1] + middle, end[0] + bend, end[1] - middle, *end)
    return "M{:.0f} {:.0f}C{:.0f} {:.0f} {:.0f} {:.0f} {:.0f} {:.0f}".format(*start, *points)
