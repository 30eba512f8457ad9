"""Several processes make shares of a stage's pieces (PIPELINE_SHARE, common/share.py), and the
stage that runs afterwards writes the bytes of a stage that has made them all by itself.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpus_project import contents, make_corpus_project
from repository import REPOSITORY
from sealed_project import DVC_YAML, STAGE, error, project, signals  # noqa: F401

pytestmark = pytest.mark.slow("stages of many pieces run whole and in shares", minutes=1)

STAGES = {
    "data/corpus": (["corpus"], ("scatter", "regroup", "gather")),
    "data/tokens/mul_tokens": (["tokenize", "mul_tokens"], ("shards",)),
}
COMPLETE = "def _complete(directory: Path, work: Work) -> None:\n"
# Of each piece that is made: the share that makes it, and its name.
COUNTED = """
    with open({log!r}, "a") as log:
        log.write(f"{{os.environ.get(SHARE)}}: {{work.piece}}\\n")
"""


class Shared:
    """A project whose stages note each piece that they make."""

    def __init__(self, root: Path, log: Path):
        self.root, self.log = root, log
        path = root / "model/runtime/resumable.py"
        text = path.read_text()
        assert COMPLETE in text
        path.write_text(text.replace(COMPLETE, COMPLETE + COUNTED.format(log=str(log))))

    def start(self, stage: list[str], share: str | None = None) -> subprocess.Popen:
        name, *arguments = stage
        return subprocess.Popen(
            [sys.executable, "-m", f"stages.{name}", *arguments],
            cwd=self.root,
            env={**os.environ, **({} if share is None else {"PIPELINE_SHARE": share})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, stage: list[str], *shares: str | None) -> list[str]:
        """Run the stage in several processes at once; return what each has said."""
        processes = [self.start(stage, share) for share in shares]
        said = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(shares), said
        return said

    def made(self) -> dict[str, list[str]]:
        """Return the pieces made since the last call, by share."""
        found: dict[str, list[str]] = {}
        for line in self.log.read_text().splitlines():
            share, piece = line.split(": ")
            found.setdefault(share, []).append(piece)
        self.log.write_text("")
        return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory, ranks_file) -> Shared:
    """The project with both outputs, made by stages that made all pieces by themselves."""
    root = make_corpus_project(tmp_path_factory.mktemp("shared") / "project", ranks_file)
    # Of what is outside the repository the seal leaves a stage the devices.
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else root.parent
    found = Shared(root, folder / f"pieces-{os.getpid()}")
    for stage, _ in STAGES.values():
        found.finish(stage, None)
    yield found
    found.log.unlink()


def is_cut(piece: str) -> bool:
    return re.fullmatch(r"train_\d+_\d+", piece) is not None


@pytest.mark.parametrize("output", STAGES)
def test_the_stage_finds_all_pieces_of_its_shares(shared, output):
    stage, phases = STAGES[output]
    alone = contents(shared.root / output)
    shutil.rmtree(shared.root / output)
    shared.made()
    for phase in phases:
        shares = [f"{phase} {number}/2" for number in range(2)]
        assert shared.finish(stage, *shares) == ["", ""], "a share prints nothing of the result"
        made = shared.made()
        assert sorted(made) == shares
        assert all(len(pieces) == len(set(pieces)) >= 2 for pieces in made.values())
        assert not set(made[shares[0]]) & set(made[shares[1]])
        assert not (shared.root / output).exists()
        assert not list((shared.root / output).parent.glob(".*.partial"))
    [said] = shared.finish(stage, None)
    assert said.startswith(f"{stage[0]}")
    # The shard that the target cuts depends on all before it: train_00003_1234.
    assert [piece for piece in shared.made().get("None", []) if not is_cut(piece)] == []
    assert contents(shared.root / output) == alone
    assert not (shared.root / output).with_name(f".{Path(output).name}.scratch").exists()


def test_a_share_that_is_killed_or_runs_twice_at_once_costs_nothing(shared):
    output, (stage, phases) = "data/corpus", STAGES["data/corpus"]
    alone = contents(shared.root / output)
    shutil.rmtree(shared.root / output)
    moments = random.Random(0)
    killed = 0
    for phase in phases:
        started = time.monotonic()
        shared.finish(stage, f"{phase} 0/2")
        seconds = time.monotonic() - started
        shared.made()
        for _ in range(3):
            with shared.start(stage, f"{phase} 1/2") as first:
                time.sleep(moments.uniform(0.3, 1) * seconds)
                os.killpg(first.pid, signal.SIGKILL)
            killed += first.returncode != 0
        # As where a machine does not answer, and another one takes its place.
        shared.finish(stage, f"{phase} 1/2", f"{phase} 1/2", f"{phase} 0/2")
    assert killed >= 3, "shares ended before they could be killed, so little was shown"
    shared.made()
    shared.finish(stage, None)
    assert shared.made() == {}
    assert contents(shared.root / output) == alone


def test_the_stage_makes_what_a_share_has_not(shared):
    output, (stage, _) = "data/corpus", STAGES["data/corpus"]
    alone = contents(shared.root / output)
    shutil.rmtree(shared.root / output)
    shared.finish(stage, "scatter 0/2")
    [share] = shared.made().values()
    shared.finish(stage, None)
    [rest] = shared.made().values()
    assert not set(share) & set(rest)
    assert contents(shared.root / output) == alone


def test_no_share_goes_on_from_a_phase_that_is_not_done(shared):
    stage, _ = STAGES["data/corpus"]
    shared.finish(stage, "scatter 0/2")
    process = shared.start(stage, "regroup 0/1")
    said, _ = process.communicate()
    assert process.returncode == 1
    assert said.strip().splitlines()[-1] == (
        "error: corpus: scattered_00001 is missing; run the phases scatter, regroup and gather in"
        " this order, each after all shares of the one before"
    )


BODY = """
    from pathlib import Path
    from model.runtime.resumable import piece, scratch_directory
    from model.runtime.worker_pool import in_order
    with scratch_directory(Path("data/fetched")) as scratch:
        list(in_order(len, None, [], phase="first"))
        {last}
