"""Write libraries.yaml, which stages depend on, and free dvc.lock of stages that are no more.

    python -m graph.record libraries   libraries.yaml, from requirements.txt
    python -m graph.record lock        dvc.lock without the stages that dvc.yaml no longer gives; make prune does so too

Reads dvc.yaml, dvc.lock, the code and requirements.txt. Writes the file that is named first, where it would differ.
"""

import re
import sys
from pathlib import Path

from graph import libraries
from graph.imports import Code
from graph.instances import read_stages
from graph.lock import LOCK, Graph
from graph.tree import WorkingTree
from graph.usage import command_line
from model.files import write_bytes
from model.yaml_file import YamlFault


def lock(tree: WorkingTree) -> bytes:
    """Return dvc.lock with the entries of dvc.yaml's stages only, each as DVC wrote it."""
    graph = Graph(tree)
    text = tree.read(LOCK).decode()
    for name in graph.withdrawn():
        text, count = re.subn(
            rf"^  {re.escape(name)}:\n(?:    .*\n)+", "", text, flags=re.MULTILINE
        )
        if count != 1:
            sys.exit(f"error: {LOCK}: {name}: dvc.yaml has no such stage; delete its entry")
    return text.encode()


def library_versions(tree: WorkingTree) -> bytes:
    """Return libraries.yaml: every library that some stage's code imports, at its locked version."""
    code = Code(tree)
    needed = set().union(*(libraries.inputs(code.libraries(stage)) for stage in read_stages(tree)))
    unknown = libraries.unpinned(tree, needed)
    if unknown:
        sys.exit(
            f"error: {libraries.LOCK} does not pin {', '.join(unknown)}, which stages import; add it to requirements.in"
        )
    return libraries.render(tree, needed).encode()


WRITERS = {"libraries": (libraries.FILE, library_versions), "lock": (LOCK, lock)}


def main() -> None:
    parser = command_line("graph.record", __doc__, changes=True)
    parser.add_argument("what", choices=WRITERS, help="which of the two files")
    name, writer = WRITERS[parser.parse_args().what]
    tree = WorkingTree(Path.cwd())
    try:
        content = writer(tree)
    except (AttributeError, OSError, KeyError, TypeError, ValueError, YamlFault) as error:
        sys.exit("error: record: " + " ".join(str(error).split()))
    if tree.has(name) and tree.read(name) == content:
        return
    if name == LOCK:
        cut_lock(tree.root)
    else:
        write_bytes(tree.root / name, content)


def cut_lock(root: Path) -> None:
    """Free dvc.lock of stages that are no more, while no dvc writes it."""
    from graph.plan import (
        rewrite_lock,
    )  # dvc, a second, which a lock that is right need not wait for

    rewrite_lock(root, lambda _: lock(WorkingTree(root)).decode())


if __name__ == "__main__":
    main()
