"""Compare the speed of scoring HellaSwag: ours, the reference script's loop, lm-evaluation-harness.

    python -m benchmarks.scoring
        the last export, and a random model of GPT-2's size; about twenty minutes
    python -m benchmarks.scoring DIRECTORY --items 64 --rounds 5

Ours runs with portable kernels and, for comparison, with native ones. Each method has its own
process, with the same model, items and number of threads. They take turns; while one computes the
others wait. The harness uses the batch size that was fastest in a trial. Ours scores both wordings,
and each ratio is between two methods that read the same text.

Memory is a process's peak, including libraries. The share of the peak compares matrix products per
second with what a product of two 2048 × 2048 matrices reaches here. It counts the products that
remain when each context is read once. This measures the CPU path. The last line is a summary.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ITEMS = REPOSITORY / "data/items/hellaswag.jsonl"

from pipeline.seal.environment import environment_of_libraries

BATCH_SIZES = (1, 4, 8, 16, 32)
# Padded tokens of a batch, as the profiles have it.
BATCH_TOKENS = {"cpu": 8192, "cuda": 65536}


class Ours:
    kernels = "portable"

    def __init__(self, directory: Path, threads: int, device: str, dtype: str):
        from model.hugging_face.directory import read_hugging_face_directory
        from model.numerics.setting import set_numerics
        from model.params.numerics import NumericsParams
        from model.runtime.distributed import Processes
        from model.runtime.torch_setup import keep_freed_memory
        from model.scoring.scorer import Scorer

        native = self.kernels == "native"
        params = NumericsParams(kernels=self.kernels, threads=threads if native else None)
        numerics = set_numerics(params)._replace(threads=threads)
        keep_freed_memory()
        self.gpt2 = read_hugging_face_directory(directory)
        tokens = BATCH_TOKENS[device]
        self.scorer = Scorer(self.gpt2, device, dtype, numerics, tokens, Processes(0, 0, 1))

    def nats(self, items: list, wording: str, batch: int) -> list[list[float]]:
        from model.tasks.wordings import WORDINGS

        return [score.nats for score in self.scorer.score(items, WORDINGS[wording], "ours")]

    def products(self, items: list, wording: str) -> tuple[float, float]:
        """Return the floating-point operations of the matrix products for `items`.

        Then those without sharing, if each ending read its whole context again.
        """
        from model.scoring.packing import batches, by_size, pack
        from model.scoring.prefix_trees import encode
        from model.tasks.wordings import WORDINGS

        config, width = self.gpt2.config, self.gpt2.config.n_embd
        questions = [WORDINGS[wording].question(item) for item in items]
        trees = encode(questions, self.gpt2.tokenizer, config.n_positions, config.bos_token_id)
        packed = [pack(batch) for batch in batches(by_size(trees), 8192, 1)]
        rows, predicting = (
            sum(len(getattr(one, name)) for one in packed) for name in ("tokens", "predicting")
        )
        block = 12 * width * width
        last = rows * 2 * width * width + predicting * (block - 2 * width * width)
        ours = rows * (config.n_layer - 1) * block + last + predicting * config.vocab_size * width
        alone = sum(
            len(tree.context) + len(ending) - 1 for tree in trees for ending in tree.endings
        )
        return 2 * ours, 2 * alone * (config.n_layer * block + config.vocab_size * width)


class Native(Ours):
    kernels = "native"


class Reference:
    """One item at a time, its four rows padded, with the whole output layer.

    After `evaluate` of karpathy/build-nanogpt, hellaswag.py.
    """

    def __init__(self, directory: Path, threads: int, device: str, dtype: str):
        import torch
        from transformers import AutoTokenizer, GPT2LMHeadModel

        torch.set_num_threads(threads)
        self.model = GPT2LMHeadModel.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )

    def nats(self, items: list, wording: str, batch: int) -> list[list[float]]:
        import torch

        results = []
        for item in items:
            context = self.tokenizer.encode(item.ctx)
            endings = [self.tokenizer.encode(f" {ending}") for ending in item.endings]
            rows = [
                (context + ending)[-(self.model.config.n_positions + 1) :] for ending in endings
            ]
            tokens, mask = torch.zeros(2, len(rows), max(map(len, rows)), dtype=torch.long)
            for number, row in enumerate(rows):
                tokens[number, : len(row)] = torch.tensor(row)
                mask[number, max(1, len(row) - len(endings[number])) : len(row)] = 1
            with torch.inference_mode():
                logits = self.model(tokens[:, :-1], use_cache=False).logits
                losses = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
                )
                results.append((losses.view(len(rows), -1) * mask[:, 1:]).sum(1).tolist())
        return results


class LmEval:
    def __init__(self, directory: Path, threads: int, device: str, dtype: str):
        import logging

        import torch
        from lm_eval.models.huggingface import HFLM

        logging.disable(logging.WARNING)
        torch.set_num_threads(threads)
        self.model = HFLM(pretrained=str(directory), device=device, dtype=dtype, batch_size=1)

    def nats(self, items: list, wording: str, batch: int) -> list[list[float]]:
        from lm_eval.api.instance import Instance

        from model.tasks.wordings import WORDINGS

        self.model.batch_size_per_gpu = batch
        questions = [WORDINGS["lm_eval"].question(item) for item in items]
        pairs = [
            (question.context, f" {ending}")
            for question in questions
            for ending in question.endings
        ]
        requests = [
            Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)
        ]
        found = [-answer[0] for answer in self.model.loglikelihood(requests, disable_tqdm=True)]
        return [found[start : start + 4] for start in range(0, len(found), 4)]


METHODS = {"ours": Ours, "native": Native, "reference": Reference, "lm-eval": LmEval}


def work(
    method: str, directory: Path, threads: int, device: str, dtype: str, items_file: Path
) -> None:
    """Answer requests, one per line of stdin, on the original stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stderr from here on
    from model.data.items import Item

    records = [json.loads(line) for line in items_file.read_text().splitlines()]
    solver = METHODS[method](directory, threads, device, dtype)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        items = [Item(**records[number]) for number in request["items"]]
        if request["batch"] is None:
            answer = {
                "products": solver.products(items, request["wording"]),
                **matmul_peaks(threads),
            }
        else:
            started = time.perf_counter()
            nats = solver.nats(items, request["wording"], request["batch"])
            seconds = time.perf_counter() - started
            answer = {"seconds": seconds, "nats": nats, "memory": peak_memory(device)}
            release_memory(device)
        print(json.dumps(answer), file=answers, flush=True)


