"""Where ClusterPlace runs what, on two workers of this machine: three slots and two GPUs each."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from dask_cluster import Project, cluster_in, environment, gone, kill, wait_for
from dvc.utils.serialize import parse_yaml

from pipeline.driver import cluster as cluster_module
from pipeline.driver import commit as commit_module
from pipeline.driver.cluster import ClusterError, ClusterPlace, checked_address
from pipeline.driver.commit import Commit, NotSendable
from pipeline.driver.local import LocalPlace
from pipeline.driver.place import Job, Machine, Outcome
from pipeline.driver.worker import KEEPER
from pipeline.dvc_support.lock_entries import ENTRY

pytestmark = pytest.mark.slow("starts a scheduler and workers", minutes=1)
MACHINE = Machine(1, 1)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("place") / "project", environment())


@pytest.fixture(scope="module")
def cluster(project, tmp_path_factory):
    events = {"EVENTS": str(project.events_folder)}
    with cluster_in(tmp_path_factory.mktemp("cluster"), **events) as started:
        for memory in (60, 40):
            started.worker(project.root, "--nthreads", "3", "--resources", f"GPU=2 MEMORY={memory}")
        yield started


@pytest.fixture
def place(cluster, project, monkeypatch):
    monkeypatch.setattr(cluster_module, "_DIED_AGO", 0.1)
    monkeypatch.chdir(project.root)
    for path in project.events_folder.glob("hold*"):
        path.unlink()
    (project.events_folder / "events").unlink(missing_ok=True)
    local = LocalPlace(project.root, (), MACHINE)
    made = ClusterPlace(project.root, str(cluster.file), local)
    wait_for(lambda: made.finished(0) == [] and made.machine.slots >= 6)
    yield made
    made.close()


def job(name: str, arguments: str, gpus: int = 0) -> Job:
    devices = tuple(map(str, range(gpus)))
    return Job(name, (f"python stage.py {arguments}",), 1, devices)


def outcomes(place: ClusterPlace, count: int) -> dict[str, Outcome]:
    found: list[Outcome] = []
    until = time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < until, found
        found += place.finished(0.1)
    return {outcome.name: outcome for outcome in found}


def test_a_job_has_its_gpus_to_itself(place, project):
    """Four of one GPU fill both workers; one of two waits until a worker has both free."""
    project.hold()
    names = ["half@a", "half@b", "half@c", "join"]
    for name in names:
        place.start(job(name, name.replace("@", " "), gpus=1))
    wait_for(lambda: place.finished(0) == [] and len(project.starts()) == 4)
    place.start(job("ignored", "ignored", gpus=2))
    assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in project.starts()) == ["0", "0", "1", "1"]
    assert place.progress()["ignored"].label == "waits for a worker"
    assert len(project.starts()) == 4
    (project.events_folder / "hold").unlink()
    outcomes(place, 5)
    assert project.starts("ignored")[0]["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_job_for_which_no_worker_is_large_enough_says_so(place, project):
    place.start(job("join", "join", gpus=3))
    assert place.finished(0.3) == []
    assert place.progress()["join"].label.startswith("waits: no worker has 3 GPU")
    assert project.starts() == []


def test_a_stage_names_other_resources_in_its_meta(place, project):
    """Of the two workers one has 60 of MEMORY, so two jobs of 50 run one after the other."""
    project.hold()
    place.start(job("many", "many"))
    place.start(job("many", "many"))
    wait_for(lambda: place.finished(0) == [] and len(project.starts()) == 1)
    assert place.finished(0.5) == []
    assert len(project.starts()) == 1
    (project.events_folder / "hold").unlink()
    outcomes(place, 1)
    wait_for(lambda: place.finished(0) is not None and len(project.starts()) == 2)


def test_a_stage_is_spread_phase_by_phase_and_then_run(place, project):
    place.start(job("spread", "spread"))
    [outcome] = outcomes(place, 1).values()
    assert outcome.status == 0
    shares = [each["PIPELINE_SHARE"] for each in project.starts("spread")]
    assert sorted(shares[:2]) == ["scatter 0/2", "scatter 1/2"]
    assert sorted(shares[2:4]) == ["gather 0/2", "gather 1/2"]
    assert shares[4:] == [None]


def test_a_share_that_fails_fails_the_stage(place, project):
    place.start(job("spread", "spread; exit 3"))
    [outcome] = outcomes(place, 1).values()
    assert outcome.status == 3
    shares = {each["PIPELINE_SHARE"] for each in project.starts("spread")}
    assert shares <= {"scatter 0/2", "scatter 1/2"}


def test_a_stage_with_network_runs_on_this_machine(place, project):
    place.start(Job("outside", ("echo $PPID",), 1))
    [outcome] = outcomes(place, 1).values()
    assert outcome.log.strip() not in {str(each["parent"]) for each in project.starts()}
    assert outcome.log.strip() == str(os.getpid())


def test_progress_and_log_come_from_the_worker(place, project):
    bars = (
        "import time, tqdm\nprint('begins')\n"
        "for _ in tqdm.tqdm(range(30), desc='steps'): time.sleep(0.1)\n"
    )
    place.start(Job("join", (f'python -c "{bars}"',), 1))
    wait_for(
        lambda: place.finished(0) == [] and place.progress()["join"].label == "steps", seconds=20
    )
    shown = place.progress()["join"]
    assert shown.total == 30
    assert " on " in f" {shown.said}"
    [outcome] = outcomes(place, 1).values()
    assert outcome == Outcome("join", 0, "begins\n")


def test_commands_of_a_job_run_in_turn_in_its_folder_until_one_fails(place, project):
    (project.root / "sub").mkdir(exist_ok=True)
    place.start(Job("join", ("pwd", "exit 4", "echo never"), 1, (), "sub"))
    [outcome] = outcomes(place, 1).values()
    assert outcome == Outcome("join", 4, f"{project.root}/sub\n")


def test_a_signal_reaches_the_stage_and_not_the_shell_alone(place, project):
    project.hold()
    place.start(job("join", "join"))
    place.start(job("half@a", "half a", gpus=2))
    place.start(job("half@b", "half b", gpus=3))  # waits for ever
    wait_for(lambda: place.finished(0) == [] and len(project.starts()) == 2)
    place.stop(2)
    found = outcomes(place, 3)
    assert {each["signal"] for each in project.events if "signal" in each} == {2}
    assert found["half@b"].status == -2
    assert all(outcome.status for outcome in found.values())


def test_a_job_whose_workers_die_again_and_again_fails(place, project, cluster):
    """Each try kills the worker that it runs on; each worker is followed by another."""
    before = len(cluster.processes)
    workers = [cluster.worker(project.root, "--resources", "DOOMED=1") for _ in range(3)]
    wait_for(lambda: place.finished(0) == [] and place.machine.slots >= 9)
    meta = place._commit.meta("join")
    meta["resources"] = {"DOOMED": 1}
    # The shell becomes this command, whose parent is the keeper, whose parent is the worker.
    kill_worker = "import os, psutil; psutil.Process(os.getppid()).parent().kill()"
    place.start(Job("join", (f'exec python -c "{kill_worker}; import time; time.sleep(60)"',), 1))
    try:
        [outcome] = outcomes(place, 1).values()
    finally:
        del meta["resources"]
        for process in workers:
            kill(process)
        del cluster.processes[before:]
    assert outcome.status == 1
    assert outcome.log.startswith("error: join: 3 workers died while it ran, on ")
    assert all(gone(process.pid) for process in workers)


def test_a_worker_that_does_not_answer_holds_up_no_other(project, cluster, capfd, monkeypatch):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(cluster_module, "_PATIENCE", 1.0)
    before = len(cluster.processes)
    suspended = cluster.worker(project.root, "--name", "suspended")
    log = cluster.log
    wait_for(lambda: "name: suspended" in log())
    suspended.send_signal(signal.SIGSTOP)
    other = ClusterPlace(project.root, str(cluster.file), LocalPlace(project.root, (), MACHINE))
    try:
        other.start(Job("join", ("echo done",), 1))
        [outcome] = outcomes(other, 1).values()
    finally:
        other.close()
        kill(suspended)
        del cluster.processes[before:]
    assert outcome == Outcome("join", 0, "done\n")
    said = capfd.readouterr().err
    assert "cluster: worker suspended (tcp://127.0.0.1:" in said
    assert "is refused: TimeoutError: no answer within 1 s" in said


def test_a_scheduler_that_ends_fails_what_runs(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project.root)
    (project.events_folder / "events").unlink(missing_ok=True)
    project.hold()
    with cluster_in(tmp_path / "other", EVENTS=str(project.events_folder)) as other:
        worker = other.worker(project.root)
        local = LocalPlace(project.root, (), MACHINE)
        place = ClusterPlace(project.root, str(other.file), local)
        place.start(job("join", "join"))
        wait_for(lambda: place.finished(0) == [] and project.starts())
        other.processes[0].kill()
        [outcome] = outcomes(place, 1).values()
        place.close()
        stage = project.starts()[0]["pid"]
        wait_for(lambda: gone(stage), seconds=60)
        assert worker.wait(60) is not None
    assert outcome.status == 1
    assert "is gone" in outcome.log


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://10.0.0.1:8786", "is another machine's and not inside TLS"),
        ("node-7:8786", "is another machine's and not inside TLS"),
        ("tcp://0.0.0.0:8786", "is another machine's and not inside TLS"),
        ("tls://10.0.0.1:8786", "Dask is not told which certificates to use"),
        ("ws://127.0.0.1:8786", "a scheduler's address is tls://HOST:PORT"),
        ("ucx://10.0.0.1:8786", "a scheduler's address is tls://HOST:PORT"),
    ],
)
def test_an_address_that_others_could_answer_is_refused(address, why):
    with pytest.raises(ClusterError, match=why):
        checked_address(address)


def test_an_address_may_stand_in_a_schedulers_file(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.1)
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": "tcp://127.0.0.1:8786"}))
    assert checked_address(str(file)) == "tcp://127.0.0.1:8786"
    assert checked_address("localhost:8786") == "tcp://localhost:8786"
    file.write_text(json.dumps({"address": "tcp://10.0.0.1:8786"}))
    with pytest.raises(ClusterError, match="not inside TLS"):
        checked_address(str(file))
    file.write_text("{}")
    with pytest.raises(ClusterError, match="is no scheduler's file"):
        checked_address(str(file))
    with pytest.raises(ClusterError, match="is no scheduler's file"):
        checked_address("nowhere/scheduler.json")


def test_a_scheduler_that_all_of_the_network_reaches_is_refused(project, tmp_path):
    with cluster_in(tmp_path / "open", "--host", "0.0.0.0") as other:
        port = json.loads(other.file.read_text())["address"].rpartition(":")[2]
        local = LocalPlace(project.root, (), MACHINE)
        with pytest.raises(ClusterError, match=r"start it with --host 127\.0\.0\.1, or with TLS"):
            ClusterPlace(project.root, f"tcp://127.0.0.1:{port}", local)


def test_what_a_worker_is_sent_of_an_instances_inputs(tmp_path, monkeypatch):
    project = Project(tmp_path / "project", environment())
    monkeypatch.chdir(project.root)
    project.dvc("repro", "--quiet", "start", "half")
    commit = Commit(project.root)
    assert commit.inputs("half@a")["request"]["pull"] == ["made/inside.txt"]
    sent = commit.inputs("join")
    assert sent["request"]["pull"] == ["half_a.txt", "half_b.txt", "half_c.txt"]
    assert parse_yaml(sent["request"]["entries"], "")["stages"].keys() == {
        "half@a",
        "half@b",
        "half@c",
    }
    assert sent["files"] == {"half_a.json": (project.root / "half_a.json").read_bytes()}
    assert commit.has_inputs("join")
    assert not commit.has_inputs("ignored")


def test_files_too_large_to_send_keep_an_instance_here(tmp_path, monkeypatch):
    project = Project(tmp_path / "project", environment())
    monkeypatch.chdir(project.root)
    (project.root / "half_a.json").write_bytes(b"12345")
    commit = Commit(project.root)
    assert commit.has_inputs("join")
    monkeypatch.setattr(commit_module, "LARGEST", 4)
    assert not commit.has_inputs("join")


def test_a_folder_without_git_is_no_commit(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True
    )
    with pytest.raises(NotSendable, match="no git repository with a commit"):
        Commit(tmp_path).sendable()


@pytest.fixture
def received(tmp_path):
    """A project that has run, its results pushed and its copies gone; and the entry of a stage."""
    project = Project(tmp_path / "project", environment())
    project.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    project.dvc("repro", "--quiet", "start", "half@a")
    project.dvc("push", "--quiet")
    return project


def receive(project: Project, name: str, change=lambda text: text) -> subprocess.CompletedProcess:
    lock = (project.root / "dvc.lock").read_text()
    block = next(match[0] for match in ENTRY.finditer(lock) if match[1] == name)
    entry = "\n".join(line[4:] for line in block.splitlines()[1:]) + "\n"
    folder = project.root / ".dvc/tmp/cluster/received"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"name": name, "entry": change(entry)}))
    command = [sys.executable, "-m", "pipeline.driver.elsewhere", "receive", str(folder)]
    return subprocess.run(
        command, cwd=project.root, env=project.environment, capture_output=True, text=True
    )


def test_outputs_come_by_the_remote_and_are_held_to_the_entry(received):
    subprocess.run(["rm", "-r", ".dvc/cache", "made"], cwd=received.root, check=True)
    done = receive(received, "start")
    assert done.returncode == 0, done.stderr
    assert (received.root / "made/inside.txt").read_text() == "of 1\n"


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        # A file that DVC does not cache, and that came with other bytes.
        ("half@a", lambda root: (root / "half_a.json").write_text("{}"), "half_a.json: the worker"),
        # What the worker read is not what is here.
        ("start", lambda root: (root / "seed.txt").write_text("2\n"), "seed.txt differs here from"),
    ],
)
def test_what_is_not_as_the_entry_says_is_refused(received, name, change, why):
    change(received.root)
    done = receive(received, name)
    assert done.returncode == 1
    assert why in done.stderr


def test_a_damaged_object_of_the_remote_is_refused(received, tmp_path):
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file() and path.read_bytes() == b"of 1\n":
            path.chmod(0o644)
            path.write_bytes(b"of 2\n")
    subprocess.run(["rm", "-r", ".dvc/cache", "made"], cwd=received.root, check=True)
    done = receive(received, "start")
    assert done.returncode == 1
    assert "made: the worker recorded" in done.stderr


def test_a_file_that_is_no_output_is_not_written(tmp_path, monkeypatch):
    project = Project(tmp_path / "project", environment())
    monkeypatch.chdir(project.root)
    commit = Commit(project.root)
    result = {"entry": "", "files": {"stage.py": b"", "half_a.json": b""}}
    outcome = commit_module.fetch_outputs(project.root, commit, Outcome("half@a", 0, ""), result)
    assert outcome.status == 1
    assert "the worker sent stage.py, which is not among its outs" in outcome.log
    assert (project.root / "stage.py").read_text() != ""
    for path in ("drawn/../stage.py", "drawn_too", "/drawn/one"):
        result = {"entry": "", "files": {path: b""}}
        outcome = commit_module.fetch_outputs(project.root, commit, Outcome("drawn", 0, ""), result)
        assert f"the worker sent {path}, which is not among its outs" in outcome.log


def test_the_keeper_ends_its_command_when_its_starter_dies(tmp_path):
    """Also a command that ignores SIGTERM, with what it has left behind."""
    command = f"trap '' TERM; sleep 100 & echo $! >{tmp_path}/pid; wait; sleep 100"
    starter = (
        "import socket, subprocess, sys, time\n"
        "here, there = socket.socketpair()\n"
        "subprocess.Popen(sys.argv[1:], stdin=there.fileno())\n"
        "time.sleep(100)\n"
    )
    keeper = [sys.executable, "-I", "-S", str(KEEPER), "sh", "-c", command]
    started = subprocess.Popen([sys.executable, "-c", starter, *keeper])
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    kill(started)
    wait_for(lambda: gone(int((tmp_path / "pid").read_text())), seconds=15)
