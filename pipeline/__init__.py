"""Hold a DVC project to its declarations: the check, the seal, the impact of an edit.

Nothing here takes part in a computation: it can stop a stage, never change what it writes. So it is
no stage's dependency, and mending it reruns nothing.
"""

import importlib.util
import os
import sys

if (
    importlib.util.find_spec("yaml") is None
):  # what everything here needs, and a Python outside the environment mostly lacks
    sys.exit(
        "error: this Python lacks the project's libraries; make setup installs them, source "
        ".venv/bin/activate has them"
    )

from pipeline.declared.settings import read
from pipeline.seal.start import OwnPackages

# The code beside pipeline/ is what is imported, whatever else on sys.path has its name: a folder
# without __init__.py would come after a model.py of another project.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.meta_path.insert(0, OwnPackages(_ROOT, tuple(read(_ROOT).code)))
