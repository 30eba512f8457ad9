import pytest

from common.errors import PipelineError, run_stage
from common.files import atomic_directory, atomic_file, json_bytes


def interrupted():
    raise RuntimeError


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half")
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_write_leaves_the_old_directory(tmp_path):
    path = tmp_path / "out"
    with atomic_directory(path) as partial:
        (partial / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(path) as partial:
        (partial / "a").write_text("half")
        interrupted()
    assert (path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_run_do_not_enter_the_next(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "stale").write_text("stale")
    with atomic_directory(tmp_path / "out") as partial:
        (partial / "a").write_text("new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_json_is_canonical_and_refuses_what_json_has_no_word_for():
    assert json_bytes({"b": 1, "a": "é"}) == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes({"a": float("nan")})


def test_a_pipeline_error_is_its_line_and_status_1(capsys):
    def main():
        raise PipelineError("what: where; what to do")

    with pytest.raises(SystemExit) as exit_:
        run_stage(main)
    assert exit_.value.code == "error: what: where; what to do"
