"""`make gc`: nobody's data goes, from whatever clone it is said. A file in DVC stands for the
results, so nothing is run.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from micro_graph import ENVIRONMENT, shell
from repository import REPOSITORY

from pipeline.dvc_support.objects import file_md5, object_path
from pipeline.dvc_support.share import Failure, unkept

pytestmark = pytest.mark.slow("dvc gc runs in clones of clones, a process each", minutes=0.6)

COLLECT = [sys.executable, "-m", "pipeline.dvc_support.share", "gc"]
EXPERIMENT = "refs/exps/ab/" + "c" * 38 + "/tried"


def with_data(clone: Path, name: str) -> None:
    """Commit `name` as the bytes of the data, on whatever HEAD is."""
    (clone / "data.bin").write_text(name)
    shell(["dvc", "add", "--quiet", "data.bin"], clone)
    shell(["git", "add", "--all"], clone)
    shell(["git", "commit", "--quiet", "--message", name], clone)
    shell(["dvc", "push", "--quiet"], clone)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A clone whose git remote `hub.git` and DVC remote `storage` have main, the branch kept, and
    the tag lone-1 of no branch.
    """
    folder = tmp_path_factory.mktemp("gc")
    clone = folder / "author"
    shell(["git", "init", "--quiet", "--bare", "--initial-branch", "main", "hub.git"], folder)
    shell(["git", "init", "--quiet", "--initial-branch", "main", "author"], folder)
    shell(["git", "remote", "add", "origin", "../hub.git"], clone)
    identify(clone)
    shell(["dvc", "init", "--quiet"], clone)
    shell(["dvc", "remote", "add", "--quiet", "--default", "storage", "../storage"], clone)
    (clone / "dvc.yaml").write_text("stages: {}\n")
    (clone / "params.yaml").write_text("{}\n")
    with_data(clone, "main")
    for name in ("kept", "lone"):
        shell(["git", "switch", "--quiet", "--create", name, "main"], clone)
        with_data(clone, name)
    shell(["git", "tag", "--annotate", "--message", "of no branch", "lone-1"], clone)
    shell(["git", "switch", "--quiet", "main"], clone)
    shell(["git", "branch", "--quiet", "--delete", "--force", "lone"], clone)
    shell(["dvc", "checkout", "--quiet"], clone)
    shell(["git", "push", "--quiet", "origin", "main", "kept", "lone-1"], clone)
    return clone


@pytest.fixture
def author(made, tmp_path) -> Path:
    """The author's clone for one test, with copies of both remotes beside it."""
    shutil.copytree(made.parent, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path / "author"


def identify(clone: Path) -> None:
    for name in ("user.name", "user.email"):
        shell(["git", "config", name, "t@example.org"], clone)


def clone_of(author: Path, *options: str) -> Path:
    shell(
        ["git", "clone", "--quiet", *options, f"file://{author.parent}/hub.git", "colleague"],
        author.parent,
    )
    clone = author.parent / "colleague"
    identify(clone)
    shell(["dvc", "pull", "--quiet"], clone)
    return clone


def stored(root: Path) -> set[str]:
    """Return what the data are of which the cache or remote has the bytes."""
    return {path.read_text() for path in (root / "files/md5").rglob("*") if path.is_file()}


def collect(clone: Path, *options: str) -> str:
    """Say y to make gc's command."""
    environment = {**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*COLLECT, *options],
        cwd=clone,
        env=environment,
        input="y\n",
        text=True,
        capture_output=True,
    )
    return " ".join([str(done.returncode), *done.stderr.strip().splitlines()[-1:]])


@pytest.mark.parametrize(
    "options", [["--single-branch"], ["--depth", "1"]], ids=["single-branch", "depth"]
)
def test_a_clone_of_one_branch_frees_no_other_branchs_data(author, options):
    colleague = clone_of(author, *options)
    assert unkept(colleague) == [], "of what is here"
    said = collect(colleague, "--cloud")
    assert (
        said == "1 error: gc: DVC keeps what local branches and tags need, and none is at origin"
        " refs/heads/kept, origin refs/tags/lone-1; git fetch origin refs/heads/kept && git tag"
        " keep-origin-heads-kept FETCH_HEAD, or git fetch --prune once their owners have"
        " withdrawn them"
    )
    assert stored(author.parent / "storage") == {"main", "kept", "lone"}
    shell(["bash", "-c", said.split("; ")[1].split(", or ")[0]], colleague)
    assert unkept(colleague, cloud=True) == ["origin refs/tags/lone-1"]
    shell(
        ["bash", "-c", "git fetch --quiet origin refs/tags/lone-1 && git tag keep-lone FETCH_HEAD"],
        colleague,
    )
    assert collect(colleague, "--cloud").startswith("0 ")
    assert stored(author.parent / "storage") == {"main", "kept", "lone"}


