import re
import subprocess
from pathlib import Path

import pytest
from chart_points import points
from demo_charts import CHARTS

from common.errors import PipelineError
from model.curves.points import Curves, chart_csv
from tools.fault_panels import EXPORTED, MEASURED, SCORES, main, read_points

NAMES = (SCORES, EXPORTED, MEASURED)


def git(*arguments: str) -> None:
    identity = (
        "-c",
        "user.name=Tester",
        "-c",
        "user.email=tester@example.org",
        "-c",
        "commit.gpgsign=false",
    )
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def write(curves: Curves) -> None:
    Path("plots/curves").mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        Path(f"plots/curves/{name}.csv").write_bytes(chart_csv(CHARTS[name], curves[name]))


@pytest.fixture
def faulty(tmp_path, monkeypatch) -> Curves:
    """A repository with right curves on `main`, and in the working tree those of exports that are
    wrong; returns the latter.
    """
    monkeypatch.chdir(tmp_path)
    right = points((1,))
    write(right)
    git("init", "--quiet", "--initial-branch", "main")
    git("add", "plots")
    git("commit", "--quiet", "--message", "right")
    wrong = {**right, SCORES: [point._replace(value=0.25) for point in right[SCORES]]}
    wrong[EXPORTED] = [point._replace(value=2 + point.step / 10) for point in right[EXPORTED]]
    write(wrong)
    return wrong


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["fault_panels", *arguments])
    main()


def test_the_picture_is_the_same_bytes_twice_and_shows_each_curve_of_either_side(
    faulty, monkeypatch
):
    pictures = set()
    for name in (None, *NAMES):
        if name == MEASURED:  # moved on both sides: nothing but exports may differ
            git("stash", "--quiet")
            curves = points((1,))
            curves[MEASURED] = [
                point._replace(value=point.value + point.step) for point in curves[MEASURED]
            ]
            write(curves)
            git("commit", "--quiet", "--all", "--message", "other training")
            write({**curves, SCORES: faulty[SCORES], EXPORTED: faulty[EXPORTED]})
        elif name:
            write({**faulty, name: [*faulty[name][:-1], faulty[name][-1]._replace(value=0.4)]})
        run(monkeypatch, "main")
        pictures.add(Path("fault.png").read_bytes())
    assert len(pictures) == 4
    run(monkeypatch, "main", "--out", "pictures/again.png")
    assert Path("pictures/again.png").read_bytes() == Path("fault.png").read_bytes()


def test_curves_are_read_as_they_were_written(faulty):
    for name in NAMES:
        assert read_points(Path(f"plots/curves/{name}.csv").read_text(), name) == faulty[name]


@pytest.mark.parametrize("revision", ["nowhere", "-v", ""])
def test_an_unknown_revision_is_named(faulty, monkeypatch, revision):
    with pytest.raises(PipelineError, match=rf"^{revision}: no commit, branch or tag [^\n]*$"):
        run(monkeypatch, "--", revision)


def test_a_revision_without_curves_is_named(faulty, monkeypatch):
    git("rm", "--quiet", "-r", "--cached", "plots")
    git("commit", "--quiet", "--message", "none")
    with pytest.raises(
        PipelineError, match=rf"^main: has no plots/curves/{SCORES}\.csv; name a revision"
    ):
        run(monkeypatch, "main")


def test_the_same_curves_are_nothing_to_compare(faulty, monkeypatch):
    git("checkout", "--quiet", "plots")
    with pytest.raises(
        PipelineError,
        match=r"^the curves of main and of the working tree are the same; nothing to compare$",
    ):
        run(monkeypatch, "main")


def test_curves_of_another_training_are_refused(faulty, monkeypatch):
    last = faulty[MEASURED][-1]
    write({**faulty, MEASURED: [*faulty[MEASURED][:-1], last._replace(value=last.value + 0.01)]})
    with pytest.raises(
        PipelineError,
        match=rf"^plots/curves/{MEASURED}\.csv: what training measured differs from main's",
    ):
        run(monkeypatch, "main")
    assert not Path("fault.png").exists()


@pytest.mark.parametrize(
    "content", ["", "condition,seed\nbaseline,1\n", "value,low,high\nx,,\n", None]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_curve_is_named(faulty, monkeypatch, name, content):
    path = Path(f"plots/curves/{name}.csv")
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        PipelineError, match=rf"^{re.escape(str(path))}: (not a curve|cannot be read)[^\n]*; run"
    ):
        run(monkeypatch, "main")


def test_a_place_that_cannot_be_written_is_named(faulty, monkeypatch):
    Path("file").write_text("")
    with pytest.raises(PipelineError, match=r"^--out: file/fault\.png cannot be written"):
        run(monkeypatch, "main", "--out", "file/fault.png")
