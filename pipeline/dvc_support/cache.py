"""Read every object of DVC's cache, and remove those whose content does not match their name.

An object's name is the MD5 of its content. DVC does not check it again: it restores a damaged
object again and again, and the stage that reads it stops. Once the object is gone, DVC runs the
stage that makes it. Reads all of DVC's cache. Removes damaged objects. Writes nothing else.

    python -m pipeline.dvc_support.cache
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.dvc_support.objects import file_md5
from pipeline.dvc_support.share import cache_folder
from pipeline.terminal.command_lines import command_line

CACHE = Path("files/md5")  # below the folder that `dvc cache dir` names


def objects(cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield each object and the MD5 in its name."""
    for path in sorted(cache.glob("??/*")):
        name = path.parent.name + path.name.removesuffix(".dir")
        if re.fullmatch("[0-9a-f]{32}", name):
            yield path, name


def main() -> None:
    command_line("pipeline.dvc_support.cache", __doc__, changes=True).parse_args()
    folder = cache_folder(Path.cwd())
    read, removed = 0, 0
    for path, name in objects(folder / CACHE):
        actual = file_md5(path)
        read += 1
        if actual != name:
            path.unlink()
            print(f"removed: {path}: its content has the MD5 {actual}", file=sys.stderr)
            removed += 1
    print(
        f"{read} objects of DVC's cache read, {removed} were rotten"
        + ("; run dvc repro" if removed else "")
    )


if __name__ == "__main__":
    main()
