"""`make verdict REV=main`: what this tree's figures are against another revision's, with their significance.

    python -m tools.verdict main

`dvc metrics diff` shows that figures differ; this says which differences are more than noise. Reads metrics/outcomes.jsonl, what
every item says of every figure, of the working tree and of the revision: no data, no model, and nothing is run. Writes nothing.
Exits with 0 whatever it finds, with 1 where a revision has no outcomes.
"""

import sys
from pathlib import Path

from graph.lock import CONTENTS, Graph
from graph.tree import GitTree, WorkingTree
from graph.usage import command_line
from model.errors import PipelineError
from model.outcome_file import parse_outcomes
from model.yaml_file import YamlFault

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
    from tools.revisions import report  # seconds, for which --help need not wait

    print("\n".join([*report(revision, then, now), *stale()]))


def committed(revision: str) -> str:
    try:
        return GitTree(Path.cwd(), revision).read(OUTCOMES).decode()
    except (FileNotFoundError, ValueError) as error:
        raise PipelineError(f"{str(error).removeprefix('fatal: ')}; name a revision that has run compare") from None


def stale() -> list[str]:
    """Return a warning if the working tree's figures are not of its code, parameters and libraries."""
    try:
        found = Graph(WorkingTree(Path.cwd())).stale()
    except (OSError, KeyError, TypeError, ValueError, YamlFault):
        return ["Whether the working tree's figures are of its code cannot be told; make check says why."]
    # A list of files that make repro has not yet written says nothing of the figures.
    reasons = [name for name, lines in found.items() if not all(line.startswith(CONTENTS) for line in lines)]
    warning = f"The working tree's figures are not of its code: {len(reasons)} stages would rerun; run make repro"
    return [warning] if reasons else []


if __name__ == "__main__":
    main()
