"""Hold a DVC project to its declarations: the check, the seal, the impact of an edit.

This package takes no part in a computation: it can stop a stage, but never change what the stage
writes. So no stage depends on it, and an edit here reruns nothing.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec

# Every module here needs yaml, and a Python outside the environment mostly lacks it.
if importlib.util.find_spec("yaml") is None:
    sys.exit(
        "error: this Python lacks the project's libraries; make setup installs them, source "
        ".venv/bin/activate has them"
    )


class _Beside:
    """A finder that prefers the packages beside pipeline/ to others on sys.path of the same name.

    Without it, a folder without __init__.py, such as model/, would lose to another project's
    model.py on sys.path.
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
