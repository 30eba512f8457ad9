"""Check a published model against the dvc.lock of this clone's commit, byte by byte.

    python -m tools.verify OWNER/NAME
    python -m tools.verify OWNER/NAME --revision main
    python -m tools.verify exports/baseline/seed_1337/step_3200

Compares, in this order:
- each file with SHA256SUMS;
- DVC's hash of the directory with dvc.lock's record;
- a published card with the one that tools.publish writes at the commit that the card names.

Prints "match", or the file that differs, or the other commit that recorded the model. Exits with 0
if all is as the commit records it, else with 1, also if the card differs or cannot be compared.
Reads the directory, or downloads the model into huggingface_hub's cache; reads git. Writes nothing
else. docs/models.md has the rest.
"""

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from common.errors import PipelineError, printable, run_stage
from common.files import CHECKSUMS, read_checksums, sha256_file
from pipeline.declared.faults import FAULTS
from pipeline.terminal.command_lines import command_line
from tools.model_copies import OF_THE_HUB, model_files

if TYPE_CHECKING:
    from pipeline.declared.lockfile import Recorded
    from tools.publish.checks import Commit
    from tools.publish.published import Provenance

_SHOWN = 10  # how many files that differ are listed

Files = Mapping[str, Path]


def main() -> None:
    parser = command_line("tools.verify", __doc__)
    parser.add_argument("model", help="OWNER/NAME on the hub, or a directory")
    parser.add_argument("--revision", help="commit, branch or tag, for a name on the hub")
    options = parser.parse_args()
    directory = Path(options.model)
    if directory.is_dir():
        if options.revision:
            parser.error("--revision is for a name on the hub")
        files, name, asked = model_files(directory), options.model, None
    else:
        files, name = downloaded(options.model, options.revision)
        asked = options.model
    from tools.publish.checks import understood  # huggingface_hub takes a second

    try:
        print(verified_model(Path.cwd(), files, name, asked))
    except PipelineError:
        raise
    except FAULTS as error:
        raise understood(error) from None


def downloaded(name: str, revision: str | None) -> tuple[Files, str]:
    """Return a hub model's files by name, and the text "NAME at COMMIT"."""
    from huggingface_hub import HfApi, hf_hub_download

    from tools.publish.hub import require_name, told

    require_name(name)
    with told(name):
        api = HfApi()
        commit = api.model_info(name, revision=revision).sha
        if commit is None:
            raise ValueError("the hub names no commit")
        names = api.list_repo_files(name, revision=commit)
        for each in names:
            _require_inside(each)
        kept = sorted(each for each in names if each not in OF_THE_HUB)
        files = {each: Path(hf_hub_download(name, each, revision=commit)) for each in kept}
    return files, f"{name} at {commit}"


def _require_inside(name: str) -> None:
    """Raise PipelineError for a name by which a download would be written outside its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise PipelineError(
            f"{printable(name)}: the hub lists a file whose name leads out of the repository; "
            "do not use this model"
        )


def verified_model(root: Path, files: Files, name: str, asked: str | None = None) -> str:
    """Return in words which model it is; raise PipelineError unless the commit records it.

    `asked` is the hub's OWNER/NAME, which provenance.json must state; None for a directory.
    """
    from pipeline.declared.lockfile import directory_hash
    from tools.publish.checks import read_commit
    from tools.publish.published import PROVENANCE, entries_as_written, read_provenance

    _require_sums(files, name)
    commit = read_commit(root)
    stated = read_provenance(files[PROVENANCE].read_bytes()) if PROVENANCE in files else None
    own = stated.replaced if stated else {}
    if stated:
        _require_original(files, stated, name)
        if asked and stated.choices.repository != asked:
            raise PipelineError(
                f"{name}: {PROVENANCE} says that it was published as {stated.choices.repository}; "
                "verify that one"
            )
    kept = {each: path for each, path in files.items() if not stated or each != PROVENANCE}
    entries = entries_as_written(kept, own)
    digest = directory_hash(entries)
    outputs = _outputs(commit.graph.lock, digest)
    if not outputs:
        raise PipelineError("\n".join(_other(root, commit, name, entries, digest, stated)))
    if stated and stated.output not in outputs:
        raise PipelineError(
            f"{name}: its files are {outputs[0]}, {PROVENANCE} says {stated.output}; publish it "
            "again"
        )
    line = f"match: {name} is {outputs[0]} of commit {commit.name}, by DVC's hash {digest}"
    if not stated:
        return line
    if reason := _card_fault(root, files, stated, commit.name, digest):
        raise PipelineError(f"weights {line}; the card is NOT verified: {reason}")
    return f"{line}\ncard and {PROVENANCE} are those of commit {stated.commit}"


def _require_sums(files: Files, name: str) -> None:
    """Raise PipelineError with a line for each file that differs from SHA256SUMS."""
    if CHECKSUMS not in files:
        raise PipelineError(
            f"{name}: no {CHECKSUMS}, which every export and published model has; name one of those"
        )
    _require_listed(files, read_checksums(files[CHECKSUMS].parent), name)


def _require_original(files: Files, stated: "Provenance", name: str) -> None:
    """Raise PipelineError unless the files are those of the SHA256SUMS that the stage wrote."""
    from tools.publish.published import CARD, PROVENANCE

    lines = stated.replaced[CHECKSUMS].decode().splitlines()
    pairs = [line.partition("  ") for line in lines]
    sums = {each: digest for digest, _, each in pairs}
    sums.pop(CARD, None)
    kept = {each: path for each, path in files.items() if each not in (CARD, PROVENANCE)}
    _require_listed(kept, sums, f"{name}: by {PROVENANCE}")


def _require_listed(files: Files, sums: Mapping[str, str], name: str) -> None:
    lines = []
    for each in sorted((sums.keys() | files.keys()) - {CHECKSUMS}):
        if each not in files:
            lines.append(f"{name}: {printable(each)} is missing; {CHECKSUMS} lists it")
        elif each not in sums:
            lines.append(f"{name}: {printable(each)} is not in {CHECKSUMS}")
        elif sha256_file(files[each]) != sums[each]:
            lines.append(f"{name}: {printable(each)} differs from {CHECKSUMS}")
    if lines:
        more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise PipelineError("\n".join([*lines[:_SHOWN], *more]))


def _outputs(lock: Mapping[str, "Recorded"], digest: str) -> list[str]:
    """Return the outputs that have DVC's hash `digest`."""
    return sorted(out for each in lock.values() for out, md5 in each.outs.items() if md5 == digest)


