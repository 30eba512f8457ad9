"""A copy of the repository with the micro profile, its stages on the GPU, and the driver in it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dvc.utils.serialize import dumps_yaml

from common.yaml_file import read_yaml
from tools.repository_copy import copy_repository

REPOSITORY = Path(__file__).resolve().parents[2]
_LEFT_OUT = ("metrics/", "plots/", "dvc.lock", "dvc.contents.json", "tests/", "docs/")
_WITH_DEVICE = ("pretrain", "evaluate", "samples", "sft", "generate", "probes")


def micro_tree(
    directory: Path, device: str, conditions: int = 2, **sections: dict[str, Any]
) -> None:
    """Write the copy to `directory`, with the profile's first `conditions`.

    `sections` are keys that replace those of the profile.

    Native kernels, since portable ones compute on CPUs. The plots' page and its data are not
    copied: tools.generated.dvc_plots writes them.
    """
    copy_repository(REPOSITORY, directory, _LEFT_OUT)
    params = read_yaml(REPOSITORY / "profiles/micro.yaml")
    params["numerics"] = {"kernels": "native", "threads": 1}
    names = list(params["conditions"])[:conditions]
    params["conditions"] = {name: params["conditions"][name] for name in names}
    for name in _WITH_DEVICE:
        params[name]["device"] = device
    for name, keys in sections.items():
        params[name] |= keys
    (directory / "params.yaml").write_text(dumps_yaml(params))
    # A shared cache of the user's would restore the first run's bytes in the second.
    (directory / ".dvc/config.local").write_text("[cache]\n    dir = cache\n")
    run(directory, sys.executable, "-m", "tools.generated.dvc_plots")


def run(directory: Path, *command: str) -> None:
    """Run a command in the copy; raises CalledProcessError if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONUTF8": "1"}
    subprocess.run(command, cwd=directory, env=environment, check=True)
