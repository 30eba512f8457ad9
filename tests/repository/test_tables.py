"""The tables in README and docs are those of the committed run, and the command that says so
notices when they are not.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from committed import committed_tree
from repository import REPOSITORY

from model.results.markdown_table import Cell, Table, count, together, words
from tools.generated.doc_tables import documents, read_texts, stale_documents

TABLE = Table(
    "losses",
    "Losses",
    "nats",
    ["Step", "Tokens", "Baseline"],
    [[count(5), count(1000), Cell("2.5", 2.5)]],
)
NAMED = Table(
    "named",
    "Named",
    "rate",
    ["Model", "n"],
    [[words("one"), count(1)], [words("two"), count(2)]],
    labels=1,
)
AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org")
README = (
    "Before.\n\n<!-- table losses -->\nold\n<!-- end -->\n\n<!-- table named: two -->\n<!-- end"
    " -->\n\nAfter.\n"
)


def tables(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.generated.doc_tables", *arguments]
    return subprocess.run(
        command, cwd=root, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )


@pytest.fixture
def tree(tmp_path) -> Path:
    (tmp_path / "plots").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "plots/results.json").write_text(
        json.dumps({"tables": [TABLE.json(), NAMED.json()]})
    )
    compared = {
        "sentences": ["Nothing differs.", "More."],
        "table": NAMED._replace(name="comparisons").json(),
    }
    (tmp_path / "plots/comparisons.json").write_text(json.dumps(compared))
    (tmp_path / "docs/page.md").write_text("<!-- table verdict -->\n<!-- end -->\n")
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def test_a_table_has_numbers_to_the_right_and_words_to_the_left():
    assert (
        TABLE.markdown()
        == "**Losses** (nats)\n\n| Step | Tokens | Baseline |\n|---:|---:|---:|\n| 5 | 1,000 |"
        " 2.5 |\n"
    )
    assert "|---|---:|" in NAMED.markdown()
    assert TABLE.json()["values"] == [[5, 1000, 2.5]]


def test_tables_of_the_same_columns_are_one_with_their_titles():
    both = together("both", "Both", [TABLE, TABLE._replace(title="Others", unit="bits")])
    assert both.markdown().splitlines()[2:] == [
        "| Figure | Step | Tokens | Baseline |",
        "|---|---:|---:|---:|",
        "| Losses, nats | 5 | 1,000 | 2.5 |",
        "| Others, bits | 5 | 1,000 | 2.5 |",
    ]
    with pytest.raises(ValueError, match="values to unpack"):
        together("both", "Both", [TABLE, NAMED])


def test_marked_tables_are_filled_and_nothing_else_is_touched(tree):
    assert tables(tree).returncode == 0
    text = (tree / "README.md").read_text()
    assert text.startswith(
        f"Before.\n\n<!-- table losses -->\n{TABLE.markdown()}<!-- end -->\n\n<!-- table named: two"
        " -->\n"
    )
    assert text.endswith("| two | 2 |\n<!-- end -->\n\nAfter.\n")
    assert "| one |" not in text
    assert (
        tree / "docs/page.md"
    ).read_text() == "<!-- table verdict -->\nNothing differs.\n<!-- end -->\n"
    assert tables(tree, "--check").returncode == 0
    assert tables(tree).stdout == "", "a second time there is nothing to write"


def test_a_table_of_another_run_is_named_and_left_alone(tree):
    tables(tree)
    text = (tree / "README.md").read_text().replace("| 5 | 1,000 | 2.5 |", "| 5 | 1,000 | 2.4 |")
    (tree / "README.md").write_text(text)
    done = tables(tree, "--check")
    assert done.returncode == 1
    assert done.stderr == "error: README.md: tables are not those of plots/; run make tables\n"
    assert (tree / "README.md").read_text() == text


OF_ANOTHER_RUN = (
    "tables: those of the committed run; plots/ has another run's figures, which make tables would"
    " write\n"
)


@pytest.fixture
def committed(tree) -> Path:
    """The tree with its tables filled and committed."""
    assert tables(tree).returncode == 0
    for arguments in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*AUTHOR, "commit", "--quiet", "--message", "results"],
    ):
        subprocess.run(["git", *arguments], cwd=tree, check=True)
    return tree


def rerun(tree: Path, *others: Table) -> None:
    """Write other figures to plots/, as `make repro` does on another processor."""
    moved = TABLE._replace(rows=[[count(5), count(1000), Cell("2.6", 2.6)]])
    (tree / "plots/results.json").write_text(
        json.dumps({"tables": [table.json() for table in (moved, *others)]})
    )


@pytest.mark.parametrize(
    "others",
    [(NAMED,), (NAMED._replace(rows=NAMED.rows[:1]),), ()],
    ids=["figures", "rows", "tables"],
)
def test_after_a_run_on_another_processor_the_tables_are_those_of_the_committed_run(
    committed, others
):
    rerun(committed, *others)
    done = tables(committed, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, OF_ANOTHER_RUN, "")


def test_a_document_of_neither_run_is_named(committed):
    rerun(committed, NAMED)
    text = (committed / "README.md").read_text()
    (committed / "README.md").write_text(text.replace("| 5 | 1,000 | 2.5 |", "| 5 | 1,000 | 2.4 |"))
    done = tables(committed, "--check")
    assert (done.returncode, done.stderr) == (
        1,
        "error: README.md: tables are not those of plots/; run make tables\n",
    )
    tables(committed)
    assert (tables(committed, "--check").returncode, tables(committed, "--check").stdout) == (
        0,
        "",
    ), "now the new run's"


def test_other_figures_that_are_to_be_committed_are_named_too(committed):
    rerun(committed, NAMED)
    subprocess.run(["git", "add", "--all"], cwd=committed, check=True)
    assert (
        tables(committed, "--check").stderr
        == "error: README.md: tables are not those of plots/; run make tables\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "table losses",
            "table loses",
            "README.md: there is no table loses, but verdict, losses, named, comparisons, "
            "seeds_verdict, seeds_comparisons, gpu",
        ),
        (
            "named: two",
            "named: three",
            "README.md: table named has no row with 'three'; edit the marker",
        ),
        (
            "old\n<!-- end -->\n",
            "old\n",
            "README.md: a marker <!-- table NAME --> without its <!-- end -->",
        ),
    ],
)
def test_a_wrong_marker_is_one_line(tree, old, new, message):
    (tree / "README.md").write_text(README.replace(old, new))
    for arguments in ((), ("--check",)):
        done = tables(tree, *arguments)
        assert done.returncode == 1
        assert done.stderr == f"error: tables: {message}\n"
        assert (tree / "README.md").read_text() == README.replace(old, new)


def test_the_run_of_five_seeds_is_filled_in_once_it_is_committed(tree):
    page = tree / "docs/page.md"
    marked = "<!-- table seeds_{} -->\n{{}}<!-- end -->\n"
    text = marked.format("verdict") + marked.format("comparisons")
    page.write_text(text.format("", ""))
    assert tables(tree).returncode == 0
    assert page.read_text() == text.format(*["This run is not committed yet.\n"] * 2)
    (tree / "docs/seeds").mkdir()
    found = {"sentences": ["One.", "Two."], "table": NAMED.json()}
    (tree / "docs/seeds/comparisons.json").write_text(json.dumps(found))
    assert tables(tree, "--check").returncode == 1
    assert tables(tree).returncode == 0
    assert page.read_text() == text.format("- One.\n- Two.\n", NAMED.markdown())


def test_without_results_the_command_says_so(tree):
    shutil.rmtree(tree / "plots")
    assert tables(tree).stderr.strip().endswith("run make repro")


def test_the_committed_documents_have_the_committed_tables():
    tree = committed_tree()
    assert stale_documents(tree, read_texts(tree)) == [], "make tables"
    text = "".join(tree.read(path).decode() for path in documents(tree))
    tables = {table["name"] for table in json.loads(tree.read("plots/results.json"))["tables"]}
    for name in tables - {"learning"}:  # the curves' tables in one, which plots/results.md has
        assert text.count(f"<!-- table {name} -->") == 1, "every table is whole in one place"
    readme = tree.read("README.md").decode()
    for name in ("verdict -->", "comparisons: "):
        assert f"<!-- table {name}" in readme
