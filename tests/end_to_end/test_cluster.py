"""`make repro CLUSTER=…`: a scheduler, workers and the driver as processes of this machine."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from dask_cluster import (
    Cluster,
    Project,
    cluster_in,
    environment,
    git,
    gone,
    kill,
    wait_for,
)
from repository import REPOSITORY

from pipeline.dvc_support.lock_entries import ENTRY

pytestmark = pytest.mark.slow("starts schedulers, workers and drivers", minutes=3)
STAGES = ["start", "half", "join"]
OUTPUTS = ["made/inside.txt", "made/other.txt", "half_a.txt", "half_a.json", "half_c.txt"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with cluster_in(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def workers(cluster, project):
    """Start workers; they end with the test."""
    cluster.environment["EVENTS"] = str(project.events_folder)
    before = len(cluster.processes)
    yield cluster.worker
    for process in cluster.processes[before:]:
        kill(process)
    del cluster.processes[before:]


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path / "project", environment())


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, bytes]:
    """What plain `dvc repro` leaves: dvc.lock and the outputs."""
    project = Project(tmp_path_factory.mktemp("serial") / "project", environment())
    project.dvc("repro", "--quiet", *STAGES)
    return results(project)


def results(project: Project) -> dict[str, bytes]:
    names = [*OUTPUTS, "half_b.txt", "half_b.json", "half_c.json", "join.txt", "dvc.lock"]
    return {name: (project.root / name).read_bytes() for name in names}


def clones(project: Project, count: int, folder: Path) -> list[Path]:
    project.with_remote(folder / "store")
    found = [folder / f"machine-{number}" for number in range(count)]
    for path in found:
        git(folder, "clone", "--quiet", str(project.root), str(path))
    return found


def test_workers_of_the_same_folder_leave_what_dvc_repro_leaves(cluster, workers, project, serial):
    for _ in range(2):
        workers(project.root)
    project.driven(*STAGES, cluster=cluster.file)
    assert results(project) == serial
    assert "up to date" in project.dvc("status", *STAGES)
    starts = {each["name"]: each for each in project.starts()}
    assert {each["folder"] for each in starts.values()} == {str(project.root)}
    assert {each["DVC_ROOT"] for each in starts.values()} == {str(project.root)}
    assert starts["half_a"]["DVC_STAGE"] == "half@a"
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {each["PIPELINE_THREADS"] for each in starts.values()} == {str(share)}
    assert list((project.root / ".dvc/tmp/cluster").iterdir()) == []


def test_workers_of_clones_leave_what_dvc_repro_leaves(cluster, workers, project, serial, tmp_path):
    """An input that git ignores is nowhere else, and an instance with network stays here too."""
    machines = clones(project, 2, tmp_path)
    for machine in machines:
        workers(machine)
    (project.root / "local.bin").write_text("only here")
    project.hold("half_a")
    with project.drive(*STAGES, "outside", "ignored", cluster=cluster.file) as driver:
        wait_for(lambda: project.starts("half_b"))
        (tmp_path / "hold_half_a").unlink()
        project.ended(driver)
    assert results(project) | {"dvc.lock": b""} == serial | {"dvc.lock": b""}
    # The entries of two instances more are all that differs.
    lock = (project.root / "dvc.lock").read_text()
    assert all(line in lock for line in serial["dvc.lock"].decode().splitlines())
    assert "up to date" in project.dvc("status", *STAGES, "outside", "ignored")
    folders = {each["name"]: each["folder"] for each in project.starts()}
    here = {name for name, folder in folders.items() if folder == str(project.root)}
    assert here == {"outside", "ignored"}
    used = {Path(folder).relative_to(tmp_path).parts[0] for folder in folders.values()}
    assert used == {"project", "machine-0", "machine-1"}
    # A worker's own checkout stays as it is.
    assert git(machines[0], "status", "--porcelain") == ""


def test_what_is_made_here_is_pushed_and_folders_of_plots_are_sent(
    cluster, workers, project, tmp_path
):
    """`outside` runs here. `drawn`, in a clone, needs it, and makes a folder that DVC does not
    cache.
    """
    [machine] = clones(project, 1, tmp_path)
    workers(machine)
    project.driven("page", cluster=cluster.file)
    folders = {each["name"]: Path(each["folder"]) for each in project.starts()}
    clone = folders["page"]
    assert folders == {"outside": project.root, "drawn": clone, "page": clone}
    assert machine in clone.parents
    assert (project.root / "drawn/more/two").read_text() == "two"
    page = (project.root / "page.txt").read_text()
    assert page == "drawn/more drawn/more/two drawn/one"
    assert "up to date" in project.dvc("status", "page")
    # A file that an earlier run has left in the clone's folder is not read again.
    (clone / "drawn/stray").write_text("")
    lock = (project.root / "dvc.lock").read_text()
    (project.root / "dvc.lock").write_text(
        ENTRY.sub(lambda entry: "" if entry[1] == "page" else entry[0], lock)
    )
    (project.root / "page.txt").unlink()
    shutil.rmtree(machine / ".dvc/cache/runs")
    project.driven("page", cluster=cluster.file)
    assert len(project.starts("page")) == 2
    assert (project.root / "page.txt").read_text() == page
    assert (project.root / "dvc.lock").read_text() == lock


def test_a_remote_that_takes_nothing_fails_what_needs_it(cluster, workers, project, tmp_path):
    [machine] = clones(project, 1, tmp_path)
    workers(machine)
    (tmp_path / "store").write_text("no folder")
    said = project.driven("page", cluster=cluster.file, status=1)
    assert "error: drawn: its inputs cannot be pushed: " in said
    assert [each["name"] for each in project.starts()] == ["outside"]


def test_a_killed_worker_is_replaced_by_another_try(cluster, workers, project, serial):
    first = workers(project.root)
    project.hold("start")
    with project.drive(*STAGES, cluster=cluster.file) as driver:
        wait_for(lambda: project.starts("start"))
        workers(project.root)
        stage = project.starts("start")[0]["pid"]
        kill(first)
        wait_for(lambda: gone(stage), seconds=10)
        (project.events_folder / "hold_start").unlink()
        said = project.ended(driver)
    assert "start: its worker on" in said
    assert len(project.starts("start")) == 2
    assert results(project) == serial


def test_ctrl_c_ends_what_runs_on_workers(cluster, workers, project):
    workers(project.root)
    project.hold()
    with project.drive("start", cluster=cluster.file) as driver:
        wait_for(lambda: project.starts("start"))
        driver.send_signal(signal.SIGINT)
        said = project.ended(driver, status=1)
    assert "SIGINT" in said
    assert project.events[-1]["signal"] == signal.SIGINT
    assert not (project.root / "dvc.lock").exists()


def test_a_killed_driver_leaves_nothing_running(cluster, workers, project):
    workers(project.root)
    project.hold()
    with project.drive("start", cluster=cluster.file) as driver:
        wait_for(lambda: project.starts("start"))
        kill(driver)
    wait_for(lambda: gone(project.starts("start")[0]["pid"]), seconds=10)


def test_a_worker_may_join_later(cluster, workers, project):
    with project.drive("start", cluster=cluster.file) as driver:
        workers(project.root)
        project.ended(driver)
    assert (project.root / "made/inside.txt").exists()


def test_a_failed_stage_of_a_clone_shows_its_error(cluster, workers, project, tmp_path):
    (project.root / "stage.py").write_text("import sys\nsys.exit('error: no such seed')\n")
    git(project.root, "commit", "--quiet", "--all", "--message", "fails")
    [machine] = clones(project, 1, tmp_path)
    workers(machine)
    said = project.driven("start", cluster=cluster.file, status=1)
    assert "error: no such seed" in said
    assert not (project.root / "dvc.lock").exists()


def refused(project: Project, cluster: Cluster) -> str:
    said = project.driven("start", cluster=cluster.file, status=1)
    assert project.starts() == []
    lines = [line for line in said.splitlines() if "is refused" in line]
    assert len(lines) == 1, said
    assert "error: cluster: none of its workers can be used, see above" in said
    return lines[0].partition("is refused: ")[2]


def test_a_worker_with_other_libraries_is_refused(cluster, workers, project):
    (project.root / "libraries.yaml").write_text('start: {numpy: "0.1", no-such-library: "1.0"}\n')
    numpy = __import__("numpy").__version__
    workers(project.root)
    assert (
        refused(project, cluster)
        == f"numpy is {numpy}, and should be 0.1; no-such-library is not installed, and should be "
        "1.0"
    )


def test_a_worker_outside_the_repository_is_refused(cluster, workers, project, tmp_path):
    without = {key: value for key, value in cluster.environment.items() if key != "PYTHONPATH"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "environment", without)
        workers(tmp_path)
    why = refused(project, cluster)
    assert "No module named 'pipeline'" in why
    assert "start it as python -m dask worker … in the repository's folder" in why


def test_a_worker_that_all_of_the_network_reaches_is_refused(cluster, workers, project):
    workers(project.root, host=False)
    why = refused(project, cluster)
    assert why.startswith("it listens at tcp://0.0.0.0:")
    assert why.endswith(" without TLS; start it with --host 127.0.0.1")


def test_a_worker_with_other_code_is_refused(cluster, workers, project, tmp_path):
    """As one that was started before the last commit."""
    other = tmp_path / "other"
    for name in ("common", "pipeline"):
        shutil.copytree(REPOSITORY / name, other / name)
    with open(other / "pipeline/driver/keeper.py", "a") as file:
        file.write("# edited\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "environment", {**cluster.environment, "PYTHONPATH": str(other)})
        workers(project.root)
    assert "other code of pipeline/driver" in refused(project, cluster)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("edited", "uncommitted changes (stage.py); commit and push them"),
        ("new", "uncommitted changes (made/inside.txt)"),
        ("unpushed", "is not in "),
        ("no remote", "has no default DVC remote"),
    ],
)
def test_a_clone_that_cannot_have_this_commit_is_refused(
    cluster, workers, project, tmp_path, fault, why
):
    [machine] = clones(project, 1, tmp_path)
    workers(machine)
    if fault == "edited":
        (project.root / "stage.py").write_text("print('edited')\n")
    elif fault == "new":
        (project.root / "dvc.yaml").write_text(
            "stages: {start: {cmd: 'true', deps: [made/inside.txt]}}"
        )
        git(project.root, "add", "--all")
        git(project.root, "commit", "--quiet", "--all", "--message", "a new dependency")
        (project.root / ".gitignore").write_text("")
        (project.root / "made").mkdir()
        (project.root / "made/inside.txt").write_text("new")
    elif fault == "unpushed":
        git(project.root, "commit", "--quiet", "--allow-empty", "--message", "unpushed")
        git(machine, "remote", "remove", "origin")
    else:
        (machine / ".dvc/config").write_text("")
    assert why in refused(project, cluster)


def test_tls_lets_in_who_has_the_certificate_and_nobody_else(project, tmp_path):
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        command = [sys.executable, "-m", "pipeline.driver.certificate", str(folder)]
        subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
        assert (folder / "pipeline-tls.yaml").stat().st_mode & 0o777 == 0o600
    again = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert again.returncode == 1
    assert "exists; move it elsewhere for a new one" in again.stderr
    settings = {"DASK_CONFIG": str(ours), "EVENTS": str(project.events_folder)}
    # Without --host: it listens at all of this machine's addresses.
    with cluster_in(tmp_path / "tls", "--protocol", "tls", **settings) as cluster:
        cluster.worker(project.root, host=False)
        address = cluster.file.read_text().partition('"address": "')[2].partition('"')[0]
        assert address.startswith("tls://")
        said = project.driven("start", cluster=address, status=1)
        assert "Dask is not told which certificates to use" in said
        project.environment["DASK_CONFIG"] = str(others)
        assert "no scheduler answers at tls://" in project.driven(
            "start", cluster=address, status=1
        )
        project.environment["DASK_CONFIG"] = str(ours)
        project.driven("start", cluster=address)
    assert project.events[-1]["ends"]


def test_the_recipe_for_slurm(project, tmp_path):
    """docs/slurm/cluster.sbatch, with a script for srun that starts its tasks on this machine."""
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(
        "#!/bin/sh\n"
        'echo "$*" >>"$(dirname "$0")/arguments"\n'
        "while case $1 in --*) true ;; *) false ;; esac; do shift; done\n"
        '"$@" & one=$!\n"$@" & two=$!\n'
        'trap "kill $one $two" TERM\nwait\nwait\n'
    )
    srun.chmod(0o755)
    (project.root / "Makefile").write_text(
        "repro:\n\tpython -m pipeline.driver start half join --cluster $(CLUSTER)\n"
    )
    (project.root / ".venv").symlink_to(Path(sys.prefix))
    git(project.root, "add", "Makefile")
    certificate = tmp_path / "certificate"
    command = [sys.executable, "-m", "pipeline.driver.certificate", str(certificate)]
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_SUBMIT_DIR": str(project.root),
        "SLOTS": "1",
        "PATH": f"{srun.parent}:{project.environment['PATH']}",
        "DASK_CONFIG": str(certificate),
    }
    done = subprocess.run(
        ["bash", str(REPOSITORY / "docs/slurm/cluster.sbatch")],
        cwd=project.root,
        env={**project.environment, **slurm},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project.root / "join.txt").exists()
    assert "dask worker" in (srun.parent / "arguments").read_text()
    left = [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(project.root)]
    _, alive = psutil.wait_procs(left, timeout=15)
    assert alive == []
