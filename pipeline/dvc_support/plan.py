"""What `dvc repro` would do, as DVC itself says, and the order in which it would leave dvc.lock."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro

from common.files import write_bytes
from pipeline.declared.lockfile import LOCK

# Of dvc.lock, as DVC writes it. A name in quotes is not told from the same without.
ENTRY = re.compile(r"^  ([\w@][^\s'\"]*):\n(?:    .*\n)+", re.MULTILINE)
_LAYOUT = re.compile(rf"schema: '2.0'\nstages:\n(?:{ENTRY.pattern})+", ENTRY.flags)
_REFERENCE = re.compile(
    r"^ +(?:- +)*(?:.*: )?[&*]\S", re.MULTILINE
)  # of YAML, which may be to another entry


class Plan(NamedTuple):
    """What each stage depends on, in the order of `dvc repro`, and which stages have changed."""

    upstream: dict[str, set[str]]
    changed: set[str]


def entries_are_apart(text: str) -> bool:
    """Return whether a dvc.lock is laid out as DVC does it.

    Then it has one entry after another and nothing else, and no entry refers to another.
    """
    return bool(_LAYOUT.fullmatch(text)) and not _REFERENCE.search(text)


def read_plan(root: Path) -> Plan:
    with Repo(str(root)) as repo:
        graph = get_active_graph(repo.index.graph)
        upstream = {
            stage.addressing: {up.addressing for up in graph.successors(stage)}
            for stage in plan_repro(graph)
        }
        return Plan(upstream, set(repo.status()))


def rewrite_lock(root: Path, rewritten: Callable[[str], str]) -> None:
    """Replace dvc.lock's text by `rewritten` of it.

    DVC's own lock is held meanwhile: what another dvc writes would be lost.
    """
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        text = (root / LOCK).read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            write_bytes(root / LOCK, new.encode())


def put_in_order(root: Path, plan: Plan) -> None:
    """Give dvc.lock the order in which `dvc repro` would have written it from nothing."""

    def in_order(text: str) -> str:
        if not entries_are_apart(text):
            return text
        entries = {match[1]: match[0] for match in ENTRY.finditer(text)}
        order = [name for name in dict.fromkeys([*plan.upstream, *entries]) if name in entries]
        return ENTRY.sub("", text) + "".join(entries[name] for name in order)

    rewrite_lock(root, in_order)