def test_what_dvc_would_have_deleted_from_a_clone_of_one_branch(author):
    colleague = clone_of(author, "--single-branch")
    shell(
        ["dvc", "gc", "--all-branches", "--all-tags", "--all-experiments", "--cloud", "--force"],
        colleague,
    )
    assert stored(author.parent / "storage") == {"main"}


def test_a_tag_that_is_on_no_branch_keeps_its_data(author):
    colleague = clone_of(author, "--no-tags")
    shell(["git", "branch", "kept", "origin/kept"], colleague)
    assert unkept(colleague) == []
    assert unkept(colleague, cloud=True) == ["origin refs/tags/lone-1"]
    shell(["git", "fetch", "--quiet", "origin", "tag", "lone-1"], colleague)
    assert unkept(colleague, cloud=True) == []
    shell(["git", "tag", "--annotate", "--message", "a tag of a tag", "again", "lone-1"], colleague)
    shell(["git", "push", "--quiet", "origin", "again"], colleague)
    shell(["git", "tag", "--delete", "again"], colleague)
    assert unkept(colleague, cloud=True) == [], "tags are compared by their commits"


def test_what_nobody_needs_goes_here_and_with_cloud_from_the_remote(author):
    shell(["git", "push", "--quiet", "--delete", "origin", "kept"], author)
    shell(["git", "branch", "--quiet", "--delete", "--force", "kept"], author)
    assert collect(author).startswith("0 ")
    assert stored(author / ".dvc/cache") == {"main", "lone"}
    assert stored(author.parent / "storage") == {"main", "kept", "lone"}
    assert collect(author, "--cloud").startswith("0 ")
    assert stored(author.parent / "storage") == {"main", "lone"}


def test_experiments_that_were_pushed_keep_their_data(author):
    assert unkept(author, cloud=True) == []
    with_data(author, "tried")
    shell(["git", "push", "--quiet", "origin", f"HEAD:{EXPERIMENT}"], author)
    shell(["git", "reset", "--quiet", "--hard", "origin/main"], author)
    assert unkept(author, cloud=True) == [f"origin {EXPERIMENT}"]
    shell(["git", "fetch", "--quiet", "origin", f"{EXPERIMENT}:{EXPERIMENT}"], author)
    assert unkept(author, cloud=True) == []


def test_a_branch_that_dvc_takes_for_a_tag_of_the_same_name_is_named(author):
    shell(["git", "tag", "kept", "main"], author)
    assert unkept(author) == ["origin/kept"]
    shell(["git", "tag", "keep-kept", "refs/heads/kept"], author)
    assert unkept(author) == []
    shell(["git", "update-ref", "-d", "refs/remotes/origin/kept"], author)
    shell(["git", "tag", "--delete", "keep-kept"], author)
    assert unkept(author) == ["refs/heads/kept"]


def test_a_git_remote_that_does_not_answer_stops_gc_of_the_cloud_alone(author):
    shell(["git", "remote", "add", "gone", "../gone.git"], author)
    shell(["git", "config", "remote.gone.skipFetchAll", "true"], author)
    with pytest.raises(Failure, match=r"others need \(git ls-remote gone: exit code 128\)"):
        unkept(author, cloud=True)
    assert (
        collect(author, "--cloud")
        == "1 error: gc: without git's remotes it is not known what others need (git ls-remote"
        " gone: exit code 128)"
    )
    assert collect(author).startswith("0 ")


def test_a_tag_of_no_commit_which_dvc_cannot_read_is_one_line(author):
    blob = shell(["git", "rev-parse", "HEAD:data.bin.dvc"], author).strip()
    shell(["git", "tag", "of-a-file", blob], author)
    assert (
        collect(author)
        == "1 error: gc: DVC cannot read a branch or tag: unknown Git revision 'of-a-file'; "
        "git update-ref refs/kept/TAG TAG keeps what it is of, then git tag --delete TAG"
    )


