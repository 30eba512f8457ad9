"""A copy of the code, with many small raw shards, in which sealed `corpus` and `tokenize` run."""

import shutil
from pathlib import Path

from corpus_sample import ITEM, passages, write_shards
from repository import REPOSITORY

from common.files import write_checksums, write_jsonl
from model.data.documents import Document


def make_corpus_project(root: Path, ranks_file: Path) -> Path:
    """Return `root` with eight raw shards, and parameters for about fifteen corpus shards."""
    for name in ("pipeline", "common", "model", "stages"):
        shutil.copytree(
            REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in (".dvcignore", "dvc.yaml", "libraries.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root / name)
    profile = (REPOSITORY / "profiles/micro.yaml").read_text()
    assert "characters_per_shard: 100000\n" in profile
    (root / "params.yaml").write_text(
        profile.replace("characters_per_shard: 100000\n", "characters_per_shard: 30000\n")
    )
    for name in ("tasks", "gsm8k", "ranks"):
        (root / "data/raw" / name).mkdir(parents=True)
    write_jsonl(root / "data/raw/tasks/hellaswag.jsonl", [ITEM.row()])
    write_jsonl(root / "data/raw/gsm8k/test.jsonl", [{"question": "How many?", "answer": "#### 2"}])
    shutil.copy(ranks_file, root / "data/raw/ranks/gpt2.tiktoken")
    for name in ("tasks", "gsm8k", "ranks"):
        write_checksums(root / "data/raw" / name)
    (root / "data/params.ok").touch()
    documents = [Document(f"{text} And 6 * 9 = 54, so.", source) for text, source in passages(2000)]
    write_shards(
        root / "data/raw/passages",
        [documents[start : start + 250] for start in range(0, 2000, 250)],
    )
    return root


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
