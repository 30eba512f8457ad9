"""Find committed exports that passed only because the gate's tolerance was raised.

The gate compares an export's logits with its checkpoint's. DVC records a wrong export like any
other, but its figures are not those of its checkpoint. pyproject.toml names `findings`, and
`make check` calls it.
"""

import contextlib
import json

from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import Tree

_PARITY = 1e-2  # far above any rounding, far below any fault


def findings(tree: Tree) -> list[str]:
    """Return a line for each committed parity.json whose logits differ by more than rounding."""
    tracked = [out for instance in read_instances(tree).values() for out in instance.tracked]
    lines = []
    for path in (out for out in tracked if out.endswith("/parity.json") and tree.has(out)):
        # A damaged parity.json has a finding of its own.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            difference = json.loads(tree.read(path))["max_abs_logit_difference"]
            if not difference <= _PARITY:
                lines.append(
                    f"{path}: logits differ by {difference:.3g}, so it is not its checkpoint; "
                    "lower export.parity_tolerance"
                )
    return lines
