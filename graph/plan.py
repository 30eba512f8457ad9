"""What `dvc repro` would do, as DVC itself says, and the order in which it would leave dvc.lock."""

import re
from pathlib import Path
from typing import NamedTuple

from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro

from graph.lock import LOCK
from model.files import write_bytes

# Of dvc.lock, as DVC writes it.
ENTRY = re.compile(r"^  (\S+):\n(?:    .*\n)+", re.MULTILINE)
LAYOUT = re.compile(rf"schema: '2.0'\nstages:\n(?:{ENTRY.pattern})+", ENTRY.flags)


class Plan(NamedTuple):
    """What each stage depends on, in the order of `dvc repro`, and the stages that DVC says have changed."""

    upstream: dict[str, set[str]]
    changed: set[str]


def read_plan(root: Path) -> Plan:
    with Repo(str(root)) as repo:
        graph = get_active_graph(repo.index.graph)
        upstream = {stage.addressing: {up.addressing for up in graph.successors(stage)} for stage in plan_repro(graph)}
        return Plan(upstream, set(repo.status()))


def put_in_order(root: Path, plan: Plan) -> None:
    """Give dvc.lock the order in which `dvc repro` would have written it from nothing."""
    text = (root / LOCK).read_text()
    if not LAYOUT.fullmatch(text):  # by hand: its entries are not to be told apart so simply
        return
    entries = {match[1]: match[0] for match in ENTRY.finditer(text)}
    order = [name for name in dict.fromkeys([*plan.upstream, *entries]) if name in entries]
    ordered = ENTRY.sub("", text) + "".join(entries[name] for name in order)
    if ordered != text:
        write_bytes(root / LOCK, ordered.encode())