def release_memory(device: str) -> None:
    """Give a GPU's memory that this process has cached to the other methods' processes."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()


def peak_memory(device: str = "cpu") -> float:
    """Return the peak of this process's memory in MiB; getrusage would include its parent's."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    [line] = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1024


def matmul_peaks(threads: int) -> dict[str, float]:
    """Return the FLOP/s of products of 2048 × 2048 float32 matrices, by F.linear and by oneDNN."""
    import torch

    from model.scoring.matmul import OneDNNProduct, Product

    torch.set_num_threads(threads)
    left, right = torch.randn(2, 2048, 2048)
    peaks = {}
    for name, product in (
        ("linear", Product(right, None)),
        ("onednn", OneDNNProduct(right, None, len(left))),
    ):
        seconds = []
        for _ in range(6):
            started = time.perf_counter()
            product(left)
            seconds.append(time.perf_counter() - started)
        peaks[name] = 2 * 2048**3 / min(seconds)
    torch.set_num_threads(1)
    return peaks


class WorkerDied(RuntimeError):
    """A method's process ended; the message is all it wrote to stderr."""


class Worker:
    def __init__(
        self,
        method: str,
        directory: Path,
        threads: int,
        device: str = "cpu",
        dtype: str = "float32",
        items_file: Path = ITEMS,
    ):
        started = time.perf_counter()
        # Without garbage collection during the imports, as for a stage.
        code = (
            "import gc, runpy; gc.disable(); "
            "runpy.run_module('benchmarks.scoring', run_name='__main__', alter_sys=True)"
        )
        command = [
            sys.executable,
            "-c",
            code,
            str(directory),
            "--threads",
            str(threads),
            "--device",
            device,
            "--dtype",
            dtype,
            "--items-file",
            str(items_file),
            "--worker",
            method,
        ]
        kernels = getattr(METHODS[method], "kernels", None)
        environment = (
            environment_of_libraries({"numerics.kernels": kernels}) if kernels else os.environ
        )
        environment = {**environment, "HF_HUB_OFFLINE": "1"}
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.said}
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, text=True, **pipes
        )
        self._answer()
        self.start_seconds = time.perf_counter() - started

    def ask(self, items: list[int], wording: str, batch: int | None = 0) -> dict:
        self.process.stdin.write(
            json.dumps({"items": items, "wording": wording, "batch": batch}) + "\n"
        )
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            said = self.said.read().decode()
            raise WorkerDied(f"{said}error: the process of {self.process.args[-1]} has died")
        return json.loads(line)


