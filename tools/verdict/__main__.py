"""Compare this tree's figures with another revision's, with significance (`make verdict REV=main`).

    python -m tools.verdict main

`dvc metrics diff` shows that figures differ. This command tells which differences are more than
noise. If dvc.lock records the same code, parameters, libraries and data for both, only rounding
differs, and the command reports no finding.

Reads dvc.lock and metrics/outcomes.jsonl (the outcome of each item for each figure) of the working
tree and of the revision. Needs no data and no model, runs nothing, writes nothing. Exits with 0
whatever the result, and with 1 if a revision has no outcomes.
"""

import sys
from pathlib import Path
from typing import Any

from common.errors import PipelineError
from common.yaml_file import YamlFault
from model.comparison.outcomes_file import parse_outcomes
from pipeline.declared.dvc_yaml import below, read_instances, verdicts
from pipeline.declared.file_trees import GitTree, Tree, WorkingTree
from pipeline.declared.lockfile import CONTENTS, Graph, Recorded, md5_of, read_lock
from pipeline.terminal.command_lines import command_line

OUTCOMES = "metrics/outcomes.jsonl"


def main() -> None:
    parser = command_line("tools.verdict", __doc__)
    parser.add_argument("revision", help="a commit, branch, tag or experiment that has run compare")
    revision = parser.parse_args().revision
    if not revision:
        parser.error("an empty revision would be the index; name a commit, branch or tag")
    try:
        then = parse_outcomes(committed(revision), f"{OUTCOMES} at {revision}")
        now = parse_outcomes(Path(OUTCOMES).read_text(), OUTCOMES)
    except OSError as error:
        sys.exit(f"error: verdict: {OUTCOMES}: {error.strerror}; run make repro")
    except UnicodeDecodeError as error:
        sys.exit(f"error: verdict: {OUTCOMES}: no text ({error}); run make repro")
    except PipelineError as error:
        sys.exit(f"error: verdict: {error}")
    from tools.verdict.revisions import report  # takes seconds, for which --help need not wait

    root = Path.cwd()
    rounding = is_only_rounding(GitTree(root, revision), WorkingTree(root))
    print("\n".join([*report(revision, then, now, rounding), *stale()]))


def committed(revision: str) -> str:
    try:
        return GitTree(Path.cwd(), revision).read(OUTCOMES).decode()
    except (FileNotFoundError, ValueError) as error:
        raise PipelineError(
            f"{str(error).removeprefix('fatal: ')}; name a revision that has run compare"
        ) from None


def is_only_rounding(then: Tree, now: Tree) -> bool:
    """Return whether both trees' outcomes come from the same code, parameters, libraries and data.

    dvc.lock has the inputs. It counts only if it records exactly the outcomes that the tree has.
    """
    try:
        always = verdicts(read_instances(now).values())
        made = [
            inputs(read_lock(tree), md5_of(tree.read(OUTCOMES)), always) for tree in (then, now)
        ]
    except (OSError, AttributeError, KeyError, TypeError, ValueError, YamlFault):
        return False  # `stale` reports that dvc.lock cannot be read
    return made[0] == made[1] and made[0] is not None


def inputs(
    lock: dict[str, Recorded], outcomes: str, always: set[str]
) -> dict[str, tuple[Any, ...]] | None:
    """Return the inputs of the outcomes by stage: command, parameters, hashes of code and data.

    Results of torch (checkpoints, exports, scores) are left out, because rounding changes them.
    Everything below data/ is made without torch, so it must be the same. Outputs in `always` have
    the same bytes in every run. Returns None if `lock` records other `outcomes`.
    """
    names = {name for name, recorded in lock.items() if recorded.outs.get(OUTCOMES) == outcomes}
    if not names:
        return None
    makers = {
        path: name
        for name, recorded in lock.items()
        for path in recorded.outs
        if path not in always
    }
    reached, new = set(), names
    while new:
        reached |= new
        deps = [dep for name in new for dep in lock[name].deps]
        new = {
            makers[out] for out in makers for dep in deps if below(dep, out) or below(out, dep)
        } - reached
    made = {}
    for name in reached:
        recorded = lock[name]
        code = {
            dep: md5
            for dep, md5 in recorded.deps.items()
            if not any(below(dep, out) or below(out, dep) for out in makers)
        }
        data = {out: md5 for out, md5 in recorded.outs.items() if out.startswith("data/")}
        made[name] = recorded.command, recorded.params, code, data
    return made


def stale() -> list[str]:
    """Return a warning if the working tree's figures are stale."""
    try:
        found = Graph(WorkingTree(Path.cwd())).stale()
    except (OSError, KeyError, TypeError, ValueError, YamlFault):
        return [
            "It is unknown whether the working tree's figures are of its code; make check tells"
            " why."
        ]
    # Missing lists in dvc.contents.json do not make the figures stale.
    reasons = [
        name
        for name, lines in found.items()
        if not all(line.startswith(CONTENTS) for line in lines)
    ]
    warning = (
        f"The working tree's figures are not of its code: {len(reasons)} stages would rerun; run"
        " make repro"
    )
    return [warning] if reasons else []


if __name__ == "__main__":
    main()
