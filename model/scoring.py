"""Multiple-choice scoring of a Hugging Face GPT-2: the log-likelihood of each ending after its context.

A context is encoded once and shared by its endings: a row holds context, ending, ending, …, each ending attends to the
context and itself, and positions continue from the context. The output layer runs only where an ending is predicted.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import GPT2LMHeadModel, PreTrainedTokenizerBase

from model.items import Item
from model.stats import rate

_OUTPUT_ROWS = 1024  # rows of logits at a time: 4 MiB for a vocabulary of 1,024, 200 MiB for GPT-2's


class ItemScore(NamedTuple):
    """One item's result; lists run over its endings: negative log-likelihood in nats, tokens, characters, bytes.

    Characters are the ending's own, as lm-evaluation-harness counts them; tokens and bytes include its leading space,
    and count only what was scored of an ending longer than the model's context.
    """

    ind: int
    source_id: str
    label: int
    nats: list[float]
    tokens: list[int]
    characters: list[int]
    bytes: list[int]


class _Row(NamedTuple):
    """A context and the endings that share it; `item` and `first` say where the results belong."""

    item: int
    first: int
    context: list[int]
    endings: list[list[int]]
    cut: bool = False  # whether the ending lost its start

    @property
    def length(self) -> int:
        # The last token of an ending is predicted and never read.
        return len(self.context) + sum(len(ending) - 1 for ending in self.endings)


def score_items(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerBase, items: list[Item], batch_tokens: int, label: str
) -> list[ItemScore]:
    """Score every item's endings. The text is the reference script's: `ctx`, then a space and the ending.

    Source: render_example in karpathy/build-nanogpt, hellaswag.py. Runs on the model's device.
    """
    rows = [row for number, item in enumerate(items) for row in _rows(number, item, model, tokenizer)]
    scores = [_empty_score(item) for item in items]
    with tqdm(total=len(rows), desc=label, unit="item", disable=None) as progress:
        for batch in _batches(rows, batch_tokens):
            for row, nats in zip(batch, _score_batch(model, batch), strict=True):
                for place, (ending, value) in enumerate(zip(row.endings, nats, strict=True), start=row.first):
                    scores[row.item].nats[place] = value
                    scores[row.item].tokens[place] = len(ending)
                    if row.cut:
                        scores[row.item].bytes[place] = len(tokenizer.decode(ending).encode())
            progress.update(len(batch))
    return scores


def summarize(scores: list[ItemScore]) -> dict:
    """Return the metrics of scored items.

    acc and acc_norm as the reference script defines them (lowest total, and lowest mean per token);
    acc_norm_characters normalizes by the ending's characters, as lm-evaluation-harness does; gold_bits_per_byte is the
    total of the true endings' bits over the total of their bytes.
    """
    nats = np.array([score.nats for score in scores])
    labels = np.array([score.label for score in scores])
    clusters = [score.source_id for score in scores]

    def accuracy(values: np.ndarray) -> dict:
        return rate(values.argmin(axis=1) == labels, clusters)._asdict()

    gold = np.arange(len(scores)), labels
    gold_bytes = np.array([score.bytes for score in scores])[gold].sum()
    return {
        "acc": accuracy(nats),
        "acc_norm": accuracy(nats / np.array([score.tokens for score in scores])),
        "acc_norm_characters": accuracy(nats / np.array([score.characters for score in scores])),
        "gold_bits_per_byte": float(nats[gold].sum() / np.log(2) / gold_bytes),
    }


def _rows(number: int, item: Item, model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerBase) -> list[_Row]:
    """Encode one item: one row, or, where it exceeds the model's context, a row of its own for each ending.

    The rule of lm-evaluation-harness: of context and ending the last `n_positions` + 1 tokens are kept, so the context
    loses its start; an empty context becomes end of text.
    """
    limit = model.config.n_positions
    context = tokenizer.encode(item.ctx, verbose=False) or [tokenizer.eos_token_id]
    endings = [tokenizer.encode(f" {ending}", verbose=False) for ending in item.endings]
    if len(context) + max(map(len, endings)) - 1 <= limit:
        return [_Row(number, 0, context, endings)]
    rows = []
    for place, ending in enumerate(endings):
        kept = (context + ending)[-(limit + 1) :]
        scored = min(len(ending), len(kept) - 1)
        rows.append(_Row(number, place, kept[:-scored], [kept[-scored:]], cut=scored < len(ending)))
    return rows


def _empty_score(item: Item) -> ItemScore:
    return ItemScore(
        ind=item.ind,
        source_id=item.source_id,
        label=item.label,
        nats=[0.0] * len(item.endings),
        tokens=[0] * len(item.endings),
        characters=[len(ending) for ending in item.endings],
        bytes=[len(f" {ending}".encode()) for ending in item.endings],
    )


def _batches(rows: list[_Row], batch_tokens: int) -> list[list[_Row]]:
    """Group rows of similar length so that rows × longest row stays within `batch_tokens`; longest first."""
    batches: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: -row.length):
        if batches and batches[-1][0].length * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


@torch.inference_mode()
def _score_batch(model: GPT2LMHeadModel, batch: list[_Row]) -> list[list[float]]:
    """Return the endings' negative log-likelihoods in nats, for each row of the batch."""
    length = batch[0].length
    tokens = torch.zeros(len(batch), length, dtype=torch.long)
    positions = torch.zeros(len(batch), length, dtype=torch.long)
    allowed = torch.eye(length, dtype=torch.bool).repeat(len(batch), 1, 1)  # padding attends to itself: no empty softmax
    predict_rows, predict_places, targets = [], [], []
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    for index, row in enumerate(batch):
        shared = len(row.context)
        tokens[index, :shared] = torch.tensor(row.context)
        positions[index, :shared] = torch.arange(shared)
        allowed[index, :shared, :shared] = causal[:shared, :shared]
        start = shared
        for ending in row.endings:
            stop = start + len(ending) - 1
            tokens[index, start:stop] = torch.tensor(ending[:-1], dtype=torch.long)
            positions[index, start:stop] = torch.arange(shared, shared + stop - start)
            allowed[index, start:stop, :shared] = True
            allowed[index, start:stop, start:stop] = causal[: stop - start, : stop - start]
            predict_rows += [index] * len(ending)
            predict_places += [shared - 1, *range(start, stop)]
            targets += ending
            start = stop

    device = next(model.parameters()).device
    mask = torch.zeros(len(batch), 1, length, length).masked_fill_(~allowed[:, None], torch.finfo(torch.float32).min)
    hidden = model.transformer(
        tokens.to(device), attention_mask=mask.to(device), position_ids=positions.to(device), use_cache=False
    ).last_hidden_state[predict_rows, predict_places]
    nats = _token_nats(model, hidden, torch.tensor(targets, device=device)).cpu().tolist()
    results, taken = [], 0
    for row in batch:
        results.append([])
        for ending in row.endings:
            results[-1].append(sum(nats[taken : taken + len(ending)]))
            taken += len(ending)
    return results


def _token_nats(model: GPT2LMHeadModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return -log p of each target, float64 (rows,), from hidden states (rows, width)."""
    parts = []
    for start in range(0, len(targets), _OUTPUT_ROWS):
        logits = model.lm_head(hidden[start : start + _OUTPUT_ROWS]).float()
        gold = logits.gather(1, targets[start : start + _OUTPUT_ROWS, None])[:, 0]
        parts.append((logits.logsumexp(dim=1) - gold).double())
    return torch.cat(parts)