def _card_fault(
    root: Path, files: Files, stated: "Provenance", head: str, digest: str
) -> str | None:
    """Return why card and provenance cannot be confirmed as the commit's; None if they are."""
    from tools.publish.checks import model_of, read_commit
    from tools.publish.published import CARD, PROVENANCE, REPLACED, published_files, sha256_of

    kept = {each: path for each, path in files.items() if each not in (*REPLACED, PROVENANCE)}
    named = stated.commit[:12]
    try:
        commit = read_commit(root, stated.commit)
        model = model_of(commit, stated.output)
        wanted = published_files(commit, model, kept, stated.replaced, stated.choices)
    except (PipelineError, *FAULTS):
        if stated.commit == head:
            raise
        return (
            f"commit {named}, which it names, is not in this clone as this version reads it; git "
            f"fetch, git switch --detach {named}, then run this again"
        )
    # If that commit recorded other weights under this name, its figures are of those weights.
    if model.md5 != digest:
        return f"commit {named}, which it names, records another {stated.output}"
    different = [
        each for each in (CARD, PROVENANCE) if sha256_of(wanted[each]) != sha256_of(files[each])
    ]
    if not different:
        return None
    if commit.name == head:
        return (
            f"{different[0]} is not what tools.publish writes at commit {named}; its figures are "
            "not the commit's"
        )
    return (
        f"{different[0]} is not what this version of tools.publish writes at commit {named}; git "
        f"switch --detach {named}, then run this again"
    )


def _other(
    root: Path,
    commit: "Commit",
    name: str,
    entries: Mapping[str, str],
    digest: str,
    stated: "Provenance | None",
) -> list[str]:
    """Return lines about a model that the commit does not record: its commit, or differences."""
    from pipeline.declared.file_trees import GitTree
    from pipeline.declared.lockfile import LOCK, read_lock
    from tools.publish.checks import git

    here = f"dvc.lock of commit {commit.name[:12]} does not record it"
    found = git(root, "log", "--all", "--format=%H", f"-S{digest}", "--", LOCK).split()
    for each in found:
        if outputs := _outputs(read_lock(GitTree(root, each)), digest):
            return [
                f"{name}: {here}: it is {outputs[0]} of commit {each}; git switch --detach "
                f"{each[:12]}, then run this again"
            ]
    output = stated.output if stated else _inside(root, name)
    made = {out: md5 for each in commit.graph.lock.values() for out, md5 in each.outs.items()}
    wanted = _listing(root, output, made[output]) if output in made else None
    if wanted is None:
        said = f" (its card names commit {stated.commit[:12]})" if stated else ""
        return [f"{name}: {here}, nor does another commit here{said}; git fetch, then run it again"]
    names = sorted(each for each in {*wanted, *entries} if wanted.get(each) != entries.get(each))
    return [
        f"{name}: {printable(each)} differs from {output} as {LOCK} of commit "
        f"{commit.name[:12]} records it"
        for each in names[:_SHOWN]
    ]


def _inside(root: Path, name: str) -> str:
    place = Path(os.path.abspath(name))
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else ""


def _listing(root: Path, output: str, md5: str) -> Mapping[str, str] | None:
    """Return the recorded MD5 of each file of an output, from the output or DVC's cache."""
    from pipeline.declared.lockfile import cached_entries, directory_hash
    from pipeline.dvc_support.share import cache_folder
    from tools.publish.checks import entries_of

    if (root / output).is_dir():
        entries = entries_of(root / output)
        if directory_hash(entries) == md5:
            return entries
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return cached_entries(root / cache_folder(root), md5)
    return None


if __name__ == "__main__":
    run_stage(main)
