"""Compare the values of two readers of YAML."""

import math
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Return whether two values and their types are equal at every depth.

    -0.0 differs from 0.0, and nan equals nan.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return one == other
