"""No message advises deleting what no stage can make again: every one that advises it is known
here, with the reason.
"""

import ast
import re
from pathlib import Path

import pytest
from repository import REPOSITORY

from common.errors import PipelineError
from common.files import (
    MADE,
    checksummed_directory,
    read_jsonl,
    verified,
    verified_directory,
    way_back,
    write_jsonl,
)
from model.data.documents import document_shards
from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.leftover.withdrawn import outputs_read

WORDS = re.compile(
    r"\b(delete|deletes|remove|removes|rm|rmdir|unlink|erase|discard|overwrite|wipe|drop|throw"
    r" away|git clean|"
    r"git reset|git restore|git checkout|dvc checkout|--force)\b",
    re.IGNORECASE,
)
# A piece of the message, and why nothing is lost by following it. `way_back` is where data is
# concerned.
REVIEWED = {
    "can hide a stale result; remove it": "a setting in dvc.yaml, which git has",
    "lines into dvc.yaml; remove the others": "lines of dvc.yaml, which git has",
    "is not the link to ; git restore ": "the link to dvc.yaml, which has no content of its own",
    "not the link to dvc.yaml; git restore ": (
        "the link to dvc.yaml, which has no content of its own"
    ),
    " records; delete it and ": (
        "an output that dvc.lock records and its object, both damaged: make pull or the stage"
    ),
    " is damaged; delete it, then dvc commit ": (
        "an object of the cache that has rotted: its stage makes it again"
    ),
    ": missing; dvc checkout ": "an output that is missing",
    "dvc.yaml has no such stage; delete its entry": "an entry of dvc.lock, which git has",
    "then git tag --delete TAG": "after a command that keeps what the tag is of",
    "delete  and run dvc repro; if the error returns, run make cache first": (
        "way_back: an output of another stage, as the seal knows"
    ),
    " is not a readable state ": "a state in a scratch folder, which fine-tuning makes again",
    "names  twice; remove one": "a key of params.yaml",
    "or bring the recorded files back with dvc checkout ": (
        "tools/publish/checks.py: an output that differs from dvc.lock; its stage makes it again"
    ),
    "unknown key; remove it or correct its spelling": "a key of params.yaml",
    "raise it, or remove the source": "a key of params.yaml",
    "documents is of this source; remove it, or raise": "a key of params.yaml",
    "all conditions have one ; remove it here, and set": "a key of params.yaml",
    "in quotes it is text: remove the quotes": "two characters of params.yaml",
    " has no place in YAML text; remove it": "a character of a YAML file",
    "directives (%YAML, %TAG) change how a file is read; remove them": "a line of a YAML file",
    "has the tag ; remove it": "a tag in a YAML file",
    "git restore": "pipeline/leftover/prune.py: how a metric comes back",
    "comes back by git restore": "pipeline/leftover/prune.py: how a metric comes back",
    "YES=1 make prune removes it without asking": (
        "make prune lists what it removes, and each file's way back"
    ),
    "Remove them? [y/N] ": "make prune lists what it removes, and each file's way back",
}


