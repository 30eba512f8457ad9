"""A reader of live.jsonl gets each row once, whatever becomes of the file meanwhile."""

from pathlib import Path

from model.runtime import live_figures
from model.runtime.live_figures import LiveFigures
from tools.live import follow
from tools.live.follow import Follower, live_files


def run(scratch: Path, *steps: int, after: int = 0) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    live = LiveFigures(scratch, "pretrain a/seed_1", 40)
    live.go_on(after)
    for step in steps:
        live.append("training", step, train_loss=1.5)


def steps(follower: Follower) -> list[int]:
    return [row["step"] for row in follower.poll()]


def test_writer_and_reader_mean_the_same_file():
    assert follow.NAME == live_figures.NAME


def test_each_row_is_returned_once(tmp_path):
    live = LiveFigures(tmp_path, "pretrain a/seed_1", 40)
    live.go_on(0)
    live.append("training", 10)
    with Follower(tmp_path / follow.NAME) as follower:
        assert steps(follower) == [10]
        assert steps(follower) == []
        live.append("training", 20)
        live.append("validation", 20)
        assert steps(follower) == [20, 20]
        assert (follower.restarts, follower.ended) == (0, False)


def test_a_torn_line_is_returned_when_it_is_whole(tmp_path):
    path = tmp_path / follow.NAME
    with open(path, "wb", buffering=0) as file, Follower(path) as follower:
        file.write(b'{"step": 10}\n{"st')
        assert steps(follower) == [10]
        assert steps(follower) == []
        file.write(b'ep": 20}\n')
        assert steps(follower) == [20]


def test_a_damaged_line_is_left_out(tmp_path):
    path = tmp_path / follow.NAME
    path.write_bytes(b'\0\0\n\xff\n[1]\n{"step": 10}\n')
    with Follower(path) as follower:
        assert steps(follower) == [10]


def test_a_resumed_run_is_read_from_its_start(tmp_path):
    run(tmp_path, 10, 20, 30)
    with Follower(tmp_path / follow.NAME) as follower:
        assert steps(follower) == [10, 20, 30]
        # The new file is longer than the part that was read: the length alone shows nothing.
        run(tmp_path, 30, 40, after=20)
        assert steps(follower) == [10, 20, 30, 40]
        assert follower.restarts == 1


def test_a_file_that_gets_shorter_is_read_from_its_start(tmp_path):
    path = tmp_path / follow.NAME
    path.write_text('{"step": 10}\n{"step": 20}\n')
    with Follower(path) as follower:
        assert steps(follower) == [10, 20]
        path.write_text('{"step": 10}\n')
        assert steps(follower) == [10]
        assert follower.restarts == 1


def test_the_last_rows_of_a_finished_run_are_returned(tmp_path):
    run(tmp_path, 10)
    with Follower(tmp_path / follow.NAME) as follower:
        assert steps(follower) == [10]
        with open(tmp_path / follow.NAME, "a") as file:
            file.write('{"step": 40}\n')
        (tmp_path / follow.NAME).unlink()
        assert steps(follower) == [40]
        assert follower.ended
        assert steps(follower) == []


def test_a_run_that_begins_again_is_read_again(tmp_path):
    follower = Follower(tmp_path / follow.NAME)
    assert steps(follower) == []
    assert follower.ended
    run(tmp_path, 10)
    assert steps(follower) == [10]
    (tmp_path / follow.NAME).unlink()
    assert steps(follower) == []
    run(tmp_path, 10)
    assert steps(follower) == [10]
    assert (follower.restarts, follower.ended) == (1, False)
    follower.close()


def test_runs_are_found_with_and_without_a_seal(tmp_path):
    scratches = (
        "checkpoints/a/.seed_1.scratch/0f3c",
        "checkpoints/b/.seed_1.scratch",
        "sft/a/seed_1/.step_40.scratch/77ab",
    )
    for scratch in scratches:
        run(tmp_path / scratch, 10)
    run(tmp_path / "checkpoints/a/seed_1", 10)
    run(tmp_path / "exports/a/.seed_1.scratch", 10)
    assert live_files(tmp_path) == [tmp_path / each / follow.NAME for each in scratches]
