"""Check a model before it is published: a commit records it, and its parity was proved.

All files are read from the commit, never from the working tree, so that the commit which the card
names really has them.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError, printable
from common.files import CHECKSUMS, verified_directory
from common.sections import overridden, validate
from common.yaml_file import YamlFault
from pipeline.check import declaration_findings
from pipeline.declared.dvc_yaml import GRAPH, LINK, PARAMS, below, read_mapping
from pipeline.declared.faults import FAULTS
from pipeline.declared.file_trees import IGNORED, GitTree
from pipeline.declared.library_versions import FILE as LIBRARIES
from pipeline.declared.lockfile import CONTENTS, LOCK, Entries, Graph, directory_hash, md5_of
from pipeline.dvc_support.objects import file_md5
from tools.export_gate import findings as gate_findings

_OUTPUT = re.compile(r"(exports|sft)/([^/]+)/seed_(\d+)/step_(\d+)")
_CARD = "README.md"


class Model(NamedTuple):
    """A model that a commit records.

    It has the output's path, the instance of dvc.yaml that wrote it, DVC's hash of the directory,
    and the paths of its figures, which git keeps.
    """

    commit: str
    output: str
    instance: str
    md5: str
    condition: str
    seed: int
    step: int
    figures: tuple[str, ...]

    @property
    def is_fine_tuned(self) -> bool:
        return self.output.startswith("sft/")

    @property
    def name(self) -> str:
        """Return the place below exports/, checkpoints/ and metrics/."""
        return f"{self.condition}/seed_{self.seed}/step_{self.step}"

    @property
    def parity(self) -> str:
        return f"metrics/{self.name}/parity.json"


class Commit(NamedTuple):
    """A commit: its files, and its dvc.yaml and dvc.lock, parsed."""

    name: str
    tree: GitTree
    graph: Graph

    def json(self, path: str) -> dict[str, Any]:
        value = json.loads(self.tree.read(path))
        if not isinstance(value, dict):
            raise ValueError(f"{path}: not an object")
        return value


def read_commit(root: Path, revision: str = "HEAD") -> Commit:
    """Return a commit of the repository at `root`; raise PipelineError if it cannot be read."""
    try:
        name = git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
        tree = GitTree(root, name)
        if not tree.has(LOCK):
            raise ValueError(f"it has no {LOCK}")
        return Commit(name, tree, Graph(tree))
    except FAULTS as error:
        reason = " ".join(str(error).split()) or "git knows no such commit"
        raise PipelineError(
            f"commit {revision}: cannot be read ({reason}); run this at the root of a git clone"
        ) from None


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return done.stdout


def model_of(commit: Commit, output: str) -> Model:
    """Return the model that `commit` records at the directory `output`."""
    place = _OUTPUT.fullmatch(output)
    made = {out: name for name, each in commit.graph.instances.items() for out in each.outs}
    if place is None or output not in made:
        raise PipelineError(
            f"{output}: no export or fine-tuned model of commit {commit.name[:12]}; publish "
            "exports/CONDITION/seed_S/step_N or sft/CONDITION/seed_S/step_N"
        )
    recorded = commit.graph.lock.get(made[output])
    if recorded is None or output not in recorded.outs:
        raise PipelineError(
            f"{LOCK}: {made[output]}: has never run at commit {commit.name[:12]}; run make repro, "
            "then commit"
        )
    condition, seed, step = place[2], int(place[3]), int(place[4])
    run = f"metrics/{condition}/seed_{seed}"
    mine = (
        ("sft.json", "gsm8k.json", "probes/sft.json")
        if place[1] == "sft"
        else (f"step_{step}/evaluation.json", "pretrain.json")
    )
    wanted = [f"metrics/{condition}/tokenize.json", f"{run}/step_{step}/parity.json"]
    figures = (*wanted, *(f"{run}/{name}" for name in mine))
    digest = recorded.outs[output]
    return Model(commit.name, output, made[output], digest, condition, seed, step, figures)


def require_recorded(root: Path, directory: Path, commit: Commit, model: Model) -> None:
    """Raise PipelineError unless `commit` records `directory`, and nothing behind it is stale.

    `directory` must have files and SHA256SUMS as its stage wrote them.
    """
    verified_directory(directory)
    found = directory_hash(entries_of(directory))
    if found != model.md5:
        raise PipelineError(
            f"{model.output}: DVC's hash is {found}, {LOCK} of commit {commit.name[:12]} records "
            f"{model.md5}; commit {LOCK}, or bring the recorded files back with dvc checkout "
            f"{model.output}"
        )
    names = _behind(commit, model)
    _require_committed(root, commit, names)
    _require_fresh(commit, names)


def entries_of(directory: Path) -> Entries:
    """Return the MD5 of each file by its path in `directory`."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): file_md5(path) or "" for path in files}


