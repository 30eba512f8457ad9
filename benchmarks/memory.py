"""Measure the memory of the stages that read the whole corpus, on a synthetic corpus of any size.

    python -m benchmarks.memory
        2,000 MB of text and documents of up to a megabyte; about fifteen minutes
    python -m benchmarks.memory --megabytes 200

Runs the real, sealed stages corpus and tokenize in a copy of this checkout's code, with the
parameters of profiles/gpt2-124m-10b.yaml. The result is the peak of the stage and its workers
together: the sum of proportional set sizes (PSS, in which shared memory counts once), sampled
twenty times a second. Linux only. Run `make repro` here first.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

STAGES = (["corpus"], ["tokenize", "baseline"], ["tokenize", "mul_tokens"])


def make_passages(directory: Path, megabytes: float, characters_per_shard: int) -> None:
    """Write documents of sentences drawn from the demonstration's corpus.

    Most are short; one in a thousand has a megabyte.
    """
    from common.files import checksummed_directory, json_bytes
    from model.data.documents import Document, DocumentWriter, PassagesIndex, read_split

    generator = random.Random(0)
    texts = (document.text for document in read_split(REPOSITORY / "data/corpus", "train"))
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text)]
    written = documents = characters = 0
    with checksummed_directory(directory) as output:
        with DocumentWriter(output, "passages", characters_per_shard) as writer:
            while written < megabytes * 1e6:
                wanted = (
                    1_000_000
                    if generator.random() < 0.001
                    else int(generator.lognormvariate(8, 0.8))
                )
                parts, size = [], 0
                while size < wanted:
                    parts.append(sentences[int(generator.random() * len(sentences))])
                    size += len(parts[-1]) + 1
                text = " ".join(parts)
                writer.append(Document(text, "synthetic"))
                written += len(text.encode())
                documents += 1
                characters += len(text)
        index = PassagesIndex(
            characters={"synthetic": characters}, documents={"synthetic": documents}
        )
        (output / "index.json").write_bytes(json_bytes(index.model_dump()))
    print(f"{written / 1e6:.0f} MB in {documents} documents")


def make_project(root: Path, megabytes: float) -> None:
    from common.sections import read_section
    from model.params.corpus import CorpusParams

    for name in ("pipeline", "common", "model", "stages"):
        shutil.copytree(
            REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in (
        "pyproject.toml",
        "dvc.yaml",
        "libraries.yaml",
        "data/params.ok",
        "data/raw/gsm8k",
        "data/raw/tasks",
        "data/raw/ranks",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, root / name)
    profile = shutil.copy(REPOSITORY / "profiles/gpt2-124m-10b.yaml", root / "params.yaml")
    make_passages(
        root / "data/raw/passages",
        megabytes,
        read_section("corpus", CorpusParams, profile).characters_per_shard,
    )


def peak_of(command: list[str], root: Path) -> tuple[float, float]:
    """Run `command`; return the peak of its processes' memory in MiB, and its seconds."""
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, cwd=root, start_new_session=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(proportional_kilobytes, members(process.pid))))
            time.sleep(0.05)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} failed")
    return peak / 1024, time.perf_counter() - started


def members(session: int) -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            found.append(process)
    return found


def proportional_kilobytes(process: Path) -> int:
    try:
        return int(
            re.search(r"^Pss:\s+(\d+) kB", (process / "smaps_rollup").read_text(), re.MULTILINE)[1]
        )
    except (OSError, TypeError):  # the process has ended
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=2000)
    options = parser.parse_args()
    if not (REPOSITORY / "data/corpus").is_dir():
        sys.exit("error: no corpus to take sentences from; make repro first")
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".benchmark.") as folder:
        make_project(Path(folder), options.megabytes)
        for stage, *arguments in STAGES:
            peak, seconds = peak_of(
                [sys.executable, "-m", f"stages.{stage}", *arguments], Path(folder)
            )
            rate = options.megabytes / seconds
            print(
                f"{' '.join([stage, *arguments]):20} peak {peak:5.0f} MiB, {seconds:.0f} s,"
                f" {rate:.1f} MB/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
