"""`make push`, `make pull`, `make verify` and `make gc`: results through a DVC remote (docs/sharing.md).

    python -m pipeline.dvc_support.share push          this tree's results and the run cache, once seen to be whole, to the default remote
    python -m pipeline.dvc_support.share pull          from it; then every file is compared with dvc.lock
    python -m pipeline.dvc_support.share verify        the cache and the outputs against dvc.lock
    python -m pipeline.dvc_support.share seed          metrics that git keeps into the cache, where dvc repro needs them
    python -m pipeline.dvc_support.share gc            removes from the cache what no branch, tag or experiment needs
    python -m pipeline.dvc_support.share gc --cloud    and from the remote

Reads dvc.lock, the cache, outputs and the remote. Writes cache and remote, pull also the outputs.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from common.yaml_file import YamlFault
from pipeline.declared.command_lines import command_line
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.dvc_support.objects import cache_findings, output_findings, seed

_SHOWN = 10  # findings; a remote that lacks one directory lacks hundreds of files
# Of every graph and a few bytes: asking for it tells whether the remote answers.
_PROBE = "data/params.ok"
_NEEDED = ("refs/heads/", "refs/tags/", "refs/remotes/")
_NEEDED_THERE = (
    "refs/heads/*",
    "refs/tags/*",
    "refs/exps/??/*",
)  # the last: experiments that were pushed
_UNKNOWN = "without git's remotes it is not known what others need"


class Failure(Exception):
    """What ends the command, in a line."""


def push(root: Path, graph: Graph, cache: Path) -> None:
    remote = default_remote(root)
    refuse(cache_findings(graph, cache), "nothing was pushed")
    # To a remote that does not answer DVC would try each file of the run cache in turn, for minutes.
    run(
        root,
        ["dvc", "status", "--cloud", "--json", _PROBE],
        f"remote {remote} does not answer",
        quiet=True,
    )
    run(root, ["dvc", "push", "--run-cache"], f"not all is on remote {remote}; say make push again")


def pull(root: Path, graph: Graph, cache: Path) -> None:
    remote = default_remote(root)
    run(
        root,
        ["dvc", "pull", "--run-cache"],
        f"not all came from remote {remote}; docs/sharing.md says what to do",
    )
    seed(graph, cache)
    refuse(
        output_findings(graph, cache),
        "if they come back so, the remote has them so: docs/sharing.md, What can go wrong",
    )


def verify(root: Path, graph: Graph, cache: Path) -> None:
    findings = cache_findings(graph, cache) + output_findings(graph, cache)
    refuse(
        findings,
        "make pull or make repro brings what was never here; the rest is in docs/sharing.md, What can go wrong",
    )
    print("verify: cache and outputs are as dvc.lock records them")


def collect_garbage(root: Path, graph: Graph, cache: Path, cloud: bool = False) -> None:
    """Remove what no tip of a local branch or tag, no experiment and not the working tree needs. DVC asks before it does."""
    # Not --force: it would also say yes to losing a directory whose listing is neither here nor on the remote.
    command = ["dvc", "gc", "--all-branches", "--all-tags", "--all-experiments"]
    folder = (root / cache).resolve()
    if not folder.is_relative_to(root.resolve()):
        raise Failure(
            f"the cache {folder} is outside this repository, and others who use it would lose their data; "
            f"{' '.join(command)} --projects DIRECTORY… names them: docs/sharing.md, Freeing space"
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
    """Return the branches and tags at whose commits DVC keeps nothing.

    Those that git has here are named as in `origin/main`, those that only a git remote has as in `origin refs/heads/main`.
    """
    here = tips(subprocess.check_output(["git", "show-ref", "--dereference"], cwd=root, text=True))
    names = {
        ref.removeprefix("refs/remotes/"): commit
        for ref, commit in here.items()
        if ref.startswith(_NEEDED)
    }
    # A clone of a single branch or of a depth fetches no other branch, and no clone a tag that is on no branch.
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
    """Return the commits by ref of a listing in which what a tag is of follows the tag, as `TAG^{}`."""
    return {ref.removesuffix("^{}"): commit for commit, ref in map(str.split, listing.splitlines())}


def kept_by_dvc(root: Path) -> set[str]:
    """Return the commits that `dvc gc` keeps; a branch of the same name as a tag is the tag to DVC, so it has to be asked."""
    from dvc.exceptions import (
        DvcException,
    )  # here, because they take a third of a second, and make repro says seed
    from dvc.scm import SCM, iter_revs

    try:
        return set(
            iter_revs(SCM(str(root)), all_branches=True, all_tags=True, all_experiments=True)
        )
    except (
        DvcException
    ) as error:  # a tag of something that is no commit, which dvc gc refuses as well
        way = "git update-ref refs/kept/TAG TAG keeps what it is of, then git tag --delete TAG"
        raise Failure(f"DVC cannot read a branch or tag: {error}; {way}") from error


def tagging(name: str) -> str:
    """Return the command that has DVC keep what `name`, of unkept, needs."""
    tag = "keep-" + name.replace(" refs/", "-").replace("/", "-")
    if " " in name:
        return f"git fetch {name} && git tag {tag} FETCH_HEAD"
    return f"git tag {tag} {name}"


def default_remote(root: Path) -> str:
    asked = subprocess.run(
        ["dvc", "config", "core.remote"], cwd=root, text=True, capture_output=True
    )
    name = asked.stdout.strip()
    if not name:
        raise Failure(
            "no remote is configured; dvc remote add -d storage URL, where URL is a folder or s3://BUCKET/PATH"
        )
    return name


def run(root: Path, command: list[str], problem: str, quiet: bool = False) -> None:
    code = subprocess.run(
        command, cwd=root, stdout=subprocess.DEVNULL if quiet else None
    ).returncode
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
}
COMMANDS["gc"] = collect_garbage


def main() -> None:
    parser = command_line("pipeline.dvc_support.share", __doc__, changes=True)
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
    except (
        AttributeError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
        YamlFault,
        json.JSONDecodeError,
    ) as error:
        sys.exit(f"error: {name}: " + " ".join(str(error).split()))
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {name}: {' '.join(map(str, error.cmd))}: exit code {error.returncode}")


if __name__ == "__main__":
    main()
