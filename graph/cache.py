"""Read every object of DVC's cache, and remove those whose content is not what their name says.

DVC believes what it has once put there. A rotten object is what it restores, again and again, and the stage that reads it stops;
without the object DVC runs the stage that makes it. Reads all of .dvc/cache. Writes nothing.

    python -m graph.cache
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from graph.usage import command_line

CACHE = Path(".dvc/cache/files/md5")


def objects(cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield each object and the MD5 in its name."""
    for path in sorted(cache.glob("??/*")):
        name = path.parent.name + path.name.removesuffix(".dir")
        if re.fullmatch("[0-9a-f]{32}", name):
            yield path, name


def main() -> None:
    command_line("graph.cache", __doc__).parse_args()
    root, read, removed = Path.cwd(), 0, 0
    for path, name in objects(root / CACHE):
        with open(path, "rb") as file:
            actual = hashlib.file_digest(file, "md5").hexdigest()
        read += 1
        if actual != name:
            path.unlink()
            print(f"removed: {path.relative_to(root)}: its content has the MD5 {actual}", file=sys.stderr)
            removed += 1
    print(f"{read} objects of DVC's cache read, {removed} were rotten" + ("; run dvc repro" if removed else ""))


if __name__ == "__main__":
    main()
