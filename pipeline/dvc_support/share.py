"""Share results through a DVC remote: make push, pull, verify and gc (docs/operations.md).

    python -m pipeline.dvc_support.share push     send results and the run cache, if none is damaged
    python -m pipeline.dvc_support.share pull     fetch them, and compare files with dvc.lock
    python -m pipeline.dvc_support.share verify   compare cache and outputs with dvc.lock
    python -m pipeline.dvc_support.share seed     put metrics that git keeps into the cache
    python -m pipeline.dvc_support.share gc       remove what no branch, tag or experiment needs
    python -m pipeline.dvc_support.share gc --cloud   and from the remote

Reads dvc.lock, the cache, outputs and the remote. Writes cache and remote, pull also the outputs.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.declared.faults import told_in_one_line
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.dvc_support.objects import cache_findings, output_findings, recorded, seed
from pipeline.terminal.command_lines import command_line

_SHOWN = 10  # findings; a remote that lacks one directory lacks hundreds of files
_NEEDED = ("refs/heads/", "refs/tags/", "refs/remotes/")
_NEEDED_THERE = (
    "refs/heads/*",
    "refs/tags/*",
    "refs/exps/??/*",
)  # the last: experiments that were pushed
_UNKNOWN = "without git's remotes it is not known what others need"


class Failure(Exception):
    """The reason why the command ends, in one line."""


def push(root: Path, graph: Graph, cache: Path) -> None:
    remote = default_remote(root)
    refuse(cache_findings(graph, cache), "nothing was pushed")
    # If the remote does not answer, dvc push tries each file of the run cache in turn, for minutes.
    # So try one file first.
    files = [out for out, md5 in recorded(graph) if not md5.endswith(".dir")]
    probe = ["dvc", "status", "--cloud", "--json", *files[:1]]
    run(root, probe, f"remote {remote} does not answer", quiet=True)
    run(root, ["dvc", "push", "--run-cache"], f"not all is on remote {remote}; run make push again")


def pull(root: Path, graph: Graph, cache: Path) -> None:
    remote = default_remote(root)
    run(
        root,
        ["dvc", "pull", "--run-cache"],
        f"not all came from remote {remote}; docs/operations.md says what to do",
    )
    seed(graph, cache)
    refuse(
        output_findings(graph, cache),
        "if they come back so, the remote has them so: docs/operations.md, What can go wrong",
    )


def verify(root: Path, graph: Graph, cache: Path) -> None:
    findings = cache_findings(graph, cache) + output_findings(graph, cache)
    refuse(
        findings,
        "make pull or make repro brings what was never here; the rest is in docs/operations.md, "
        "What can go wrong",
    )
    print("verify: cache and outputs are as dvc.lock records them")


def collect_garbage(root: Path, graph: Graph, cache: Path, cloud: bool = False) -> None:
    """Remove what no branch, tag, experiment or the working tree needs; DVC asks first."""
    # Without --force, which would also confirm the loss of a directory whose listing is neither
    # here nor on the remote.
    command = ["dvc", "gc", "--all-branches", "--all-tags", "--all-experiments"]
    folder = (root / cache).resolve()
    if not folder.is_relative_to(root.resolve()):
        raise Failure(
            f"the cache {folder} is outside this repository, and others who use it would lose "
            f"their data; {' '.join(command)} --projects DIRECTORY… names them: "
            "docs/operations.md, Freeing space"
        )
    if cloud:
        default_remote(root)
        run(root, ["git", "fetch", "--all", "--prune", "--quiet"], _UNKNOWN)
    lost = unkept(root, cloud)
    if lost:
        raise Failure(
            f"DVC keeps what local branches and tags need, and none is at {', '.join(lost)}; "
            f"{tagging(lost[0])}, or git fetch --prune once their owners have withdrawn them"
        )
    run(root, [*command, *["--cloud"] * cloud], "dvc gc did not end well")
    seed(graph, cache)


def unkept(root: Path, cloud: bool = False) -> list[str]:
    """Return the branches and tags whose outputs `dvc gc` would not keep.

    Named `origin/main` if git has it here, and `origin refs/heads/main` if only a git remote has
    it.
    """
    here = tips(subprocess.check_output(["git", "show-ref", "--dereference"], cwd=root, text=True))
    names = {
        ref.removeprefix("refs/remotes/"): commit
        for ref, commit in here.items()
        if ref.startswith(_NEEDED)
    }
    # A shallow or single-branch clone does not fetch other branches, and no clone fetches a tag
    # that is on no branch. So ask the remotes.
    for remote in (
        subprocess.check_output(["git", "remote"], cwd=root, text=True).split() if cloud else ()
    ):
        asked = subprocess.run(
            ["git", "ls-remote", remote, *_NEEDED_THERE],
            cwd=root,
            text=True,
            stdout=subprocess.PIPE,
        )
        if asked.returncode:
            raise Failure(f"{_UNKNOWN} (git ls-remote {remote}: exit code {asked.returncode})")
        names |= {f"{remote} {ref}": commit for ref, commit in tips(asked.stdout).items()}
    kept = kept_by_dvc(root)
    lost: dict[str, str] = {}
    for name in sorted(
        names, key=lambda name: (" " in name, name.endswith("/HEAD"), name)
    ):  # origin/HEAD is a second name
        if names[name] not in kept:
            lost.setdefault(names[name], name)
    return list(lost.values())


def tips(listing: str) -> dict[str, str]:
    """Return the commits by ref; a tag's commit follows the tag in `listing`, as `TAG^{}`."""
    return {ref.removesuffix("^{}"): commit for commit, ref in map(str.split, listing.splitlines())}


