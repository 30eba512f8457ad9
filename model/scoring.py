"""Multiple-choice scoring of a Hugging Face GPT-2: the log-likelihood of each ending after its context.

On a CPU the result of an item is the same to the bit for any budget of tokens, number of threads and number of processes: see
model/scoring_network.py for why, and tests/test_scoring.py for the proof.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from tqdm import tqdm

from model.conventions import Convention, Question
from model.errors import PipelineError
from model.hf_directory import HuggingFaceGPT2
from model.item_scores import ItemScore
from model.items import Item
from model.packing import batches, by_size, pack
from model.processes import Processes
from model.scoring_network import ScoringNetwork
from model.trees import Tree, encode


class Scorer:
    """A GPT-2 on a device, with what is needed to ask it."""

    def __init__(self, gpt2: HuggingFaceGPT2, device: str, dtype: str, threads: int, batch_tokens: int, processes: Processes):
        """`threads` batches of at most `batch_tokens` padded tokens are computed at a time on a CPU, one on a GPU."""
        self._config, self._tokenizer = gpt2.config, gpt2.tokenizer
        if device == "cuda" and processes.local_rank >= torch.cuda.device_count():
            raise PipelineError(f"{processes.count} processes, and {torch.cuda.device_count()} GPUs; start one for each GPU")
        own = f"cuda:{processes.local_rank}" if device == "cuda" else device
        self._network = ScoringNetwork(gpt2.config, gpt2.tensors, own, dtype)
        self._workers = threads if device == "cpu" else 1
        self._batch_tokens, self._processes = batch_tokens, processes

    def score(self, items: list[Item], convention: Convention, label: str) -> list[ItemScore]:
        """Return the items' scores, on every process; raises PipelineError where a log-likelihood is not a number."""
        questions = [convention.question(item) for item in items]
        trees = encode(questions, self._tokenizer, self._config.n_positions, self._config.bos_token_id)
        # Dealt in order of size, so that every process has as much to do.
        mine = by_size(trees)[self._processes.rank :: self._processes.count]
        nats = np.zeros((len(items), 4))  # as many endings as an Item has
        for tree, values in self._computed(mine, label):
            nats[tree.item, tree.first : tree.first + len(values)] = values
        nats = self._processes.total(nats)
        if not np.isfinite(nats).all():
            bad = items[int(np.argwhere(~np.isfinite(nats))[0][0])]
            raise PipelineError(f"{label}: item {bad.ind}: a log-likelihood is not a finite number; are the weights?")
        scores = [_score(item, question, row.tolist()) for item, question, row in zip(items, questions, nats, strict=True)]
        for tree in trees:
            for place, ending in enumerate(tree.endings, start=tree.first):
                scores[tree.item].tokens[place] = len(ending)
                if tree.cut:
                    scores[tree.item].bytes[place] = len(self._tokenizer.decode(ending, skip_special_tokens=False).encode())
        return scores

    def _computed(self, trees: list[Tree], label: str) -> Iterator[tuple[Tree, np.ndarray]]:
        """Yield each tree with its endings' nats."""
        groups = batches(trees, self._batch_tokens, self._workers)
        with (
            ThreadPoolExecutor(self._workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
            tqdm(total=len(trees), desc=label, unit="item", disable=None if self._processes.rank == 0 else True) as progress,
        ):
            for group, values in zip(groups, pool.map(self._totals, groups), strict=True):
                start = 0
                for tree in group:
                    yield tree, values[start : start + len(tree.endings)]
                    start += len(tree.endings)
                progress.update(len(group))

    def _totals(self, group: list[Tree]) -> np.ndarray:
        """Return the nats of the group's endings, added up in float64 in order of the text."""
        packed = pack(group)
        return np.bincount(packed.ending, weights=self._network.nats(packed))


def _score(item: Item, question: Question, nats: list[float]) -> ItemScore:
    return ItemScore(
        ind=item.ind,
        source_id=item.source_id,
        label=item.label,
        nats=nats,
        tokens=[0] * len(item.endings),
        characters=[len(ending) for ending in question.endings],
        bytes=[len(f" {ending}".encode()) for ending in question.endings],
    )
