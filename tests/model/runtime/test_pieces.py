import os
from pathlib import Path

import pytest

from common.errors import PipelineError
from common.files import checksummed_directory, verified_directory, write_checksums
from common.share import SHARE
from model.runtime.resumable import (
    SCRATCH,
    Work,
    complete_piece,
    piece,
    publish,
    publish_piece,
    scratch_directory,
    verified_piece,
)


@pytest.fixture
def sealed(tmp_path, monkeypatch) -> Path:
    """The folder that the seal would name."""
    directory = tmp_path / ".out.scratch" / ("0" * 64)
    monkeypatch.setenv(SCRATCH, str(directory))
    return directory


class Maker:
    def __init__(self, content: str = "made"):
        self.calls, self.content = 0, content

    def __call__(self, directory: Path) -> None:
        self.calls += 1
        (directory / "a").write_text(self.content)


def test_a_piece_is_made_once(tmp_path):
    make = Maker()
    for _ in range(2):
        assert (piece(tmp_path, "one", make) / "a").read_text() == "made"
    assert make.calls == 1


@pytest.mark.parametrize(
    "alter",
    [
        lambda directory: (directory / "a").write_text("else"),
        lambda directory: (directory / "a").unlink(),
        lambda directory: (directory / "b").write_text("more"),
        lambda directory: (directory / "SHA256SUMS").unlink(),
        lambda directory: (directory / "work.json").unlink(),
    ],
)
def test_an_altered_piece_is_made_anew(tmp_path, alter):
    make = Maker()
    alter(piece(tmp_path, "one", make))
    assert (piece(tmp_path, "one", make) / "a").read_text() == "made"
    assert make.calls == 2
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "SHA256SUMS",
        "a",
        "work.json",
    ]


@pytest.mark.parametrize(
    ("scratch", "name"), [("run", "two"), ("other", "one")], ids=["another name", "another run"]
)
def test_a_piece_of_other_work_is_made_anew(tmp_path, scratch, name):
    foreign = piece(tmp_path / scratch, name, Maker("foreign"))
    (tmp_path / "run").mkdir(exist_ok=True)
    foreign.rename(tmp_path / "run/one")
    with pytest.raises(PipelineError, match=r"run/one: belongs to other work"):
        verified_piece(tmp_path / "run", "one")
    assert (piece(tmp_path / "run", "one", Maker()) / "a").read_text() == "made"


@pytest.mark.parametrize("before", [None, "damaged"])
def test_a_share_bears_that_another_process_makes_the_same_piece(tmp_path, monkeypatch, before):
    """Whoever is slower finds the piece there, and leaves nothing beside it."""
    monkeypatch.setenv(SHARE, "phase 0/2")
    if before:
        (piece(tmp_path, "one", Maker()) / "a").write_text(before)

    def make(directory: Path) -> None:
        Maker()(directory)
        assert (piece(tmp_path, "one", Maker()) / "a").read_text() == "made"

    assert (piece(tmp_path, "one", make) / "a").read_text() == "made"
    verified_piece(tmp_path, "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_piece_of_another_process_that_is_damaged_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(SHARE, "phase 0/2")

    def make(directory: Path) -> None:
        Maker()(directory)
        (piece(tmp_path, "one", Maker()) / "a").write_text("else")

    with pytest.raises(PipelineError, match="one/a: missing or altered"):
        piece(tmp_path, "one", make)


def test_a_directory_that_a_library_has_filled_becomes_the_piece_that_piece_would_make(tmp_path):
    made = piece(tmp_path / "a/run", "one", Maker(), machine="an abacus")
    filled = tmp_path / "b/run/one"
    filled.mkdir(parents=True)
    Maker()(filled)
    complete_piece(tmp_path / "b/run", "one", machine="an abacus")
    assert contents(filled) == contents(made)
    work = verified_piece(tmp_path / "b/run", "one")
    assert work == Work(machine="an abacus", piece="one", run="run")


@pytest.mark.parametrize(
    "place", ["sys.audit", "write_checksums"], ids=["refused by the seal", "killed"]
)
def test_the_checksums_are_written_last(tmp_path, monkeypatch, place):
    """A kill, or the seal, which hears that an input has changed: the directory is no piece."""

    def stop(what: object, *_: object) -> None:
        if what in ("pipeline.piece_done", tmp_path):  # pathlib raises events of its own
            raise KeyboardInterrupt

    Maker()(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(f"model.runtime.resumable.{place}", stop)
        with pytest.raises(KeyboardInterrupt):
            complete_piece(tmp_path.parent, tmp_path.name)
    assert sorted(contents(tmp_path)) == ["a", "work.json"]
    with pytest.raises(PipelineError, match="SHA256SUMS: missing"):
        verified_piece(tmp_path.parent, tmp_path.name)


def test_a_published_piece_is_a_checksummed_directory_without_its_work(tmp_path):
    target = tmp_path / "out"
    publish_piece(piece(tmp_path / "run", "one", Maker()), target)
    published = contents(verified_directory(target))
    assert sorted(published) == ["SHA256SUMS", "a"]
    write_checksums(target)
    assert contents(target) == published


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_half_a_piece_is_none(tmp_path):
    def fail(directory: Path) -> None:
        Maker()(directory)
        raise PipelineError("half")

    with pytest.raises(PipelineError, match="half"):
        piece(tmp_path, "one", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [PipelineError, KeyboardInterrupt])
def test_pieces_outlive_an_error_and_go_when_all_is_done(tmp_path, sealed, error):
    first, second = Maker(), Maker()
    with pytest.raises(error), scratch_directory(tmp_path / "out") as scratch:
        assert scratch == sealed
        piece(scratch, "one", first)
        raise error
    with scratch_directory(tmp_path / "out") as scratch:
        piece(scratch, "one", first)
        piece(scratch, "two", second)
    assert (first.calls, second.calls) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_without_a_seal_no_piece_is_believed(tmp_path, monkeypatch):
    monkeypatch.delenv(SCRATCH, raising=False)
    make = Maker()
    piece(tmp_path / ".out.scratch", "one", make)
    with pytest.raises(PipelineError), scratch_directory(tmp_path / "out") as scratch:
        assert scratch == tmp_path / ".out.scratch"
        piece(scratch, "one", make)
        raise PipelineError("no")
    assert make.calls == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_what_is_published_is_still_in_its_piece(tmp_path, sealed, monkeypatch, links):
    if not links:  # as Landlock before Linux 5.19 refuses a link into another folder
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    make = Maker()
    for _ in range(2):
        with scratch_directory(tmp_path / "out") as scratch:
            one = piece(scratch, "one", make)
            with checksummed_directory(tmp_path / "out") as output:
                publish(one / "a", output / "b")
            piece(scratch, "one", make)
        assert (tmp_path / "out/b").read_text() == "made"
    assert make.calls == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
