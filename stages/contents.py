"""List every file of the directories that stages read in part, with its MD5.

Reads checkpoints/, data/tokens/, losses/, samples/, scores/ and sft_losses/. Writes
dvc.contents.json: the MD5 of every file by its path, as DVC counts them. With it `make check` can
follow single files without the data: dvc.lock has one hash for a whole directory, which does not
show whether `export` read this checkpoint. Costs one pass over these files: a tenth of a second in
the demo, two minutes for the 50 GB of the full size.
"""

import fnmatch
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from common.errors import run_stage
from common.files import write_json

FOLDERS = ("checkpoints", "data/tokens", "losses", "samples", "scores", "sft_losses")
# DVC leaves these out too (.dvcignore): unfinished work of other stages, and files of editors,
# merges and desktops.
_IGNORED = (
    *(".*.partial", ".*.scratch", ".gitignore", ".DS_Store", ".nfs*", "*.swp", "*~"),
    *("*.orig", "*.rej", ".#*", "#*#", ".ipynb_checkpoints"),
)


def main() -> None:
    entries = {
        path.as_posix(): md5_file(path) for folder in FOLDERS for path in files(Path(folder))
    }
    write_json(Path("dvc.contents.json"), entries)
    print(f"contents: {len(entries)} files of {', '.join(FOLDERS)}")


def files(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder` that DVC counts, in order of names."""
    for entry in sorted(os.listdir(folder)):
        path = folder / entry
        if any(fnmatch.fnmatch(entry, pattern) for pattern in _IGNORED):
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def md5_file(path: Path) -> str:
    """Return the MD5 of a file's bytes, DVC's hash."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    run_stage(main)
