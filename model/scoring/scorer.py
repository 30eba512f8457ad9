"""Multiple-choice scoring with a GPT-2: the log-likelihood of each ending after its context.

On a CPU an item's result is the same to the bit for every batch size and every number of threads
and processes. model/scoring/network.py explains why; tests/model/scoring/test_scoring.py tests it.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from tqdm import tqdm

from common.errors import PipelineError
from model.data.items import Item
from model.hugging_face.directory import HuggingFaceGPT2
from model.numerics.setting import Numerics
from model.runtime.distributed import Processes
from model.scoring.network import ScoringNetwork
from model.scoring.packing import batches, by_size, pack, padded_tokens
from model.scoring.prefix_trees import Tree, encode
from model.tasks.item_scores import ItemScore
from model.tasks.wordings import Question, Wording


class Scorer:
    """A GPT-2 on a device, with its tokenizer and its limits of memory, threads and processes."""

    def __init__(
        self,
        gpt2: HuggingFaceGPT2,
        device: str,
        dtype: str,
        numerics: Numerics,
        batch_tokens: int,
        processes: Processes,
    ):
        """Move the network to `device`; a batch has at most `batch_tokens` padded tokens.

        A CPU computes one batch in each thread of `numerics` at a time, a GPU one batch in all.
        Raises PipelineError if there are fewer GPUs than processes on this machine.
        """
        self._config, self._tokenizer = gpt2.config, gpt2.tokenizer
        if device == "cuda" and processes.local_rank >= torch.cuda.device_count():
            raise PipelineError(
                f"{processes.count} processes, and {torch.cuda.device_count()} GPUs; start one "
                "for each GPU"
            )
        own = f"cuda:{processes.local_rank}" if device == "cuda" else device
        self._network = ScoringNetwork(gpt2.config, gpt2.tensors, own, dtype, numerics.portable)
        self._workers = numerics.threads if device == "cpu" else 1
        self._batch_tokens, self._processes = batch_tokens, processes
        # Padded tokens that fit into memory; halved each time a batch does not.
        self._fitting = batch_tokens

    def score(self, items: list[Item], wording: Wording, label: str) -> list[ItemScore]:
        """Return the scores of all items, in order; every process returns the same.

        `label` names the task in messages and in the progress bar. Raises PipelineError if a
        log-likelihood is not finite, or if one item alone does not fit into memory.
        """
        questions = [wording.question(item) for item in items]
        trees = encode(
            questions, self._tokenizer, self._config.n_positions, self._config.bos_token_id
        )
        # Every n-th tree in order of size, so that each process has about the same work.
        mine = by_size(trees)[self._processes.rank :: self._processes.count]
        most = max(len(question.endings) for question in questions)
        # (items, most endings): places of other processes and beyond an item's endings stay 0, so
        # that the sum over the processes is the table.
        nats = np.zeros((len(items), most))
        for tree, values in self._computed(mine, label):
            nats[tree.item, tree.first : tree.first + len(values)] = values
        nats = self._processes.total(nats)
        if not np.isfinite(nats).all():
            bad = items[int(np.argwhere(~np.isfinite(nats))[0][0])]
            raise PipelineError(
                f"{label}: item {bad.ind}: a log-likelihood is not a finite number; check the "
                "export for NaN weights"
            )
        scores = [
            _score(item, question, row[: len(question.endings)].tolist())
            for item, question, row in zip(items, questions, nats, strict=True)
        ]
        for tree in trees:
            for place, ending in enumerate(tree.endings, start=tree.first):
                scores[tree.item].tokens[place] = len(ending)
                # A cut ending counts the bytes that were scored, not those of the whole text.
                if tree.cut:
                    scores[tree.item].bytes[place] = len(
                        self._tokenizer.decode(ending, skip_special_tokens=False).encode()
                    )
        return scores

    def _computed(self, trees: list[Tree], label: str) -> Iterator[tuple[Tree, np.ndarray]]:
        """Yield each tree with its endings' totals in nats, (endings,), largest trees first."""
        groups = batches(trees, self._batch_tokens, self._workers)
        with (
            # One torch thread in each worker: batches, not operators, are computed in parallel.
            ThreadPoolExecutor(
                self._workers, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool,
            tqdm(
                total=len(trees),
                desc=label,
                unit="item",
                disable=None if self._processes.rank == 0 else True,
            ) as progress,
        ):
            for group, values in zip(
                groups, pool.map(lambda group: self._totals(group, label), groups), strict=True
            ):
                start = 0
                for tree in group:
                    yield tree, values[start : start + len(tree.endings)]
                    start += len(tree.endings)
                progress.update(len(group))

    def _totals(self, group: list[Tree], label: str) -> np.ndarray:
        """Return the nats of the group's endings; halve this and later batches if memory runs out.

        Raises PipelineError if a single tree does not fit.
        """
        tokens = sum(map(padded_tokens, group))
        if len(group) == 1 or tokens <= self._fitting:
            nats = self._nats(group)
            if nats is not None:
                return nats
            if len(group) == 1:
                raise PipelineError(
                    f"{label}: out of memory for one item of {tokens} padded tokens; free some, "
                    "have fewer computed at a time "
                    "(PIPELINE_THREADS, --threads), or take a larger machine"
                )
            self._fitting = min(self._fitting, tokens // 2)
            say = (
                f"warning: {label}: out of memory for a batch of {tokens} padded tokens; "
                f"goes on with {self._fitting}"
            )
            tqdm.write(say, file=sys.stderr)
        middle = len(group) // 2
        return np.concatenate(
            [self._totals(half, label) for half in (group[:middle], group[middle:])]
        )

    def _nats(self, group: list[Tree]) -> np.ndarray | None:
        """Return each ending's total in nats, (endings,) float64, or None if memory runs out.

        Tokens are added in order of the text, so that the sum does not depend on the batch.
        """
        try:
            packed = pack(group)
            # (endings of the group,): bincount adds the nats of tokens with the same ending.
            return np.bincount(packed.ending, weights=self._network.nats(packed))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        # After the except clause: inside it, the exception's frames still hold the batch's tensors.
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        return None


def _is_out_of_memory(error: Exception) -> bool:
    """Return True if memory ran out.

    torch's CPU allocator and C++ raise a RuntimeError that differs from others in its message only.
    """
    # Of torch's CPU allocator, of C++, of a GPU's driver, and of cuBLAS's own workspace.
    words = (
        "can't allocate memory",
        "bad_alloc",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        each in str(error) for each in words
    )


def _score(item: Item, question: Question, nats: list[float]) -> ItemScore:
    # Numbers of tokens are filled in by the caller, which knows the trees.
    return ItemScore(
        ind=item.ind,
        source_id=item.source_id,
        label=item.label,
        nats=nats,
        tokens=[0] * len(item.endings),
        characters=[len(ending) for ending in question.endings],
        bytes=[len(f" {ending}".encode()) for ending in question.endings],
    )