@pytest.mark.parametrize("link", [False, True], ids=["cache.dir", "symlink"])
@pytest.mark.parametrize("options", [[], ["--cloud"]], ids=["here", "cloud"])
def test_a_cache_that_others_may_use_is_left_alone(author, link, options):
    cache = author.parent / "cache"
    shutil.move(author / ".dvc/cache", cache)
    if link:
        (author / ".dvc/cache").symlink_to(cache)
    else:
        shell(["dvc", "config", "--quiet", "--local", "cache.dir", str(cache)], author)
    theirs = author.parent / "theirs"
    theirs.write_text("another project's")
    there = object_path(cache, file_md5(theirs))
    there.parent.mkdir(exist_ok=True)
    theirs.rename(there)
    assert (
        collect(author, *options)
        == f"1 error: gc: the cache {cache} is outside this repository, and others who use it would"
        " lose their data; dvc gc --all-branches --all-tags --all-experiments --projects"
        " DIRECTORY… names them: docs/operations.md, Freeing space"
    )
    assert "another project's" in stored(cache)


def test_a_cache_of_two_projects_is_collected_with_the_others_named(author):
    other, cache = author.parent / "other", author.parent / "cache"
    shutil.copytree(author, other, symlinks=True)
    shutil.rmtree(other / ".dvc/cache")
    shutil.move(author / ".dvc/cache", cache)
    for clone in (author, other):
        shell(["dvc", "config", "--quiet", "--local", "cache.dir", str(cache)], clone)
    with_data(other, "theirs")
    shell(["git", "tag", "--delete", "lone-1"], author)
    shell(["git", "tag", "--delete", "lone-1"], other)
    text = (REPOSITORY / "docs/operations.md").read_text()
    [command] = re.findall(r"^dvc gc .* --projects", text, flags=re.MULTILINE)
    assert command in collect(author)
    shell([*command.split(), str(other), "--force"], author)
    assert stored(cache) == {"main", "kept", "theirs"}
    shell(["dvc", "gc", "--all-branches", "--force"], author)
    assert stored(cache) == {"main", "kept"}, "what DVC does where they are not named"


def test_a_cache_elsewhere_in_the_repository_is_its_own(author):
    shell(["dvc", "config", "--quiet", "--local", "cache.dir", "cache"], author)
    shutil.move(author / ".dvc/cache", author / "cache")
    assert stored(author / "cache") == {"main", "kept", "lone"}
    shell(["git", "tag", "--delete", "lone-1"], author)
    assert collect(author).startswith("0 ")
    assert stored(author / "cache") == {"main", "kept"}


@pytest.mark.parametrize(
    ("said", "wanted"),
    [([], " gc"), (["CLOUD="], " gc"), (["CLOUD= "], " gc"), (["CLOUD=1"], " gc --cloud")],
    ids=["nothing", "empty", "blank", "1"],
)
def test_cloud_is_1_or_not_said(tmp_path, said, wanted):
    assert (
        of_make(tmp_path, "--dry-run", *said).stdout.strip()
        == f"python -m pipeline.dvc_support.share{wanted}"
    )


@pytest.mark.parametrize("value", ["0", "no", "yes", "1 0"])
def test_any_other_cloud_is_an_error_and_nothing_is_collected(tmp_path, value):
    done = of_make(tmp_path, f"CLOUD={value}")
    assert done.returncode == 2, "make's own, of a recipe that ends with 1"
    assert done.stderr.startswith(
        "error: gc: CLOUD must be 1 or unset; make gc CLOUD=1 frees the remote as well\n"
    )
    assert "Error 1" in done.stderr
    assert (
        "pipeline.dvc_support.share" not in of_make(tmp_path, "--dry-run", f"CLOUD={value}").stdout
    )


def test_cloud_of_the_environment_was_not_said(tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "CLOUD", "1")
    assert (
        of_make(tmp_path, "--dry-run").stdout.strip() == "python -m pipeline.dvc_support.share gc"
    )


def of_make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Say make gc in an empty folder, where set-up counts as done and there is nothing that a
    mistake could collect.
    """
    command = [
        "make",
        "--file",
        str(REPOSITORY / "Makefile"),
        "--old-file",
        ".venv/.ready",
        "gc",
        *arguments,
    ]
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
    )
