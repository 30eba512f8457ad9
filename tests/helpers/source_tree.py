"""The source section of a local tree, with its checksum computed as in the documentation."""

import subprocess
from pathlib import Path

# The command of README and model/params/fetch.py.
LISTING = (
    "find . -type f ! -path '*/.*' -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum |"
    " sha256sum"
)


def shell_sha256(tree: Path) -> str:
    command = ["bash", "-c", f"set -o pipefail; {LISTING}"]
    return subprocess.check_output(command, cwd=tree, text=True).split()[0]


def source_of(tree: Path, sha256: str | None = None) -> dict:
    return {"kind": "tree", "path": str(tree), "sha256": sha256 or shell_sha256(tree)}
