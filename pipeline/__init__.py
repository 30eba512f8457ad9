"""Hold a DVC project to its declarations: the check, the seal, the impact of an edit.

Nothing here takes part in a computation: it can stop a stage, never change what it writes. So it is
no stage's dependency, and mending it reruns nothing.
"""

import importlib.util
import sys

if (
    importlib.util.find_spec("yaml") is None
):  # what everything here needs, and a Python outside the environment mostly lacks
    sys.exit(
        "error: this Python lacks the project's libraries; make setup installs them, source "
        ".venv/bin/activate has them"
    )