def _behind(commit: Commit, model: Model) -> list[str]:
    """Return the instances that made the model and its figures, and all that they depend on."""
    instances = commit.graph.instances
    made = {out: name for name, instance in instances.items() for out in instance.outputs}
    missing = [path for path in model.figures if path not in made]
    if missing:
        raise PipelineError(
            f"{GRAPH}: no stage of commit {commit.name[:12]} writes {missing[0]}, which the card "
            "needs; publish from a commit that has the stage"
        )
    reached: set[str] = set()
    new = {model.instance, *(made[path] for path in model.figures)}
    while new:
        reached |= new
        deps = [dep for name in new for dep in instances[name].deps]
        meets = {made[out] for out in made for dep in deps if below(dep, out) or below(out, dep)}
        new = meets - reached
    return [name for name in instances if name in reached]


def _require_fresh(commit: Commit, names: list[str]) -> None:
    """Raise PipelineError if `make check` would find a result of `names` stale at the commit."""
    stale = commit.graph.stale()
    found = [f"{LOCK}: {name}: {line}" for name in names for line in stale.get(name, [])]
    for name in names:
        recorded = commit.graph.lock.get(name)
        for out in commit.graph.instances[name].tracked:
            if recorded and commit.tree.has(out):
                if md5_of(commit.tree.read(out)) != recorded.outs.get(out):
                    found.append(f"{out}: is not what {name} wrote")
            elif recorded and not commit.tree.files(out):
                found.append(f"{out}: is not committed")
    _refuse(commit, found, "run make repro, then commit")


def require_declared(commit: Commit) -> None:
    """Raise PipelineError if the commit's dvc.yaml does not list what its code reaches.

    dvc.lock records only files that dvc.yaml lists, so an edit of another file would go unnoticed.
    """
    _refuse(commit, declaration_findings(commit.tree), "run make fix and make repro, then commit")


def _refuse(commit: Commit, found: list[str], advice: str) -> None:
    if found:
        more = f" (and {len(found) - 1} more, by make check)" if len(found) > 1 else ""
        raise PipelineError(f"commit {commit.name[:12]}: {found[0]}{more}; {advice}")


def _require_committed(root: Path, commit: Commit, names: list[str]) -> None:
    """Raise PipelineError if a file that the lock records for `names` was edited here."""
    instances = [commit.graph.instances[name] for name in names]
    paths = {GRAPH, LINK, LOCK, CONTENTS, PARAMS, LIBRARIES, IGNORED}
    paths |= {path for each in instances for path in (*each.deps, *each.tracked)}
    status = ("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--")
    changed = git(root, *status, *sorted(paths)).split("\0")[:-1]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise PipelineError(
            f"{printable(changed[0][3:])}{more}: edited since commit {commit.name[:12]}, which the "
            "card would name; commit or restore it, and make check"
        )


