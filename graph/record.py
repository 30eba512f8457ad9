"""After a run: what `make check` and `make impact` need, in dvc.lock and beside it.

    python -m graph.record lock        dvc.lock without stages that are no more; DVC itself keeps them for ever
    python -m graph.record contents    dvc.contents.json, from DVC's cache
    python -m graph.record libraries   libraries.yaml, from requirements.txt
    python -m graph.record stages      dvc.stages.json, from dvc.yaml: before a run, since a stage depends on it

Reads dvc.yaml, dvc.lock and what each line names. Writes the one file that is named first, where it would differ.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from graph import libraries
from graph.imports import Code
from graph.instances import STAGES, read_stages, stages_json
from graph.lock import CONTENTS, LOCK, Graph, cached_entries
from graph.tree import WorkingTree
from graph.usage import command_line
from model.files import write_bytes
from model.yaml_file import YamlFault


def lock(tree: WorkingTree) -> bytes:
    """Return dvc.lock with the entries of dvc.yaml's stages only, each as DVC wrote it."""
    graph = Graph(tree)
    text = tree.read(LOCK).decode()
    for name in sorted(graph.lock.keys() - graph.instances.keys()):
        text, count = re.subn(rf"^  {re.escape(name)}:\n(?:    .*\n)+", "", text, flags=re.MULTILINE)
        if count != 1:
            sys.exit(f"error: {LOCK}: {name}: dvc.yaml has no such stage; delete its entry")
    return text.encode()


def contents(tree: WorkingTree) -> bytes:
    """Return dvc.contents.json for the tree's dvc.lock."""
    graph = Graph(tree)
    cache = Path(subprocess.check_output(["dvc", "cache", "dir"], cwd=tree.root, text=True).strip())
    listing = {}
    for md5 in sorted(graph.parts_needed()):
        listing[md5] = cached_entries(cache, md5) or graph.contents.get(md5)
        if listing[md5] is None:
            sys.exit(f"error: {CONTENTS}: directory {md5} is not in DVC's cache; run dvc repro")
    return json.dumps(listing, indent=1, sort_keys=True).encode() + b"\n"


def library_versions(tree: WorkingTree) -> bytes:
    """Return libraries.yaml: every library that some stage's code imports, at its locked version."""
    code = Code(tree)
    needed = set().union(*(libraries.inputs(code.libraries(stage)) for stage in read_stages(tree)))
    unknown = libraries.unpinned(tree, needed)
    if unknown:
        sys.exit(f"error: {libraries.LOCK} does not pin {', '.join(unknown)}, which stages import; add it to requirements.in")
    return libraries.render(tree, needed).encode()


WRITERS = {
    "lock": (LOCK, lock),
    "contents": (CONTENTS, contents),
    "libraries": (libraries.FILE, library_versions),
    "stages": (STAGES, stages_json),
}


def main() -> None:
    parser = command_line("graph.record", __doc__, changes=True)
    parser.add_argument("what", choices=WRITERS, help="which of the four files")
    name, writer = WRITERS[parser.parse_args().what]
    tree = WorkingTree(Path.cwd())
    try:
        content = writer(tree)
    except (AttributeError, OSError, KeyError, TypeError, ValueError, subprocess.CalledProcessError, YamlFault) as error:
        sys.exit("error: record: " + " ".join(str(error).split()))
    if tree.has(name) and tree.read(name) == content:
        return
    if name == LOCK:
        from graph.plan import rewrite_lock  # dvc, a second, which a lock that is right need not wait for

        rewrite_lock(tree.root, lambda _: lock(WorkingTree(tree.root)).decode())
    else:
        write_bytes(tree.root / name, content)


if __name__ == "__main__":
    main()
