"""`make prune` and the refusal that names it, on a graph in small: what goes, what stays, and what
is said in which words.
"""

import contextlib
import fcntl
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

from common.files import CHECKSUMS, sha256_file
from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.declared.timings import with_timings
from pipeline.dvc_support.record import cut_lock
from pipeline.leftover.prune import leftovers, remove, remove_empty, running
from pipeline.leftover.withdrawn import refusal, templates
from pipeline.seal.sealed_stage import all_instances

pytestmark = pytest.mark.slow("dvc runs a small graph before and after", minutes=0.7)

ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(REPOSITORY),
}
RUN = "${item.condition}/seed_${item.seed}"
GRAPH = f"""\
stages:
  fetch:
    matrix: {{input: [text]}}
    cmd: mkdir -p data/raw/${{item.input}} && echo 1 > data/raw/${{item.input}}/x
    params: [steps]
    outs: ["data/raw/${{item.input}}"]
  tokenize:
    matrix: {{condition: "${{conditions}}"}}
    cmd: mkdir -p data/tokens/${{item.condition}} && echo ${{item.condition}} > data/tokens/${{item.condition}}/shard
    params: [steps]
    outs: ["data/tokens/${{item.condition}}"]
  pretrain:
    matrix: {{condition: "${{conditions}}", seed: "${{seeds}}"}}
    cmd: mkdir -p checkpoints/{RUN} metrics/{RUN} && echo {RUN} | tee checkpoints/{RUN}/model > metrics/{RUN}/pretrain.json
    params: [steps]
    outs: ["checkpoints/{RUN}"]
    metrics: [{{"metrics/{RUN}/pretrain.json": {{cache: false}}}}]
  evaluate:
    matrix: {{condition: "${{conditions}}", seed: "${{seeds}}", step: "${{steps}}"}}
    cmd: mkdir -p scores/{RUN}/step_${{item.step}} && echo {RUN} ${{item.step}} > scores/{RUN}/step_${{item.step}}/items
    params: [steps]
    outs: ["scores/{RUN}/step_${{item.step}}"]
  compare:
    cmd: mkdir -p plots && cat scores/*/*/*/items > plots/results.md
    deps: [scores, metrics]
    outs: [{{"plots/results.md": {{cache: false}}}}]
"""  # noqa: E501
PARAMS = "conditions: [one, two]\nseeds: [1, 2]\nsteps: [5, 9]\n"
ROOTS = ("checkpoints", "data", "metrics", "plots", "scores")


