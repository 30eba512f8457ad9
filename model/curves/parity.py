"""What exports' parity.json say: a point of the parity chart for each, and that no two exports are
one network.
"""

import math
from pathlib import Path

from common.errors import PipelineError
from common.sections import read_json
from model.curves.points import Point, Progress

# What parity.csv has for a smaller difference, 0 for one: a logarithmic axis has no zero, and
# float32 logits nothing so small.
PARITY_FLOOR = 1e-9


def parity_point(path: Path, condition: str, seed: int, place: Progress) -> Point:
    """Read one parity.json into its point, not below PARITY_FLOOR; PipelineError names the file if
    it is damaged.
    """
    difference = read_json(path, dict).get("max_abs_logit_difference")
    if not isinstance(difference, int | float) or not 0 <= difference < math.inf:
        raise PipelineError(
            f"{path}: not the export stage's (a largest difference of {difference!r}); run dvc"
            " repro export"
        )
    return Point(condition, seed, "", *place, max(float(difference), PARITY_FLOOR))


def tolerance_to_show(tolerance: float) -> float | None:
    """Return the export gate's tolerance, or None for one of 1 or more: that is none, and its line
    would flatten the curves.
    """
    return tolerance if tolerance < 1 else None


def refuse_same_weights(paths: list[Path]) -> None:
    """Raise PipelineError where two of the exports that the parity.json files `paths` are of have
    the same weights.

    Two checkpoints or two conditions that are one network would make curves that agree for the
    wrong reason. `paths` leave out conditions that are pretrained as another one is.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        weights = read_json(path, dict).get("weights_sha256")
        if not isinstance(weights, str):
            raise PipelineError(f"{path}: not the export stage's; run dvc repro export")
        if weights in seen:
            raise PipelineError(
                f"{seen[weights]} and {path}: the same weights exported twice; look at pretrain and"
                " export"
            )
        seen[weights] = path
