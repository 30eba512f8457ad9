"""`make push`, `make pull`, `make verify` and `make gc`: results through a DVC remote (docs/sharing.md).

    python -m graph.share push          this tree's results and the run cache, once seen to be whole, to the default remote
    python -m graph.share pull          from it; then every file is compared with dvc.lock
    python -m graph.share verify        the cache and the outputs against dvc.lock
    python -m graph.share seed          metrics that git keeps into the cache, where dvc repro needs them
    python -m graph.share gc            removes from the cache what no branch, tag or experiment needs
    python -m graph.share gc --cloud    and from the remote

Reads dvc.lock, the cache, outputs and the remote. Writes cache and remote, pull also the outputs.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from graph.lock import Graph
from graph.objects import cache_findings, output_findings, seed
from graph.tree import WorkingTree
from graph.usage import command_line

_SHOWN = 10  # findings; a remote that lacks one directory lacks hundreds of files
# Of every graph and a few bytes: asking for it tells whether the remote answers.
_PROBE = "data/params.ok"


class Failure(Exception):
    """What ends the command, in a line."""


def push(root: Path, graph: Graph, cache: Path) -> None:
    remote = default_remote(root)
    refuse(cache_findings(graph, cache), "nothing was pushed")
    # To a remote that does not answer DVC would try each file of the run cache in turn, for minutes.
    run(root, ["dvc", "status", "--cloud", "--json", _PROBE], f"remote {remote} does not answer", quiet=True)
    run(root, ["dvc", "push", "--run-cache"], f"not all is on remote {remote}; say make push again")


def pull(root: Path, graph: Graph, cache: Path) -> None:
    remote = default_remote(root)
    run(root, ["dvc", "pull", "--run-cache"], f"not all came from remote {remote}; docs/sharing.md says what to do")
    seed(graph, cache)
    refuse(output_findings(graph, cache), "if they come back so, the remote has them so: docs/sharing.md, What can go wrong")


def verify(root: Path, graph: Graph, cache: Path) -> None:
    refuse(cache_findings(graph, cache) + output_findings(graph, cache), "docs/sharing.md, What can go wrong")


def collect_garbage(root: Path, graph: Graph, cache: Path, cloud: bool = False) -> None:
    """Remove what no tip of a local branch or tag, no experiment and not the working tree needs. DVC asks before it does."""
    if cloud:
        default_remote(root)
        run(root, ["git", "fetch", "--all", "--prune", "--quiet"], "without git's remotes it is not known what others need")
    lost = unkept(root)
    if lost:
        raise Failure(
            f"DVC keeps what local branches and tags need, and none is at {', '.join(lost)}; "
            f"git tag keep-{lost[0].replace('/', '-')} {lost[0]}, or merge and push that branch, or git fetch --prune"
        )
    # Not --force: it would also say yes to losing a directory whose listing is neither here nor on the remote.
    command = ["dvc", "gc", "--all-branches", "--all-tags", "--all-experiments", *["--cloud"] * cloud]
    run(root, command, "dvc gc did not end well")
    seed(graph, cache)


def unkept(root: Path) -> list[str]:
    """Return the branches of git's remotes at whose commit no local branch or tag is."""
    form = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(symref) %(refname)"
    refs = subprocess.check_output(["git", "for-each-ref", f"--format={form}"], cwd=root, text=True).splitlines()
    commits = {name: commit for commit, symref, name in (ref.split(" ", 2) for ref in refs) if not symref}
    kept = {commit for name, commit in commits.items() if name.startswith(("refs/heads/", "refs/tags/"))}
    remote = [name for name in commits if name.startswith("refs/remotes/")]
    return [name.removeprefix("refs/remotes/") for name in remote if commits[name] not in kept]


def default_remote(root: Path) -> str:
    asked = subprocess.run(["dvc", "config", "core.remote"], cwd=root, text=True, capture_output=True)
    name = asked.stdout.strip()
    if not name:
        raise Failure("no remote is configured; dvc remote add -d storage URL, where URL is a folder or s3://BUCKET/PATH")
    return name


def run(root: Path, command: list[str], problem: str, quiet: bool = False) -> None:
    code = subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL if quiet else None).returncode
    if code:
        raise Failure(f"{problem} ({' '.join(command)}: exit code {code})")


def refuse(findings: list[str], what_now: str) -> None:
    if findings:
        more = [f"… and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
        print("\n".join([*findings[:_SHOWN], *more]))
        raise Failure(f"{len(findings)} file{'s' * (len(findings) > 1)} not as dvc.lock records; {what_now}")


def cache_folder(root: Path) -> Path:
    folder = Path(subprocess.check_output(["dvc", "cache", "dir"], cwd=root, text=True).strip())
    return folder.relative_to(root) if folder.is_relative_to(root) else folder  # shorter in messages


COMMANDS = {"push": push, "pull": pull, "verify": verify, "seed": lambda root, graph, cache: seed(graph, cache)}
COMMANDS["gc"] = collect_garbage


def main() -> None:
    parser = command_line("graph.share", __doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--cloud", action="store_true", help="of gc: the remote too")
    options = parser.parse_args()
    root, name = Path.cwd(), options.command
    if options.cloud and name != "gc":
        parser.error("--cloud is of gc")
    try:
        COMMANDS[name](root, Graph(WorkingTree(root)), cache_folder(root), *[True] * options.cloud)
    except Failure as failure:
        sys.exit(f"error: {name}: {failure}")
    except (AttributeError, KeyError, OSError, TypeError, ValueError, yaml.YAMLError, json.JSONDecodeError) as error:
        sys.exit(f"error: {name}: " + " ".join(str(error).split()))
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {name}: {' '.join(map(str, error.cmd))}: exit code {error.returncode}")


if __name__ == "__main__":
    main()
