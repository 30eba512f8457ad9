"""The published files of a model, and the record of what it was made from.

    README.md          replaced by the card with results and provenance
    SHA256SUMS         replaced by a list of the published files
    provenance.json    new: the commit, and both replaced files as the stage wrote them
    all others         as the stage wrote them

So DVC's hash of the original directory can be computed from the files on the hub.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError
from common.files import CHECKSUMS, json_bytes, sha256_file
from common.yaml_file import load
from pipeline.declared.dvc_yaml import below, read_mapping
from pipeline.declared.library_versions import FILE as LIBRARIES
from pipeline.declared.lockfile import LOCK, Entries, md5_of
from pipeline.dvc_support.objects import file_md5
from tools.publish.card import Choices, published_card
from tools.publish.checks import Commit, Model

CARD, PROVENANCE = "README.md", "provenance.json"
REPLACED = (CARD, CHECKSUMS)

# A file on disk, or bytes that exist only in the published model.
Content = Path | bytes


class Provenance(NamedTuple):
    """The content of provenance.json: commit, output, choices, and the two replaced files."""

    commit: str
    output: str
    choices: Choices
    replaced: dict[str, bytes]


def published_files(
    commit: Commit,
    model: Model,
    files: Mapping[str, Path],
    own: Mapping[str, bytes],
    choices: Choices,
) -> dict[str, Content]:
    """Return the files to publish, sorted by name.

    `files` are those that are published unchanged; `own` are the two replaced ones.
    """
    config = json.loads(files["config.json"].read_bytes())
    card = published_card(commit, model, own[CARD].decode(), config, choices)
    kept: dict[str, Content] = {name: path for name, path in files.items() if name not in REPLACED}
    made: dict[str, Content] = {
        CARD: card.encode(),
        PROVENANCE: json_bytes(_provenance(commit, model, own, choices)),
    }
    whole = dict(sorted((kept | made).items()))
    lines = "".join(f"{sha256_of(content)}  {name}\n" for name, content in whole.items())
    return dict(sorted((whole | {CHECKSUMS: lines.encode()}).items()))


def _provenance(
    commit: Commit, model: Model, own: Mapping[str, bytes], choices: Choices
) -> dict[str, Any]:
    lock = load(commit.tree.read(LOCK), LOCK)["stages"]
    reached: set[str] = set()
    new = {model.instance}
    while new:
        reached |= new
        deps = [dep["path"] for name in new for dep in lock[name].get("deps", [])]
        outs = {out["path"]: name for name in lock for out in lock[name].get("outs", [])}
        meets = {outs[out] for out in outs for dep in deps if below(dep, out) or below(out, dep)}
        new = (meets & commit.graph.instances.keys()) - reached
    versions = read_mapping(commit.tree, LIBRARIES)
    stages = sorted({commit.graph.instances[name].stage for name in reached})
    return {
        "commit": commit.name,
        "dvc_lock_sha256": hashlib.sha256(commit.tree.read(LOCK)).hexdigest(),
        "instance": model.instance,
        "language": choices.language,
        "libraries": {stage: versions[stage] for stage in stages if stage in versions},
        "license": choices.license,
        "lock": {name: lock[name] for name in sorted(reached)},
        "md5": model.md5,
        "output": model.output,
        "replaced": {name: own[name].decode() for name in REPLACED},
        "repository": choices.repository,
    }


def read_provenance(content: bytes) -> Provenance:
    """Parse a provenance.json; raise PipelineError if it is not one."""
    try:
        found = json.loads(content)
        texts = [found[key] for key in ("commit", "output", "repository", "language")]
        replaced = {name: found["replaced"][name].encode() for name in REPLACED}
        stated = found["license"]
        if not all(isinstance(text, str) for text in texts) or not isinstance(stated, str | None):
            raise TypeError("a value is no text")
        if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", texts[0]):
            raise ValueError("commit is no git commit")
        commit, output, repository, language = texts
        choices = Choices(repository, language, stated)
        if choices.fault:
            raise ValueError(choices.fault)
        return Provenance(commit, output, choices, replaced)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PipelineError(
            f"{PROVENANCE}: not as tools.publish writes it ({error!r}); publish the model again"
        ) from None


def entries_as_written(files: Mapping[str, Path], own: Mapping[str, bytes]) -> Entries:
    """Return each file's MD5 as its stage wrote it; `own` are the originals of replaced files."""
    kept = {name: file_md5(path) or "" for name, path in files.items() if name not in own}
    return kept | {name: md5_of(content) for name, content in own.items()}


def sha256_of(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return sha256_file(content)


def size_of(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