def shell(command: list[str], root: Path, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=root,
        env={**ENVIRONMENT, **environment},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


def prune(root: Path, check: bool = True, **environment: str) -> str:
    return shell([sys.executable, "-m", "pipeline.leftover.prune"], root, check, **environment)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The graph after `dvc repro`, committed."""
    root = tmp_path_factory.mktemp("prune") / "made"
    root.mkdir()
    shell(["git", "init", "-q", "-b", "main"], root)
    shell(["git", "config", "user.name", "t"], root)
    shell(["git", "config", "user.email", "t@example.org"], root)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / ".dvcignore").write_text("# Not hashed.\n.*.partial\n.*.scratch\n.gitignore\n")
    (root / ".gitignore").write_text("/.dvc/cache\n/.dvc/tmp\n/checkpoints\n/data\n/scores\n")
    (root / "dvc.yaml").write_text(GRAPH)
    shutil.copy(REPOSITORY / "pyproject.toml", root / "pyproject.toml")
    (root / "params.yaml").write_text(PARAMS)
    shell(["dvc", "repro", "--quiet"], root)
    shell(["git", "add", "-A"], root)
    shell(["git", "commit", "-qm", "results"], root)
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


def outputs(root: Path) -> set[str]:
    return {out for one in read_instances(WorkingTree(root)).values() for out in one.outputs}


def said_first(root: Path) -> str | None:
    return refusal(root, list(read_instances(WorkingTree(root)).values()))


def files(root: Path) -> set[str]:
    found = (path for name in ROOTS for path in (root / name).rglob("*"))
    return {path.relative_to(root).as_posix() for path in found if path.is_file()}


def directories(root: Path) -> set[str]:
    found = (path for name in ROOTS for path in (root / name).rglob("*"))
    return {path.relative_to(root).as_posix() for path in found if path.is_dir()}


CHANGES = {
    "dropped seed": (PARAMS.replace("[1, 2]", "[1]"), "seed 2"),
    "dropped condition": (PARAMS.replace("[one, two]", "[two]"), "condition one"),
    "dropped step": (PARAMS.replace("[5, 9]", "[9]"), "step 5"),
    "copied profile": (
        "conditions: [two]\nseeds: [7]\nsteps: [3]\n",
        "condition one, seed 1, seed 2 and 2 more",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_other_params_have_left_is_refused_at_once_and_pruned_in_one_pass(root, change):
    params, named = CHANGES[change]
    before = outputs(root)
    (root / "params.yaml").write_text(params)
    gone = {out for out in before - outputs(root) if (root / out).exists()}
    assert gone
    said = said_first(root)
    assert said.startswith(f"params.yaml no longer names {named}, whose results are still here (")
    assert said.endswith("; run make prune")
    assert {leftover.path for leftover in leftovers(root)} == gone
    text = prune(root, YES="1")
    for path in gone:
        assert path in text
    assert all(
        any(f"{file}/".startswith(f"{out}/") for out in outputs(root)) for file in files(root)
    ), "nothing of others is left"
    assert all(
        any(file.startswith(f"{folder}/") for file in files(root)) for folder in directories(root)
    ), "none is empty"
    assert said_first(root) is None
    assert leftovers(root) == []
    assert Graph(WorkingTree(root)).withdrawn() == []
    assert prune(root) == "prune: nothing is left of other runs\n"
    shell(["git", "restore", "."], root)
    restored = shell(["dvc", "repro"], root)
    assert not [
        line
        for line in restored.splitlines()
        if line.startswith("Running stage") and "compare" not in line
    ]
    assert outputs(root) == before
    assert all((root / out).exists() for out in before), "what was removed comes back without a run"


def test_empty_directories_stop_nobody_and_go(root):
    for name in ("scores/one/seed_7/step_5", "metrics/old", "checkpoints/three/seed_1"):
        (root / name).mkdir(parents=True)
    assert said_first(root) is None
    assert leftovers(root) == []
    assert (
        prune(root) == "prune: nothing is left of other runs\nprune: 5 empty directories removed\n"
    )
    assert not (root / "metrics/old").exists()


def test_what_no_stage_wrote_as_it_is_stays(root):
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    mine = {
        "metrics/one/seed_2/pretrain.json": "git has no commit of these edits",
        "checkpoints/one/seed_2/notes.txt": "no record says that a stage wrote it as it is",
        "checkpoints/two/seed_2/model": "no record says that a stage wrote it as it is",
        "checkpoints/mine/seed_3/model": "no record says that a stage wrote it as it is",
        "scores/mine/seed_3/step_4/items": "no record says that a stage wrote it as it is",
    }
    for name in mine:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")
    others = {
        "data/mine/text.txt": "mine",
        "data/raw/mine/text.txt": "mine",
        "notes/seed_2/x": "mine",
    }
    for name in others:
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("mine")
    done = prune(root, check=False, YES="1")
    for name, why in mine.items():
        assert f"  {name}: {why}\n" in done
    for name in {*mine, *others}:
        assert (root / name).read_text() == "mine", name
    assert (
        "error: prune: stages would still read a file as results that no stage writes"
        " (metrics/one/seed_2/pretrain.json); " in done
    )
    assert not (root / "metrics/two/seed_2").exists()
    assert not (root / "checkpoints/one/seed_2/model").exists(), (
        "what a stage wrote beside it is gone"
    )


def test_a_link_stays_and_what_it_leads_to(root, tmp_path):
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/model").write_text("mine")
    shutil.rmtree(root / "checkpoints/one/seed_2")
    (root / "checkpoints/one/seed_2").symlink_to(tmp_path / "elsewhere")
    (root / "scores/two/seed_2/link").symlink_to(tmp_path / "elsewhere")
    assert "  checkpoints/one/seed_2: it is a link, which no stage makes\n" in prune(
        root, check=False, YES="1"
    )
    assert (tmp_path / "elsewhere/model").read_text() == "mine"


def test_links_into_dvcs_cache_go_and_come_back(root):
    shell(["dvc", "config", "cache.type", "symlink"], root)
    shell(["dvc", "checkout", "--relink"], root)
    assert (root / "checkpoints/one/seed_2/model").is_symlink()
    before = {name: (root / name).read_bytes() for name in files(root)}
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    assert "Kept" not in prune(root, YES="1")
    assert not (root / "checkpoints/one/seed_2").exists()
    assert said_first(root) is None
    (root / "params.yaml").write_text(PARAMS)
    shell(["dvc", "repro"], root)
    assert {name: (root / name).read_bytes() for name in files(root)} == before


@pytest.mark.parametrize("name", ["checkpoints", "scores/one"])
def test_what_lies_behind_a_linked_folder_stays(root, tmp_path, name):
    (root / name).rename(tmp_path / "archive")
    (root / name).symlink_to(tmp_path / "archive")
    before = sorted(path for path in (tmp_path / "archive").rglob("*") if path.is_file())
    assert before
    shell([sys.executable, "-m", "pipeline.leftover.prune", "--artifacts"], root)
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    prune(root, check=False, YES="1")
    assert sorted(path for path in (tmp_path / "archive").rglob("*") if path.is_file()) == before


def test_what_is_made_since_the_listing_stays(root):
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    found = leftovers(root)
    (root / "checkpoints/one/seed_2/notes").write_text("mine")
    remove(root, found)
    assert files(root).isdisjoint(file for one in found for file in one.goes)
    assert (root / "checkpoints/one/seed_2/notes").read_text() == "mine"
    assert not (root / "checkpoints/two/seed_2").exists()


def test_a_file_that_was_kept_is_kept_the_second_time(root):
    """What dvc.lock has recorded of a stage is gone after the first time, unless a commit or the
    run cache has it too.
    """
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1, 2, 3]"))
    shell(["dvc", "repro"], root)
    (root / ".dvc/tmp/durations").mkdir(parents=True, exist_ok=True)
    (root / ".dvc/tmp/durations/pretrain@one-3").touch()
    (root / "checkpoints/one/seed_3/notes").write_text("mine")
    (root / "params.yaml").write_text(PARAMS)
    for _ in range(2):
        assert "checkpoints/one/seed_3/notes: no record says" in prune(root, check=False, YES="1")
        assert (root / "checkpoints/one/seed_3/notes").read_text() == "mine"


def test_scratch_of_killed_runs_goes_and_that_of_todays_runs_stays(root):
    for name in (
        "checkpoints/one/.seed_7.scratch",
        "checkpoints/one/.seed_1.scratch",
        "scores/one/seed_7/.step_5.partial",
    ):
        (root / name).mkdir(parents=True)
        (root / name / "piece").write_text("1")
    assert said_first(root) is None, "DVC does not hash it"
    assert [one.path for one in leftovers(root)] == [
        "checkpoints/one/.seed_7.scratch",
        "scores/one/seed_7/.step_5.partial",
    ]
    prune(root, YES="1")
    assert (root / "checkpoints/one/.seed_1.scratch/piece").exists()
    assert not (root / "checkpoints/one/.seed_7.scratch").exists()
    assert not (root / "scores/one/seed_7").exists()


def test_what_a_killed_dvc_did_not_record_is_known_by_its_checksums_or_by_its_stage(root):
    for name in (
        "checkpoints/one/seed_7/model",
        "metrics/one/seed_7/pretrain.json",
        "metrics/one/seed_8/pretrain.json",
    ):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("1")
    model = root / "checkpoints/one/seed_7/model"
    (model.parent / CHECKSUMS).write_text(f"{sha256_file(model)}  model\n")
    (root / ".dvc/tmp/durations").mkdir(parents=True, exist_ok=True)
    (root / ".dvc/tmp/durations/pretrain@one-7").touch()
    found = {one.path: (set(one.goes), set(one.stays)) for one in leftovers(root)}
    checkpoint = "checkpoints/one/seed_7"
    assert found == {
        checkpoint: ({f"{checkpoint}/model", f"{checkpoint}/{CHECKSUMS}"}, set()),
        "metrics/one/seed_7/pretrain.json": ({"metrics/one/seed_7/pretrain.json"}, set()),
        "metrics/one/seed_8/pretrain.json": (set(), {"metrics/one/seed_8/pretrain.json"}),
    }
    (root / ".dvc/tmp/durations/pretrain@one-7").unlink()
    model.write_text("2")
    assert all(
        f"{checkpoint}/model" in one.stays for one in leftovers(root) if one.path == checkpoint
    )


def test_a_stage_that_dvc_yaml_has_lost_leaves_what_the_lock_records(root):
    text = GRAPH.replace("input: [text]", "input: [other]")
    (root / "dvc.yaml").write_text(text)
    (root / "data/raw/mine").mkdir()
    (root / "data/raw/mine/x").write_text("1\n")
    assert [one.path for one in leftovers(root)] == ["data/raw/text"]
    prune(root, YES="1")
    assert not (root / "data/raw/text").exists()
    assert (root / "data/raw/mine/x").exists()
    assert "fetch@text" not in (root / "dvc.lock").read_text()


def asked(root: Path, answer: str) -> tuple[int, str]:
    """Run it at a terminal and type `answer`."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.leftover.prune"],
        cwd=root,
        env=ENVIRONMENT,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        os.close(theirs)
        os.write(ours, answer.encode())
        said = process.stdout.read()
    with contextlib.suppress(OSError):
        os.close(ours)
    return process.returncode, said