def kept_by_dvc(root: Path) -> set[str]:
    """Return the commits that `dvc gc` keeps.

    DVC itself computes them: if a branch and a tag have one name, it takes the tag for both.
    """
    # Imported here, because it takes a third of a second and `seed` does not need it.
    from dvc.exceptions import DvcException
    from dvc.scm import SCM, iter_revs

    every = {"all_branches": True, "all_tags": True, "all_experiments": True}
    try:
        return set(iter_revs(SCM(str(root)), **every))
    except DvcException as error:  # a tag of an object that is no commit; dvc gc refuses it too
        way = "git update-ref refs/kept/TAG TAG keeps what it is of, then git tag --delete TAG"
        raise Failure(f"DVC cannot read a branch or tag: {error}; {way}") from error


def tagging(name: str) -> str:
    """Return the command after which DVC keeps what `name`, a result of `unkept`, needs."""
    tag = "keep-" + name.replace(" refs/", "-").replace("/", "-")
    if " " in name:
        return f"git fetch {name} && git tag {tag} FETCH_HEAD"
    return f"git tag {tag} {name}"


def default_remote(root: Path) -> str:
    command = ["dvc", "config", "core.remote"]
    name = subprocess.run(command, cwd=root, text=True, capture_output=True).stdout.strip()
    if not name:
        raise Failure(
            "no remote is configured; dvc remote add -d storage URL, where URL is a folder or "
            "s3://BUCKET/PATH"
        )
    return name


def run(root: Path, command: list[str], problem: str, quiet: bool = False) -> None:
    out = subprocess.DEVNULL if quiet else None
    code = subprocess.run(command, cwd=root, stdout=out).returncode
    if code:
        raise Failure(f"{problem} ({' '.join(command)}: exit code {code})")


def refuse(findings: list[str], what_now: str) -> None:
    if findings:
        more = [f"… and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
        print("\n".join([*findings[:_SHOWN], *more]))
        raise Failure(
            f"{len(findings)} file{'s' * (len(findings) > 1)} not as dvc.lock records; {what_now}"
        )


def cache_folder(root: Path) -> Path:
    folder = Path(subprocess.check_output(["dvc", "cache", "dir"], cwd=root, text=True).strip())
    return (
        folder.relative_to(root) if folder.is_relative_to(root) else folder
    )  # shorter in messages


COMMANDS: dict[str, Callable[..., object]] = {
    "push": push,
    "pull": pull,
    "verify": verify,
    "seed": lambda root, graph, cache: seed(graph, cache),
    "gc": collect_garbage,
}


def main() -> None:
    parser = command_line("pipeline.dvc_support.share", __doc__, changes=True)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--cloud", action="store_true", help="with gc: clean the remote too")
    options = parser.parse_args()
    root, name = Path.cwd(), options.command
    if options.cloud and name != "gc":
        parser.error("--cloud goes with gc only")
    cloud = {"cloud": True} if options.cloud else {}
    try:
        with told_in_one_line(name):
            COMMANDS[name](root, Graph(WorkingTree(root)), cache_folder(root), **cloud)
    except Failure as failure:
        sys.exit(f"error: {name}: {failure}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {name}: {' '.join(map(str, error.cmd))}: exit code {error.returncode}")


if __name__ == "__main__":
    main()
