"""Hold a DVC project to its declarations: the check, the seal, the impact of an edit.

Nothing here takes part in a computation: it can stop a stage, never change what it writes. So it is
no stage's dependency, and mending it reruns nothing.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec

if (
    importlib.util.find_spec("yaml") is None
):  # what everything here needs, and a Python outside the environment mostly lacks
    sys.exit(
        "error: this Python lacks the project's libraries; make setup installs them, source "
        ".venv/bin/activate has them"
    )


class _Beside:
    """A finder: the code beside pipeline/ is imported, whatever else on sys.path has its name.

    A folder without __init__.py would come after a model.py of another project. Nothing is
    imported here that a folder on PYTHONPATH could have in another way.
    """

    def __init__(self, root: str):
        self._root = root
        self._folders = {entry.name for entry in os.scandir(root) if entry.is_dir()}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if path is not None or name not in self._folders:
            return None
        from pipeline.declared.settings import read
        from pipeline.seal.start import OwnPackages

        return OwnPackages(self._root, tuple(read(self._root).code)).find_spec(name)


sys.meta_path.insert(0, _Beside(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