def messages(path: Path) -> list[str]:
    """Return the texts of a module that are no docstrings, those with fields as one, without the
    fields.
    """
    tree = ast.parse(path.read_text())
    inside, found = set(), []
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            inside.add(id(body[0].value))
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            found.append(
                "".join(part.value for part in node.values if isinstance(part, ast.Constant))
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def unreviewed(path: Path) -> list[str]:
    named = [text for text in messages(path) if WORDS.search(text) and " " in text]
    return [
        text
        for text in named
        if not any(
            known == text or (known in text and known != "git restore") for known in REVIEWED
        )
    ]


MODULES = [
    path
    for folder in ("common", "model", "stages", "pipeline", "tools")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


def test_every_message_that_advises_to_delete_is_reviewed():
    found = {
        str(path.relative_to(REPOSITORY)): texts for path in MODULES if (texts := unreviewed(path))
    }
    assert found == {}, (
        "say what is to be moved or restored, or add it to REVIEWED with the reason why nothing can"
        " be lost"
    )


def test_a_reason_that_no_message_needs_is_none():
    texts = [text for path in MODULES for text in messages(path)]
    assert [known for known in REVIEWED if not any(known in text for text in texts)] == []


@pytest.mark.parametrize(
    "text",
    ["delete {path} and run dvc repro", "remove {path}", "rm -rf {path}", "git restore {path}"],
)
def test_a_new_advice_to_delete_is_found(tmp_path, text):
    (tmp_path / "module.py").write_text(
        f'"""Delete nothing."""\nraise ValueError(f"{{path}}: wrong; {text}")\n'
    )
    assert len(unreviewed(tmp_path / "module.py")) == 1


def test_the_makefile_advises_no_deletion():
    said = re.findall(r'echo "([^"]*)"', (REPOSITORY / "Makefile").read_text())
    assert said
    assert [text for text in said if WORDS.search(text)] == []


@pytest.fixture
def tasks(tmp_path, monkeypatch) -> Path:
    """A folder of the user's own, which no stage writes."""
    monkeypatch.chdir(tmp_path)
    Path("tasks").mkdir()
    Path("tasks/mine.jsonl").write_text("{}\n")
    return Path("tasks")


@pytest.mark.parametrize(
    "sums", [None, "", f"{'0' * 64}  mine.jsonl\n"], ids=["no sums", "empty sums", "other sums"]
)
@pytest.mark.parametrize(
    "read", [read_jsonl, verified, lambda path: verified_directory(path.parent)]
)
def test_a_file_of_ones_own_that_is_read_as_an_output_is_not_to_be_deleted(
    tasks, read, sums, monkeypatch
):
    monkeypatch.setenv(MADE, "data/corpus\ntask")
    if sums is not None:
        (tasks / "SHA256SUMS").write_text(sums)
    with pytest.raises(PipelineError) as refused:
        read(tasks / "mine.jsonl")
    assert not re.search(r"\b(delete|remove|rm)\b", str(refused.value))
    assert "keep it: git or the place that it came from has it" in str(
        refused.value
    ) or "move it out of" in str(refused.value)


def test_an_output_of_another_stage_is_to_be_deleted(tasks, monkeypatch):
    with checksummed_directory(tasks / "out") as folder:
        write_jsonl(folder / "x.jsonl", [{}])
    (tasks / "out/x.jsonl").write_text("[]")
    monkeypatch.setenv(MADE, "data/corpus\ntasks/out")
    with pytest.raises(
        PipelineError,
        match="delete tasks/out and run dvc repro; if the error returns, run make cache first",
    ):
        read_jsonl(tasks / "out/x.jsonl")
    monkeypatch.setenv(MADE, "tasks/outer\ntasks/ou")
    with pytest.raises(PipelineError, match="move it aside and run dvc repro; otherwise keep it"):
        read_jsonl(tasks / "out/x.jsonl")


def test_a_file_of_ones_own_inside_an_output_is_moved_out_of_it(tasks, monkeypatch):
    monkeypatch.setenv(MADE, "tasks/out")
    with checksummed_directory(tasks / "out") as folder:
        write_jsonl(folder / "x.jsonl", [{}])
    (tasks / "out/notes.txt").write_text("mine")
    with pytest.raises(
        PipelineError,
        match=r"notes\.txt: SHA256SUMS beside it does not list it; move it out of tasks/out",
    ):
        verified_directory(tasks / "out")


def test_a_folder_of_texts_that_is_no_output_is_kept(tasks):
    with pytest.raises(PipelineError, match="otherwise keep it"):
        document_shards(tasks, "train")


def test_the_seal_names_the_outputs_that_a_stage_reads():
    instances = read_instances(WorkingTree(REPOSITORY))
    every = list(instances.values())
    assert set(outputs_read(instances["items"], every)) == {"data/corpus", "data/raw/tasks"}
    export = next(one for name, one in instances.items() if name.startswith("export@baseline"))
    assert "checkpoints/baseline/seed_1337" in outputs_read(export, every), (
        "of which it reads a part"
    )
    assert any(out.startswith("scores/") for out in outputs_read(instances["compare"], every))
    assert outputs_read(instances["params"], every) == []
    assert way_back(Path("data/corpus")).startswith("if a stage writes data/corpus, move it aside")