def compare(directory: Path, name: str, items: list[int], rounds: int, threads: int) -> str:
    """Measure and print the results; return a summary in one line."""
    workers = {method: Worker(method, directory, threads) for method in METHODS}
    trial = items[: max(4, len(items) // 4)]
    rates = {
        size: len(trial) / workers["lm-eval"].ask(trial, "lm_eval", size)["seconds"]
        for size in BATCH_SIZES
    }
    best = max(rates, key=rates.get)
    contests = [
        ("ours", "reference"),
        ("reference", "reference"),
        ("ours", "lm_eval"),
        ("native", "lm_eval"),
        ("lm-eval", "lm_eval"),
    ]
    for method, wording in contests:  # one round that does not count
        workers[method].ask(trial, wording, best)
    seconds: dict[tuple[str, str], list[float]] = {contest: [] for contest in contests}
    peaks = []
    for number in range(rounds):
        answers = {
            contest: workers[contest[0]].ask(items, contest[1], best) for contest in contests
        }
        for contest, answer in answers.items():
            seconds[contest].append(answer["seconds"])
        extent = workers["native"].ask(items, "lm_eval", None)
        peaks.append((extent["linear"], extent["onednn"]))
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(
        f"{name}: {len(items)} items, {threads} threads, {rounds} rounds; lm-eval's best batch size"
        f" is {best} {rates}"
    )
    for method, wording in contests:
        answer, rate = (
            answers[method, wording],
            len(items) / statistics.median(seconds[method, wording]),
        )
        print(
            f"  {method:9} on {wording}'s text: {rate:8.2f} examples/s, {answer['memory']:6.0f}"
            f" MiB, started in {workers[method].start_seconds:.1f} s"
        )
    needed, unshared = extent["products"]
    linear, onednn = (statistics.median(column) for column in zip(*peaks, strict=True))
    share = needed / statistics.median(seconds["ours", "lm_eval"]) / max(linear, onednn)
    print(
        f"  products: {needed / unshared:.2f} of those without sharing; peak {linear / 1e9:.0f}"
        f" GFLOP/s by F.linear, {onednn / 1e9:.0f} by oneDNN"
    )
    ratios = []
    for other, wording in (
        ("native", "lm_eval"),
        ("reference", "reference"),
        ("lm-eval", "lm_eval"),
    ):
        of_rounds = [
            theirs / ours
            for ours, theirs in zip(seconds["ours", wording], seconds[other, wording], strict=True)
        ]
        found, expected = (
            [row.index(min(row)) for row in answers[method, wording]["nats"]]
            for method in ("ours", other)
        )
        same = sum(left == right for left, right in zip(found, expected, strict=True))
        ratios.append(
            f"{statistics.median(of_rounds):.2f} × {other} ({min(of_rounds):.2f} to"
            f" {max(of_rounds):.2f})"
        )
        print(f"  same prediction as {other} by total log-likelihood: {same} of {len(items)}")
    memory = answers["ours", "lm_eval"]["memory"] / answers["lm-eval", "lm_eval"]["memory"]
    for worker in workers.values():
        worker.process.stdin.close()
        worker.process.wait()
    return (
        f"{name}: {', '.join(ratios)}, {memory:.2f} of lm-eval's memory, {share:.0%} of a matmul"
        f" peak of {max(linear, onednn) / 1e9:.0f} GFLOP/s"
    )


def random_gpt2(directory: Path, **size: int) -> None:
    """Save a random GPT-2 with a vocabulary of 50,304: of 124 million parameters, or of `size`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from model.export.hf_tokenizer import to_hugging_face
    from model.tokens.bpe import Tokenizer, read_ranks

    wheel = metadata.distribution("mlx-whisper")
    tokenizer = Tokenizer(
        read_ranks(Path(str(wheel.locate_file("mlx_whisper/assets/gpt2.tiktoken")))),
        mul_facts=False,
    )
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=tokenizer.size, **size)
    GPT2LMHeadModel(config).save_pretrained(directory)
    to_hugging_face(tokenizer, config.n_positions).save_pretrained(directory)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        help="a Hugging Face GPT-2 directory (default: measure two models)",
    )
    parser.add_argument(
        "--items",
        type=int,
        help="items to sample (default: 300 for the demonstration's model, 64 for GPT-2's size)",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    # Of a method's process only; benchmarks/gpu sets the first three.
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--items-file", type=Path, default=ITEMS, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(
            options.worker,
            options.model,
            options.threads,
            options.device,
            options.dtype,
            options.items_file,
        )
        return
    if not ITEMS.is_file():
        sys.exit(f"error: no {ITEMS.relative_to(REPOSITORY)}; make repro brings it")
    known = len(ITEMS.read_text().splitlines())

    def line(directory: Path, name: str, count: int) -> str:
        items = random.Random(0).sample(range(known), options.items or count)
        return compare(directory, name, items, options.rounds, options.threads)

    if options.model:
        lines = [line(options.model, options.model.name, 100)]
    else:
        exports = sorted(
            (REPOSITORY / "exports").glob("*/*/step_*"),
            key=lambda path: int(path.name.removeprefix("step_")),
        )
        if not exports:
            sys.exit("error: no exports; make repro makes them")
        with tempfile.TemporaryDirectory() as directory:
            random_gpt2(Path(directory))
            lines = [line(exports[-1], "demonstration", 300), line(Path(directory), "124M", 64)]
    print("scoring: " + "; ".join(lines))


if __name__ == "__main__":
    main()
