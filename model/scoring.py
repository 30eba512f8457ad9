"""Multiple-choice scoring of a Hugging Face GPT-2: the log-likelihood of each ending after its context.

A context is encoded once and shared by its endings: a row holds context, ending, ending, …, each ending attends to the
context and itself, and positions continue from the context. The output layer runs only where an ending is predicted.
"""

from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from model.item_scores import ItemScore
from model.items import Item

_OUTPUT_ROWS = 1024  # rows of logits at a time: 4 MiB for a vocabulary of 1,024, 200 MiB for GPT-2's


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
    rows = _rows(items, model.config.n_positions, tokenizer)
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


def _rows(items: list[Item], limit: int, tokenizer: PreTrainedTokenizerBase) -> list[_Row]:
    """Encode the items: a row each, or, where one exceeds the model's `limit`, a row for each of its endings.

    The rule of lm-evaluation-harness: of context and ending the last `limit` + 1 tokens are kept, so the context loses
    its start; an empty context becomes end of text.
    """
    texts = [text for item in items for text in (item.ctx, *(f" {ending}" for ending in item.endings))]
    encoded = iter(tokenizer(texts, verbose=False)["input_ids"])
    rows = []
    for number, item in enumerate(items):
        context = next(encoded) or [tokenizer.eos_token_id]
        endings = [next(encoded) for _ in item.endings]
        if len(context) + max(map(len, endings)) - 1 <= limit:
            rows.append(_Row(number, 0, context, endings))
            continue
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


class _Packed(NamedTuple):
    """A batch as tensors; int64 (rows, length) tokens and positions, bool (rows, length, length) what may be attended to.

    `predict` are the row and place of each hidden state that predicts the next of `targets`.
    """

    tokens: Tensor
    positions: Tensor
    allowed: Tensor
    predict: tuple[list[int], list[int]]
    targets: list[int]


def _pack(batch: list[_Row]) -> _Packed:
    shape = len(batch), batch[0].length
    tokens, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    allowed = torch.eye(shape[1], dtype=torch.bool).repeat(len(batch), 1, 1)  # padding sees itself: no empty softmax
    causal = torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
    rows, places, targets = [], [], []
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
            rows += [index] * len(ending)
            places += [shared - 1, *range(start, stop)]
            targets += ending
            start = stop
    return _Packed(tokens, positions, allowed, (rows, places), targets)


@torch.inference_mode()
def _score_batch(model: GPT2LMHeadModel, batch: list[_Row]) -> list[list[float]]:
    """Return the endings' negative log-likelihoods in nats, for each row of the batch."""
    device = next(model.parameters()).device
    packed = _pack(batch)
    mask = torch.zeros(packed.allowed.shape, device=device)
    mask.masked_fill_(~packed.allowed.to(device), torch.finfo(mask.dtype).min)
    hidden = model.transformer(
        packed.tokens.to(device),
        attention_mask=mask[:, None],
        position_ids=packed.positions.to(device),
        use_cache=False,
    ).last_hidden_state[packed.predict]
    nats = iter(_token_nats(model, hidden, torch.tensor(packed.targets, device=device)).tolist())
    return [[sum(islice(nats, len(ending))) for ending in row.endings] for row in batch]


def _token_nats(model: GPT2LMHeadModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return -log p of each target, float64 (rows,), from hidden states (rows, width)."""
    parts = []
    for start in range(0, len(targets), _OUTPUT_ROWS):
        logits = model.lm_head(hidden[start : start + _OUTPUT_ROWS]).float()
        parts.append(F.cross_entropy(logits, targets[start : start + _OUTPUT_ROWS], reduction="none").double())
    return torch.cat(parts)