def require_parity(root: Path, directory: Path, commit: Commit, model: Model) -> str:
    """Return in words how the export was proved equal to its checkpoint.

    Raises PipelineError if it was not.
    """
    parity, tolerance = commit.json(model.parity), _tolerance(commit)
    difference, weights = parity["max_abs_logit_difference"], parity["weights_sha256"]
    loose = [line for line in gate_findings(commit.tree) if line.startswith(f"{model.parity}:")]
    if loose or not difference <= tolerance < 1:  # a tolerance of 1 would let every fault through
        raise PipelineError(
            loose[0]
            if loose
            else f"{model.parity}: logits differ by {difference:.3g}, export.parity_tolerance is "
            f"{tolerance:.3g}; it must be below 1 and at least the difference"
        )
    card = (directory / _CARD).read_text(encoding="utf-8")
    if not model.is_fine_tuned and weights not in card:
        raise PipelineError(
            f"{model.parity}: is of weights {weights[:12]}, which {model.output}/{_CARD} does not "
            "name; run make repro, then commit"
        )
    _require_readable(directory)
    said = f"parity {difference:.1e} by {model.parity}"
    return said + _gate_again(root, directory, commit, model, weights, tolerance)


def _tolerance(commit: Commit) -> float:
    return float(read_mapping(commit.tree, PARAMS)["export"]["parity_tolerance"])


def _require_readable(directory: Path) -> None:
    """Read the model back as later stages do; raise PipelineError if it is not a whole GPT-2."""
    from model.hugging_face.directory import (
        read_hugging_face_directory,
    )  # imports torch, which takes seconds

    network = read_hugging_face_directory(directory)
    bad = [name for name, tensor in network.tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise PipelineError(f"{directory}: {bad[0]} is not finite; publish a model that is")


def _gate_again(
    root: Path, directory: Path, commit: Commit, model: Model, weights: str, tolerance: float
) -> str:
    """Run the export's gate again if checkpoint, tokens and export are here."""
    places = (
        f"checkpoints/{model.name}",
        f"data/tokens/{model.condition}",
        f"exports/{model.name}",
    )
    checkpoint, tokens, export = (Path(os.path.relpath(root / each)) for each in places)
    export = export if model.is_fine_tuned else directory
    if not (checkpoint.is_dir() and tokens.is_dir() and export.is_dir()):
        return ", not measured again: the checkpoint is not at hand"
    from model.export.gate import read_source, verify_export
    from model.numerics.setting import set_numerics
    from model.params.numerics import NumericsParams
    from model.params.tokenize import TokenizeParams

    params = read_mapping(commit.tree, PARAMS)
    own = params["conditions"][model.condition]["tokenize"]
    path = Path(PARAMS)
    chosen = validate(overridden(params["tokenize"], own), TokenizeParams, path, "tokenize")
    # The gate has a tolerance, so it does not need the exact bytes of portable kernels.
    set_numerics(NumericsParams(kernels="native", threads=1))
    place = (model.condition, model.seed, model.step)
    source, _, actual = read_source(checkpoint, tokens, place, chosen)
    if actual != weights:
        raise PipelineError(
            f"{model.parity}: is of weights {weights[:12]}, checkpoints/{model.name} has "
            f"{actual[:12]}; run make repro, then commit"
        )
    verified_directory(export)
    with tempfile.TemporaryDirectory() as folder:
        # The gate reads an export as the exporter writes it, without card and checksums.
        for file in export.iterdir():
            if file.name not in (_CARD, CHECKSUMS):
                _linked(file, Path(folder) / file.name)
        parity = verify_export(Path(folder), source, tolerance)
    return f", measured again: {parity.max_abs_logit_difference:.1e}"


def _linked(file: Path, copy: Path) -> None:
    with contextlib.suppress(OSError):  # on another file system, or on one without links
        os.link(file, copy)
        return
    shutil.copyfile(file, copy)


def understood(error: Exception) -> PipelineError:
    """Return a one-line error about files of a commit that are not as their stages write them."""
    what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    if isinstance(error, YamlFault):
        return PipelineError(what)
    return PipelineError(f"the commit's files are not as stages write them ({what}); make check")