"""
FETCH = "    meta: {network: true, resumable: true}"
DEPS = """deps: [common, model/__init__.py, model/runtime, stages/__init__.py, stages/fetch.py]
"""


@pytest.fixture
def small(project) -> Path:
    """A project with a stage of one phase."""
    before = "deps: [common/__init__.py, common/errors.py, common/share.py, "
    before += "stages/__init__.py, stages/fetch.py]\n"
    assert FETCH in DVC_YAML
    assert before in DVC_YAML
    spreads = FETCH.replace("true}", "true, spreads: [first, second]}")
    (project / "dvc.yaml").write_text(DVC_YAML.replace(FETCH, spreads).replace(before, DEPS))
    for name in ("cores", "resumable", "worker_pool"):
        shutil.copy(REPOSITORY / f"model/runtime/{name}.py", project / "model/runtime")
    write_body(project, "pass")
    return project


def write_body(project: Path, last: str) -> None:
    body = BODY.format(last=last).strip()
    (project / "stages/fetch.py").write_text(STAGE.format(wanted="pass", body=body))


def run_share(project: Path, share: str, stage: str = "fetch") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *f"stages.{stage}".split()],
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, "PIPELINE_SHARE": share},
    )


@pytest.mark.parametrize("text", ["", "first", "first 2/2", "first 0/0", "first -1/2", "first 1 2"])
def test_a_share_of_another_form_is_one_line(small, text):
    done = run_share(small, text)
    assert done.stderr == (
        f"error: fetch: PIPELINE_SHARE is {text!r}: set it to PHASE K/N, share K of N counted from"
        " 0, or unset it\n"
    )
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("stage", "spreads"), [("fetch", "has first, second"), ("probe a", "is not there")]
)
def test_a_share_of_what_is_not_spread_is_one_line(small, stage, spreads):
    done = run_share(small, "third 0/2", stage)
    assert done.stderr == (
        f"error: {stage.replace(' ', '@')}: PIPELINE_SHARE names the phase 'third', and meta:"
        f" spreads of dvc.yaml {spreads}; unset it\n"
    )
    assert done.returncode == 1


def test_a_phase_that_the_stage_does_not_have_is_one_line(small):
    done = run_share(small, "second 0/2")
    assert error(done) == (
        "error: seal: fetch has no phase second, which dvc.yaml lists under spreads"
    )
    done = run_share(small, "first 0/2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", [".fetched.partial", "fetched", "another"])
def test_a_share_writes_to_its_scratch_folder_alone(small, name):
    write_body(small, f'Path("data/{name}").mkdir()')
    done = run_share(small, "second 0/2")
    assert error(done) == (
        f"error: seal: fetch changed data/{name}, which dvc.yaml does not list under this stage's"
        " outs"
    )


def test_a_share_takes_no_lock_and_leaves_the_scratch_of_others(small):
    other = small / "data/.fetched.scratch/other"
    other.mkdir(parents=True)
    assert run_share(small, "first 0/2").returncode == 0
    assert other.exists()
    assert not list(small.glob(".dvc/**/fetch"))
    unshared = subprocess.run([sys.executable, "-m", "stages.fetch"], cwd=small, text=True)
    assert unshared.returncode == 0
    assert not other.exists()
    assert list(small.glob(".dvc/**/fetch")), "the file that holds the stage's lock"