def test_it_asks_and_without_a_terminal_or_a_yes_removes_nothing(root):
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    before = files(root)
    assert "error: prune: nothing is removed: no terminal to ask on; YES=1 make prune " in prune(
        root, check=False
    )
    assert (
        prune(root, check=False, YES="yes") == "error: prune: YES must be 1 or unset, not 'yes'\n"
    )
    for answer in ("n\n", "\n", "\x04"):
        status, said = asked(root, answer)
        end = "Remove them? [y/N] " + "\n" * (answer == "\x04") + "prune: nothing is removed\n"
        assert (status, said.endswith(end)) == (1, True), said
    assert files(root) == before
    status, said = asked(root, "y\n")
    assert status == 0
    assert "prune: removed" in said
    assert files(root) < before


def test_nothing_is_removed_while_a_stage_runs(root):
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    (root / ".dvc/tmp/durations").mkdir(parents=True)
    before = files(root)
    with open(root / ".dvc/tmp/durations/pretrain@one-2", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (
            prune(root, check=False, YES="1")
            == "error: prune: pretrain@one-2 runs; wait until it ends\n"
        )
    assert files(root) == before
    assert running(root) == []


@pytest.mark.parametrize("name", ["metrics/notes.md", "scores/one/seed_1/notes", "metrics/README"])
def test_a_file_of_ones_own_among_results_is_moved_and_not_deleted(root, name):
    (root / name).write_text("mine")
    said = said_first(root)
    folder = name.split("/")[0]
    assert (
        said
        == f"{name}: no stage writes it, and what is in {folder}/ is read as results; move it out"
        f" of {folder}/"
    )
    assert f"no stage writes ({name}); move it elsewhere" in prune(root, check=False)
    assert (root / name).exists()


@pytest.mark.parametrize("name", ["data", "scores", "checkpoints", "checkpoints/one"])
def test_a_folder_of_outputs_that_is_a_link_is_named_before_dvc_fails_at_it(root, tmp_path, name):
    (root / name).rename(tmp_path / "disk")
    (root / name).symlink_to(tmp_path / "disk")
    assert said_first(root).startswith(
        f"{name} is a symbolic link, and DVC keeps no output behind one; "
    )
    assert "dvc cache dir --local" in said_first(root)


def test_the_copy_of_a_queued_experiment_is_freed_without_a_question(root):
    """It has the metrics of a seed that the experiment drops, for git has them."""
    from pipeline.seal.sealed_stage import _leftovers

    copy = root / ".dvc/tmp/exps/tmp1"
    shell(["git", "clone", "-q", str(root), str(copy)], root)
    (copy / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    instances = list(read_instances(WorkingTree(copy)).values())
    assert refusal(copy, instances)
    assert _leftovers(copy, instances) is None
    assert not (copy / "metrics/one/seed_2").exists()
    (copy / "metrics/notes.md").write_text("mine")
    assert "move it out of metrics/" in _leftovers(copy, instances)


def test_the_templates_are_those_of_dvc_yaml_with_todays_values():
    tree = WorkingTree(REPOSITORY)
    known = templates(tree, with_timings)
    for name, instance in read_instances(tree).items():
        for output in with_timings(instance).outputs:
            matches = [(one, match) for one in known if (match := one.pattern.fullmatch(output))]
            assert all(one.unknown(match) == {} for one, match in matches)
            if any(part in output for part in ("seed_", "step_", "data/tokens/")):
                assert [one.name(match) for one, match in matches] == [name]
    roots = {one.root for one in known}
    assert roots == {
        "checkpoints",
        "data",
        "exports",
        "generations",
        "losses",
        "metrics",
        "samples",
        "scores",
        "sft",
        "sft_losses",
        "timings",
    }
    assert not any(one.pattern.fullmatch("data/raw/mine") for one in known)


@pytest.mark.parametrize(
    "text", ["", "seeds: 5", "seeds:", "conditions: [one]\nseeds: {a: 1}\nsteps: [5]", "a: [", "7"]
)
def test_params_without_lists_are_left_to_the_stage_that_checks_them(root, text):
    [instance] = [
        one for one in read_instances(WorkingTree(root)).values() if one.stage == "compare"
    ]
    (root / "params.yaml").write_text(text)
    found = all_instances(root, instance)
    assert instance in found
    assert refusal(root, [instance]) is None


def test_a_removal_cuts_the_lock_and_leaves_no_folder(root):
    (root / "params.yaml").write_text(PARAMS.replace("[1, 2]", "[1]"))
    remove(root, leftovers(root))
    assert remove_empty(root) > 0
    cut_lock(root)
    assert {name for name in Graph(WorkingTree(root)).lock if name.endswith("-2")} == set()


def test_what_is_freed_comes_back_and_what_is_ones_own_stays(root):
    before = {name: (root / name).read_bytes() for name in files(root)}
    (root / "checkpoints/mine").mkdir()
    mine = ("checkpoints/mine/model", "scores/one/seed_1/step_5/notes", "checkpoints/notes.txt")
    for name in mine:
        (root / name).write_text("mine")
    said = shell([sys.executable, "-m", "pipeline.leftover.prune", "--artifacts"], root)
    assert (
        "kept, for it may be your own: scores/one/seed_1/step_5/notes: no record says that a stage"
        " wrote it" in said
    )
    left = files(root)
    assert {name for name in left if name.startswith(("checkpoints", "scores"))} == set(mine)
    assert {name for name in before if not name.startswith(("checkpoints", "scores"))} < left
    (root / mine[1]).unlink()
    shell(["dvc", "repro"], root)
    assert {name: (root / name).read_bytes() for name in files(root) - set(mine)} == before
