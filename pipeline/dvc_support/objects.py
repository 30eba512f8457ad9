"""Compare DVC's cache and outputs with the MD5s of dvc.lock, by reading every byte.

DVC does not read them again. It trusts a cached file that is write-protected, and an output whose
time and size are those of its checkout. So it pushes, pulls and checks out a damaged one with exit
code 0, and `dvc status` is clean.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from common.files import write_bytes
from pipeline.declared.lockfile import (
    LOCK,
    Entries,
    Graph,
    cached_entries,
    directory_hash,
    object_path,
)


def cache_findings(graph: Graph, cache: Path) -> list[str]:
    """Return a line for each missing or damaged object that dvc.lock needs."""
    findings = {}
    for out, md5 in recorded(graph):
        for path, wanted in _objects(cache, out, md5).items():
            stored = object_path(cache, wanted)
            found = file_md5(stored)
            if found is None:
                findings[wanted] = (
                    f"{path}: {stored} is missing; dvc commit {out} puts it there if {out} is whole"
                )
            elif found != wanted.removesuffix(".dir"):
                findings[wanted] = (
                    f"{path}: {stored} is damaged; delete it, then dvc commit {out} if {out} is "
                    "whole"
                )
    return list(findings.values())


def output_findings(graph: Graph, cache: Path) -> list[str]:
    """Return a line for each file of a cached output that differs from dvc.lock's record."""
    findings = []
    for out, md5 in recorded(graph):
        found = _found(graph.tree.root / out)
        if found is None:
            findings.append(f"{out}: missing; dvc checkout {out}")
        elif _hash(found) != md5:
            wanted = _listing(cache, md5)
            names = sorted(
                name for name in {*found, *wanted} if found.get(name) != wanted.get(name)
            )
            findings += [
                _output_finding(cache, os.path.join(out, name) if name else out, wanted.get(name))
                for name in names
            ]
    return findings


def _output_finding(cache: Path, path: str, md5: str | None) -> str:
    if md5 is None:
        return f"{path}: {LOCK} does not record it; move it elsewhere"
    return (
        f"{path}: not the bytes that {LOCK} records; "
        f"delete it and {object_path(cache, md5)}, then make pull"
    )


def seed(graph: Graph, cache: Path) -> int:
    """Put the metrics that git keeps into DVC's cache; return how many it lacked.

    DVC restores a stage only if all of its outputs are in the cache. Outputs with `cache: false`
    are never on a remote, and dvc gc removes them from the cache. Without this function, a
    colleague's `dvc repro` would train again although the weights can be pulled.
    """
    count = 0
    for instance in graph.instances.values():
        recorded = graph.lock.get(instance.name)
        if recorded is None:
            continue
        for out in instance.tracked:
            md5, path = recorded.outs.get(out, ".dir"), graph.tree.root / out
            # DVC has no run cache for a stage with a directory that git keeps.
            if md5.endswith(".dir") or object_path(cache, md5).exists() or file_md5(path) != md5:
                continue
            write_bytes(object_path(cache, md5), path.read_bytes())
            object_path(cache, md5).chmod(0o444)
            count += 1
    return count


def recorded(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield each output that DVC caches, with the MD5 that dvc.lock records."""
    for name, instance in graph.instances.items():
        recorded = graph.lock.get(name)
        yield from (
            (out, recorded.outs[out]) for out in instance.outs if recorded and out in recorded.outs
        )


def _objects(cache: Path, out: str, md5: str) -> Entries:
    """Return the MD5s behind an output by path: a directory's listing and the files in it."""
    if not md5.endswith(".dir"):
        return {out: md5}
    return {out: md5} | {f"{out}/{name}": entry for name, entry in _listing(cache, md5).items()}


def _listing(cache: Path, md5: str) -> Entries:
    if not md5.endswith(".dir"):
        return {"": md5}
    try:
        entries = cached_entries(cache, md5) or {}
    except (KeyError, TypeError, ValueError):  # a damaged listing has a finding of its own
        return {}
    return entries if directory_hash(entries) == md5 else {}


def _found(path: Path) -> Entries | None:
    """Return the MD5s of an output's files by path below it; the path is "" for a single file."""
    if not path.is_dir():
        md5 = file_md5(path)
        return {"": md5} if md5 else None
    files = [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path).as_posix(): file_md5(file) or "" for file in files}


def _hash(found: Entries) -> str:
    return found[""] if "" in found else directory_hash(found)


def file_md5(path: Path) -> str | None:
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
