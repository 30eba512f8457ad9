"""Read the exports' parity.json: a point of the parity chart for each, and a check for duplicates.

Parity is the largest difference of two logits of an export and its checkpoint.
"""

import math
from pathlib import Path

from common.errors import PipelineError
from common.sections import read_json
from model.curves.points import Point, Progress

# Smaller differences, and 0, are written as this. A logarithmic axis has no zero, and two different
# float32 logits differ by more.
PARITY_FLOOR = 1e-9


def parity_point(path: Path, condition: str, seed: int, place: Progress) -> Point:
    """Read one parity.json into a point, whose value is at least PARITY_FLOOR.

    Raises PipelineError, which names the file, if it is damaged.
    """
    difference = read_json(path, dict).get("max_abs_logit_difference")
    if not isinstance(difference, int | float) or not 0 <= difference < math.inf:
        raise PipelineError(
            f"{path}: not the export stage's (a largest difference of {difference!r}); run dvc"
            " repro export"
        )
    return Point(condition, seed, "", *place, max(float(difference), PARITY_FLOOR))


def tolerance_to_show(tolerance: float) -> float | None:
    """Return the export gate's tolerance, or None if it is 1 or more.

    Such a tolerance limits nothing, and its line would flatten the curves.
    """
    return tolerance if tolerance < 1 else None


def refuse_same_weights(paths: list[Path]) -> None:
    """Raise PipelineError if two of the exports have the same weights.

    `paths` are the exports' parity.json. Two checkpoints or conditions that are one network would
    have curves that agree for the wrong reason. The caller leaves out conditions that share another
    one's pretraining on purpose.
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
