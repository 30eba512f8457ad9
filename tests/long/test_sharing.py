"""Get results through a remote without running a stage; stop at a damaged remote or cache.

The commands are those of docs/operations.md.
"""

import re
import shutil
import socket
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from conditions import named, set_conditions
from micro_graph import ENVIRONMENT, edit, micro_clone, outputs, repro, shell
from repository import REPOSITORY
from s3_server import BUCKET, CREDENTIALS, require_s3, s3_server

from common.errors import PipelineError
from common.files import verified
from pipeline.check import check
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.library_versions import locked_versions
from pipeline.declared.lockfile import Graph, read_lock
from pipeline.dvc_support.objects import object_path
from pipeline.dvc_support.share import unkept
from tools.audit import pins

pytestmark = pytest.mark.slow("whole micro graphs go through remotes", minutes=5)

RUN = "mul_tokens/seed_1"
WEIGHTS = f"checkpoints/{RUN}/step_200/model.safetensors"
GSM8K = ["dvc", "repro", "--single-item", "gsm8k@mul_tokens-1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The micro graph of one condition, regenerated, committed and pushed to the folder `remote`
    beside it.
    """
    author = tmp_path_factory.mktemp("sharing") / "author"
    micro_clone(author)
    set_conditions(author / "params.yaml", named("mul_tokens"))
    identify(author)
    assert "curves" in repro(author)
    shell(["dvc", "remote", "add", "--default", "storage", "../remote"], author)
    commit(author, "results")
    shell(["make", "push"], author)
    return author


@pytest.fixture
def author(made, tmp_path) -> Path:
    """The author's repository for one test: a copy, and a copy of the remote beside it."""
    for name in ("author", "remote"):
        shutil.copytree(made.parent / name, tmp_path / name, symlinks=True)
    return tmp_path / "author"


@pytest.fixture
def cloud(monkeypatch, tmp_path):
    """The address of an S3 server, for whose credentials, and nobody's own, the environment is
    set.
    """
    require_s3()
    (tmp_path / "none").touch()
    files = dict.fromkeys(
        ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(tmp_path / "none")
    )
    for name, value in {**CREDENTIALS, **files}.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    with s3_server() as address:
        yield address


def identify(clone: Path) -> None:
    for name in ("user.name", "user.email"):
        shell(["git", "config", name, "t@example.org"], clone)


def commit(clone: Path, message: str) -> None:
    shell(["git", "add", "--all"], clone)
    shell(["git", "commit", "--quiet", "--message", message], clone)


def colleague_of(author: Path, name: str = "colleague") -> Path:
    """Clone the author's repository, on a machine where set-up is done."""
    clone = author.parent / name
    shell(["git", "clone", "--quiet", str(author), str(clone)], author)
    identify(clone)
    (clone / ".venv").symlink_to(sys.prefix)
    for locked in ("requirements.txt", "requirements-cuda.txt", "requirements-data.txt"):
        shutil.copystat(REPOSITORY / locked, clone / locked)
    return clone


def is_whole(clone: Path, original: Path) -> None:
    """Nothing is to be run, nothing is different, to DVC, to git, to `make check` and byte by
    byte.
    """
    said = shell(["dvc", "repro"], clone)
    assert "Running stage" not in said
    assert "cached - skipping run" not in said, "it was all there before"
    assert "up to date" in shell(["dvc", "status"], clone)
    assert check(WorkingTree(clone)) == []
    assert shell(["git", "status", "--short"], clone) == ""
    assert outputs(clone) == outputs(original)
    assert (clone / "plots/report.html").read_bytes() == (
        original / "plots/report.html"
    ).read_bytes()


def stored(root: Path, clone: Path, path: str) -> Path:
    """Return where the cache or remote `root` has the file `path` of an output."""
    return object_path(root, shell(["md5sum", path], clone).split()[0])


def listing_of_checkpoints(clone: Path) -> str:
    return read_lock(WorkingTree(clone))["pretrain@mul_tokens-1"].outs[f"checkpoints/{RUN}"]


def damage(path: Path) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    path.chmod(mode)


def test_a_colleague_gets_every_number_from_a_folder_and_runs_nothing(author):
    colleague = colleague_of(author)
    shell(["make", "pull"], colleague)
    is_whole(colleague, author)
    assert list((colleague / ".dvc/cache/runs").rglob("*"))


def test_a_colleague_gets_every_number_from_s3_and_runs_nothing(author, cloud):
    shell(["dvc", "remote", "add", "--default", "bucket", f"s3://{BUCKET}/gpt2"], author)
    shell(["git", "commit", "--quiet", "--all", "--message", "a bucket"], author)
    colleague = colleague_of(author)
    for clone, command in ((author, "push"), (colleague, "pull")):
        shell(["dvc", "remote", "modify", "--local", "bucket", "endpointurl", cloud], clone)
        shell(["make", command], clone)
    shutil.rmtree(author.parent / "remote")
    is_whole(colleague, author)
    assert list((colleague / ".dvc/cache/runs").rglob("*"))


def test_a_colleague_restores_what_was_freed_and_what_was_tried_without_a_run(author):
    """Their cache has no metric from the remote, and without one DVC restores no stage: make pull
    puts them there.
    """
    colleague = colleague_of(author)
    shell(["make", "pull"], colleague)
    shell(["make", "clean-artifacts"], colleague)
    assert "Running stage" not in shell(["dvc", "repro"], colleague)
    assert outputs(colleague) == outputs(author)
    metric = f"metrics/{RUN}/gsm8k.json"
    for prepare, runs in (
        (["rm", "-f", str(stored(Path(".dvc/cache"), colleague, metric))], True),
        (["true"], False),
    ):
        shell(prepare, colleague)
        shutil.rmtree(colleague / f"scores/{RUN}/gsm8k")
        assert ("Running stage" in shell(GSM8K, colleague)) == runs
    shell(["rm", "-f", str(stored(Path(".dvc/cache"), colleague, metric))], colleague)
    (colleague / metric).write_text("{}")
    shell([sys.executable, "-m", "pipeline.dvc_support.share", "seed"], colleague)
    assert not list((colleague / ".dvc/cache").rglob("99914b932bd37a50b983c5e7c90ae93b"[2:])), (
        "no other bytes are put there"
    )
    shell(["git", "restore", metric], colleague)
    shell([sys.executable, "-m", "pipeline.dvc_support.share", "seed"], colleague)
    assert (
        stored(colleague / ".dvc/cache", colleague, metric).read_bytes()
        == (colleague / metric).read_bytes()
    )


@pytest.mark.parametrize("command", ["push", "pull", "gc CLOUD=1"])
def test_without_a_remote_one_line_says_how_to_add_one(author, command):
    shell(["dvc", "remote", "remove", "storage"], author)
    said = shell(["make", *command.split()], author, check=False).splitlines()
    wanted = (
        "no remote is configured; dvc remote add -d storage URL, where URL is a folder or"
        " s3://BUCKET/PATH"
    )
    assert said[0] == f"error: {command.split()[0]}: {wanted}"
    assert len(said) == 2
    assert "Error 1" in said[1]


def test_a_remote_that_does_not_answer_is_named(author, cloud):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    shell(["dvc", "remote", "add", "--default", "bucket", f"s3://{BUCKET}/gpt2"], author)
    shell(["dvc", "remote", "modify", "--local", "bucket", "endpointurl", closed], author)
    said = shell(["make", "push"], author, check=False)
    assert f'Could not connect to the endpoint URL: "{closed}' in said
    assert "error: push: remote bucket does not answer (dvc status" in said
    assert "error: pull: not all came from remote bucket; docs/operations.md" in shell(
        ["make", "pull"], author, check=False
    )


def test_a_damaged_object_is_not_pushed_and_the_output_mends_it(author):
    remote = author.parent / "remote"
    shutil.rmtree(remote)
    there = stored(Path(".dvc/cache"), author, WEIGHTS)
    damage(author / there)
    said = shell(["make", "push"], author, check=False)
    assert f"{WEIGHTS}: {there} is damaged; delete it, then dvc commit checkpoints/{RUN} " in said
    assert "error: push: 1 file not as dvc.lock records; nothing was pushed" in said
    assert not remote.exists()
    assert re.search(r"\d+ files pushed", shell(["dvc", "push"], author)), (
        "which DVC would have done"
    )
    shutil.rmtree(remote)
    (author / there).unlink()
    assert f"{WEIGHTS}: {there} is missing; " in shell(["make", "verify"], author, check=False)
    shell(["dvc", "commit", f"checkpoints/{RUN}"], author)
    shell(["make", "push"], author)
    assert stored(remote, author, WEIGHTS).read_bytes() == (author / WEIGHTS).read_bytes()


def test_a_damaged_listing_is_not_pushed(author):
    there = object_path(Path(".dvc/cache"), listing_of_checkpoints(author))
    damage(author / there)
    assert f"checkpoints/{RUN}: {there} is damaged; " in shell(
        ["make", "push"], author, check=False
    )


def test_what_the_remote_has_damaged_is_named_and_comes_back_when_the_remote_is_mended(author):
    remote, colleague = author.parent / "remote", colleague_of(author)
    damage(stored(remote, author, WEIGHTS))
    here = stored(Path(".dvc/cache"), author, WEIGHTS)
    wanted = f"{WEIGHTS}: not the bytes that dvc.lock records; delete it and {here}, then make pull"
    said = shell(["make", "pull"], colleague, check=False)
    assert wanted in said
    assert "error: pull: 1 file not as dvc.lock records; " in said
    assert "up to date" in shell(["dvc", "status"], colleague), "as DVC sees it"
    with pytest.raises(
        PipelineError, match=r"model\.safetensors: missing or altered since it was written"
    ):
        verified(colleague / WEIGHTS)  # as its readers do
    stored(remote, author, WEIGHTS).unlink()
    shell(["make", "push"], author)
    assert not stored(remote, author, WEIGHTS).exists(), (
        "DVC remembers what is there as long as the listing is"
    )
    object_path(remote, listing_of_checkpoints(author)).unlink()
    shell(["make", "push"], author)
    assert wanted in shell(["make", "pull"], colleague, check=False), (
        "what is in the cache is not fetched again"
    )
    for path in (WEIGHTS, here):
        (colleague / path).unlink()
    shell(["make", "pull"], colleague)
    assert outputs(colleague) == outputs(author)


def test_a_remote_that_is_to_be_verified_brings_nothing_damaged(author):
    damage(stored(author.parent / "remote", author, WEIGHTS))
    colleague = colleague_of(author)
    shell(["dvc", "remote", "modify", "--local", "storage", "verify", "true"], colleague)
    said = shell(["make", "pull"], colleague, check=False)
    assert f"Checkout failed for following targets:\ncheckpoints/{RUN}\n" in said
    assert "error: pull: not all came from remote storage" in said
    assert not (colleague / stored(Path(".dvc/cache"), author, WEIGHTS)).exists()


def test_an_output_is_no_link_into_the_cache_and_where_it_is_made_one_damage_is_found(author):
    config = (author / ".dvc/config").read_text()
    assert re.search(r'\[cache\]\n +type = "reflink,copy"\n', config)
    there = author / stored(Path(".dvc/cache"), author, WEIGHTS)
    before = there.read_bytes()
    damage(author / WEIGHTS)
    assert there.read_bytes() == before
    assert f"{WEIGHTS}: not the bytes that dvc.lock records" in shell(
        ["make", "verify"], author, check=False
    )
    (author / WEIGHTS).unlink()
    shell(["dvc", "checkout"], author)
    shell(["make", "verify"], author)
    shell(["dvc", "config", "--local", "cache.type", "hardlink"], author)
    shell(["dvc", "checkout", "--relink"], author)
    assert (author / WEIGHTS).samefile(there)
    damage(author / WEIGHTS)
    assert there.read_bytes() != before, "one file under two names"
    shell(["dvc", "checkout", "--force"], author)
    assert (author / WEIGHTS).read_bytes() != before, "DVC checks the damaged bytes out"
    assert f"{there.relative_to(author)} is damaged" in shell(["make", "push"], author, check=False)


# Edits that rerun little: what was answered is written otherwise, with all that follows; and the
# report alone.
ANSWERS = ("stages/gsm8k.py", '"question": of.question,', '"question": of.question + " ",')
REMARK = ("model/post_training/answer_reading.py", "_LONGEST_NUMBER = 30", "_LONGEST_NUMBER = 31")


def branch_with(
    clone: Path, name: str, path: str, old: str, new: str
) -> tuple[set[str], dict[str, bytes]]:
    """Commit and push an edit of main with its results; return the hashes that dvc.lock records
    then, and the outputs.
    """
    shell(["git", "switch", "--quiet", "--create", name, "main"], clone)
    edit(clone / path, old, new)
    shell(["dvc", "repro"], clone)
    commit(clone, name)
    shell(["make", "push"], clone)
    found = needed(clone), outputs(clone)
    shell(["git", "switch", "--quiet", "main"], clone)
    shell(["dvc", "checkout"], clone)
    return found


def needed(clone: Path) -> set[str]:
    graph = Graph(WorkingTree(clone))
    return {
        graph.lock[name].outs[out]
        for name, instance in graph.instances.items()
        for out in instance.outs
    }


def objects(root: Path) -> set[str]:
    return {
        path.parent.name + path.name for path in (root / "files/md5").rglob("*") if path.is_file()
    }


def runs(root: Path) -> set[str]:
    return {path.name for path in (root / "runs").rglob("*") if path.is_file()}


def test_gc_keeps_what_named_branches_need_here_and_on_the_remote(author):
    remote, cache, main = author.parent / "remote", author / ".dvc/cache", needed(author)
    kept, kept_outputs = branch_with(author, "kept", *ANSWERS)
    abandoned, _ = branch_with(author, "abandoned", *REMARK)
    assert any(md5.endswith(".dir") for md5 in kept - main), "a directory of its own"
    [page] = abandoned - main
    shell(["git", "branch", "--delete", "--force", "abandoned"], author)
    recorded = runs(remote)
    assert {page, *kept, *main} <= objects(remote) & objects(cache)
    shell(["bash", "-c", "echo n | make gc CLOUD=1"], author, check=False)
    assert page in objects(cache)
    shell(["bash", "-c", "echo y | make gc CLOUD=1"], author)
    for root in (remote, cache):
        assert page not in objects(root)
        assert kept | main <= objects(root)
        assert runs(root) == recorded, "records of runs stay, whatever became of their outputs"
    shutil.rmtree(author / f"scores/{RUN}/gsm8k")
    assert "is cached - skipping run" in shell(GSM8K, author), "nor are metrics missed"
    shell(["git", "switch", "--quiet", "kept"], author)
    shell(["dvc", "checkout"], author)
    assert outputs(author) == outputs(colleague_who_pulls(author)) == kept_outputs


def colleague_who_pulls(author: Path) -> Path:
    colleague = colleague_of(author)
    shell(["make", "pull"], colleague)
    return colleague


def test_gc_stops_where_a_branch_of_others_would_lose_its_data(author):
    remote, main = author.parent / "remote", needed(author)
    kept, _ = branch_with(author, "kept", *REMARK)
    assert kept - main
    colleague = colleague_who_pulls(author)
    said = shell(["bash", "-c", "echo y | make gc CLOUD=1"], colleague, check=False)
    assert (
        "error: gc: DVC keeps what local branches and tags need, and none is at origin/kept; git"
        " tag keep-origin-kept origin/kept" in said
    )
    assert kept <= objects(remote)
    for reference in (
        ["branch", "kept", "main"],
        ["tag", "--annotate", "--message", "kept", "v1", "origin/kept"],
    ):
        assert unkept(colleague) == ["origin/kept"]
        shell(["git", *reference], colleague)
    assert unkept(colleague) == []
    shell(["git", "tag", "--delete", "v1"], colleague)
    shell(["dvc", "gc", "--all-branches", "--cloud", "--force"], colleague)
    assert main <= objects(remote)
    assert not kept <= objects(remote), "what DVC does"


def test_the_locks_for_s3_leave_requirements_txt_as_it_is():
    ours = locked_versions(WorkingTree(REPOSITORY))
    for name in ("requirements-s3.txt", "requirements-s3-test.txt"):
        pinned = pins(REPOSITORY / name)
        assert pinned
        for library, version in pinned.items():
            assert library not in ours
            if find_spec("dvc_s3") and (name == "requirements-s3.txt" or find_spec("moto")):
                assert metadata.version(library) == version, f"{name}: make s3-test"


def test_the_s3_test_is_not_skipped_where_it_is_required(monkeypatch):
    monkeypatch.setattr("s3_server.find_spec", lambda name: None)
    monkeypatch.delenv("REQUIRE_S3", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make s3-test"):
        require_s3()
    monkeypatch.setenv("REQUIRE_S3", "1")
    with pytest.raises(pytest.fail.Exception, match="make s3-test"):
        require_s3()
