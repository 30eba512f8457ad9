"""Write libraries.yaml, or remove from dvc.lock the stages that dvc.yaml no longer has.

    python -m pipeline.dvc_support.record libraries    libraries.yaml, from requirements.txt
    python -m pipeline.dvc_support.record lock         dvc.lock without stages that are gone

Reads dvc.yaml, dvc.lock, the code and requirements.txt. Writes libraries.yaml or dvc.lock, if it
would differ.
"""

import re
import sys
from pathlib import Path

from common.files import write_bytes
from pipeline.declared import library_versions
from pipeline.declared.code_imports import Code
from pipeline.declared.dvc_yaml import read_stages
from pipeline.declared.faults import told_in_one_line
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import LOCK, Graph
from pipeline.terminal.command_lines import command_line


def lock(tree: WorkingTree) -> bytes:
    """Return dvc.lock with only the entries of dvc.yaml's stages, each as DVC wrote it."""
    graph = Graph(tree)
    text = tree.read(LOCK).decode()
    for name in graph.withdrawn():
        text, count = re.subn(
            rf"^  {re.escape(name)}:\n(?:    .*\n)+", "", text, flags=re.MULTILINE
        )
        if count != 1:
            sys.exit(f"error: {LOCK}: {name}: dvc.yaml has no such stage; delete its entry")
    return text.encode()


def libraries(tree: WorkingTree) -> bytes:
    """Return libraries.yaml: the libraries that each stage imports, at the locked versions."""
    needed = library_versions.needed(Code(tree), read_stages(tree))
    unknown = library_versions.unpinned(tree, set().union(*needed.values()))
    if unknown:
        sys.exit(
            f"error: {library_versions.LOCK} does not pin {', '.join(unknown)}, which stages "
            "import; add it to requirements.in"
        )
    return library_versions.render(tree, needed).encode()


WRITERS = {"libraries": (library_versions.FILE, libraries), "lock": (LOCK, lock)}


def main() -> None:
    parser = command_line("pipeline.dvc_support.record", __doc__, changes=True)
    parser.add_argument("what", choices=WRITERS, help="which of the two files")
    name, writer = WRITERS[parser.parse_args().what]
    tree = WorkingTree(Path.cwd())
    with told_in_one_line("record"):
        content = writer(tree)
    if tree.has(name) and tree.read(name) == content:
        return
    if name == LOCK:
        cut_lock(tree.root)
    else:
        write_bytes(tree.root / name, content)


def cut_lock(root: Path) -> None:
    """Remove entries of stages that no longer exist from dvc.lock, while no dvc writes it."""
    from pipeline.dvc_support.lock_entries import rewrite_lock  # imports dvc, which takes a second

    rewrite_lock(root, lambda _: lock(WorkingTree(root)).decode())


if __name__ == "__main__":
    main()
