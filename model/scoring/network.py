"""GPT-2 for scoring: log-likelihoods of the tokens of trees, from a Hugging Face directory.

A tree is a context with its endings (model/scoring/prefix_trees.py). The network computes what
transformers' GPT2LMHeadModel computes; tests compare them. It is faster for three reasons:

- It reads a context once. Each ending attends to the context and to itself.
- The last block's queries and MLP, and the output layer, run only on rows whose next token is
  scored.
- On a CPU one thread computes a batch, which avoids synchronizing threads on small products.
  Products use oneDNN where it is faster than MKL (model/scoring/matmul.py).

On a CPU a tree's result is the same to the bit in every batch and every process:

- A product is computed in tiles of a fixed number of rows, in which a tree begins at a multiple of
  twelve (model/scoring/packing.py).
- Attention is computed in shapes that depend on the tree only.
- Everything else is computed row by row.
- One thread does all of it.

Letters in the shapes below, for a group of trees of one shape:

    T  trees    N  endings of a tree    C  padded context length    E  padded ending length
    H  heads    d  width of a head      W  width = H × d
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.hugging_face.directory import HuggingFaceGPT2Config
from model.scoring.matmul import OneDNNProduct, Product, onednn_is_faster
from model.scoring.packing import Group, Packed, Queries

# Rows of a block's products. On a CPU a multiple of ROWS_TOGETHER (model/scoring/packing.py).
_TILE = {"cpu": 240, "cuda": 4096}
# Rows of the output layer's products.
_OUTPUT_TILE = {"cpu": 480, "cuda": 1024}
# Tokens per part of the vocabulary. 480 rows × 1040 logits × 4 bytes = 2 MB, which fits into a
# CPU's cache until they are summed.
_OUTPUT_COLUMNS = 1040
# Limits of a sum of exponentials that needs no rescaling. float32 reaches from 1e-38 to 3e38.
_SAFE_TOTALS = (1e-25, 1e25)


class _Block(NamedTuple):
    """The weights of one transformer block. A norm is its weight (W,) and bias (W,)."""

    norm_1: tuple[Tensor, Tensor]
    # c_attn (W, 3 W) is split: the last block needs queries of fewer rows than keys and values.
    queries: Product
    keys_values: Product
    attention_out: Product
    norm_2: tuple[Tensor, Tensor]
    mlp_in: Product
    mlp_out: Product


class _Slots(NamedTuple):
    """`Queries` (model/scoring/packing.py) for every head, and the contexts' mask.

    Queries (rows, W) are read as (rows × H, d); `contexts` and `endings` are indices into those.
    `mask` is added to the contexts' scores: 0 where a row attends, else -inf.
    """

    contexts: Tensor  # (T × H × C,), or (T × H,) where only the last token of a context predicts
    endings: Tensor  # (T × H × N × E,)
    results: Tensor  # (rows × H,)
    mask: Tensor  # (1, C, C), or (T × H, 1, C) where only the last token predicts


class _Attention(NamedTuple):
    """How a group attends: where its keys, values and queries are, and the endings' masks."""

    # Indices into keys and values (rows, 2 W), read as (rows × 2 × H, d): keys and values of
    # contexts, each (T × H × C,), then keys and values of endings, each (T × H × N × E,).
    keys_values: list[Tensor]
    # The queries of all blocks but the last, and those of the last block.
    everyone: _Slots
    predictors: _Slots
    # Masks added to an ending's scores: -inf past the end of its context, and for later tokens.
    padding: Tensor  # (T × H, 1, C)
    causal: Tensor  # (1, E, E)


class ScoringNetwork:
    """A GPT-2 that returns the negative log-likelihoods of a batch's targets."""

    def __init__(
        self,
        config: HuggingFaceGPT2Config,
        tensors: dict[str, Tensor],
        device: str = "cpu",
        dtype: str = "float32",
        portable: bool = False,
    ):
        """Move the weights to `device` and lay them out for products.

        With `dtype` "bfloat16" products and attention are computed in bfloat16, all else in
        float32, as under autocast. Pass `portable` where torch's operators are those of
        model/numerics/portable.py: oneDNN is then not used.
        """
        self.device, self._dtype = torch.device(device), getattr(torch, dtype)
        self._config = config
        self._head_width = config.n_embd // config.n_head
        self._tile, self._output_tile = _TILE[self.device.type], _OUTPUT_TILE[self.device.type]
        self._onednn = (
            not portable
            and self.device.type == "cpu"
            and self._dtype == torch.float32
            and onednn_is_faster()
        )
        tensors = {name: tensor.to(self.device) for name, tensor in tensors.items()}
        self._tokens, self._positions = tensors["wte.weight"], tensors["wpe.weight"]
        self._blocks = [self._block(tensors, f"h.{layer}.") for layer in range(config.n_layer)]
        self._last_norm = tensors["ln_f.weight"], tensors["ln_f.bias"]
        # On a CPU in float32, sum exponentials by parts of the vocabulary (`_totals`).
        self._sums_exponentials = self.device.type == "cpu" and self._dtype == torch.float32
        columns = _OUTPUT_COLUMNS if self._sums_exponentials else len(self._tokens)
        # GPT-2 ties its output layer to the token embeddings (vocab, W).
        self._output = [
            self._product(part, None, self._output_tile) for part in self._tokens.split(columns)
        ]

    @torch.inference_mode()
    def nats(self, packed: Packed) -> np.ndarray:
        """Return -log p of each of the batch's targets, in nats: (scored tokens,) float64."""
        with (
            torch.autocast(self.device.type, self._dtype)
            if self._dtype != torch.float32
            else nullcontext()
        ):
            # (predictions, W), padded to whole tiles of a block
            hidden = self._predicting_states(packed)
            # each (480 or fewer, W) on a CPU
            tiles = hidden.split(self._output_tile)
            # Tile i predicts the targets from bounds[i] to bounds[i + 1], since `predicted_by` is
            # sorted. With tiles of 480, predicted_by [0, 0, 7, 481] gives bounds [0, 3, 4].
            bounds = np.searchsorted(
                packed.predicted_by, np.arange(len(tiles) + 1) * self._output_tile
            )
            parts = []
            for number, tile in enumerate(tiles):
                which = slice(bounds[number], bounds[number + 1])
                if which.start == which.stop:
                    break  # the rows from here on only pad the last tile
                # Numbers within the tile: prediction 481 is row 1 of the second tile.
                rows = self._numbers(packed.predicted_by[which] - number * self._output_tile)
                parts.append(self._of_targets(tile, rows, self._numbers(packed.targets[which])))
        return torch.cat(parts).double().cpu().numpy()

    def _of_targets(self, hidden: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Return -log p of each target: (scored tokens,) float32.

        `hidden` is (tile rows, W), `rows` and `targets` are (scored tokens,): row rows[i] of
        `hidden` predicts token targets[i]. Computes -log p = log(Σ exp(logits)) - logits[target].
        """
        if self._sums_exponentials:
            # (tile rows,)
            totals = self._totals(hidden)
            # The target's logit is one dot product: (scored tokens, W) summed over W.
            nats = totals.log()[rows] - (hidden[rows] * self._tokens[targets]).sum(1)
            # (scored tokens,) bool. Each row decides for itself: its result must not depend on the
            # other rows of the tile.
            safe = ((totals > _SAFE_TOTALS[0]) & (totals < _SAFE_TOTALS[1]))[rows]
            if safe.all():
                return nats
        # (tile rows, vocab). log_softmax is faster than logsumexp although it computes every
        # log-probability: logsumexp does not keep a row in the cache.
        logits = torch.cat([part(hidden).float() for part in self._output], dim=1)
        exact = -F.log_softmax(logits, dim=-1)[rows, targets]
        return torch.where(safe, nats, exact) if self._sums_exponentials else exact

    def _totals(self, hidden: Tensor) -> Tensor:
        """Return each row's sum of exp(logits): (rows,) float32, in half of log_softmax's time.

        The hidden states are scaled by log2(e), since exp(x) = 2^(x log2(e)) and torch computes
        exp2 faster than exp. No maximum is subtracted; `_of_targets` checks the range instead.
        """
        scaled = hidden * math.log2(math.e)
        totals = torch.zeros(len(hidden))
        for part in self._output:
            # (rows, 1040 columns of the vocabulary), summed while they are in the cache
            totals += part(scaled).exp2_().sum(1)
        return totals

    def _predicting_states(self, packed: Packed) -> Tensor:
        """Return the normed last hidden states of the predicting rows, padded to whole tiles."""
        # (rows, W)
        x = (
            self._tokens[self._padded(packed.tokens, self._tile)]
            + self._positions[self._padded(packed.positions, self._tile)]
        )
        # (predictions,): numbers of rows of x
        predicting = self._padded(packed.predicting, self._tile)
        groups = [self._attention(group) for group in packed.groups]
        for block in self._blocks[:-1]:
            normed = self._norm(x, block.norm_1)
            x = self._run(block, x, normed, normed, groups, [group.everyone for group in groups])
        # The last block needs keys and values of every row, but queries of predicting rows only.
        block = self._blocks[-1]
        normed = self._norm(x, block.norm_1)
        x = self._run(
            block,
            x[predicting],
            normed,
            normed[predicting],
            groups,
            [group.predictors for group in groups],
        )
        return self._norm(x, self._last_norm)

    def _run(
        self,
        block: _Block,
        x: Tensor,
        keyed: Tensor,
        asking: Tensor,
        groups: list[_Attention],
        slots: list[_Slots],
    ) -> Tensor:
        """Return x (queries, W) after the block.

        `asking` (queries, W) are x after the first norm; they attend to `keyed` (rows, W).
        """
        # (rows, 2 W): a row's keys, then its values
        keys_values = self._by_tiles(block.keys_values, keyed)
        # (queries, W)
        queries = self._by_tiles(block.queries, asking)
        # of each group (its queries, W), in order of the rows
        attended = [
            self._attend(queries, keys_values, *of_group)
            for of_group in zip(groups, slots, strict=True)
        ]
        # Rows that pad the last tile belong to no group; their attention is 0.
        filling = len(x) - sum(map(len, attended))
        attended.append(queries.new_zeros(filling, queries.shape[1]))

        # One tile passes through all three products while it is in the cache.
        def rest(x: Tensor, attended: Tensor) -> Tensor:
            x = x + block.attention_out(attended)
            return x + block.mlp_out(_gelu(block.mlp_in(self._norm(x, block.norm_2))))

        return self._by_tiles(rest, x, torch.cat(attended))

    def _attend(
        self, queries: Tensor, keys_values: Tensor, group: _Attention, slots: _Slots
    ) -> Tensor:
        """Return the attention's output for the group's queries: (the group's queries, W).

        `queries` (queries, W) and `keys_values` (rows, 2 W) are the whole batch's. A context
        attends causally to itself; an ending attends to its context and causally to itself:

            context a b c, ending x y      a b c x y
                                        a  +
                                        b  + +
                                        c  + + +
                                        x  + + + +
                                        y  + + + + +
        """
        width = self._head_width
        trees_heads, _, context = group.padding.shape
        ending = group.causal.shape[-1]
        # (rows × 2 × H, d)
        rows = keys_values.view(-1, width)
        # Contexts (T × H × C, d), endings (T × H × N × E, d). Heads become part of the batch.
        context_keys, context_values, ending_keys, ending_values = (
            rows.index_select(0, slot) for slot in group.keys_values
        )
        # (T × H, C, d)
        context_keys, context_values = (
            part.view(trees_heads, context, width) for part in (context_keys, context_values)
        )
        # (T × H × N, E, d): endings do not see each other
        ending_keys, ending_values = (
            part.view(-1, ending, width) for part in (ending_keys, ending_values)
        )
        # (T × H, C, d), or (T × H, 1, d) in the last block
        asking = (
            queries.view(-1, width).index_select(0, slots.contexts).view(trees_heads, -1, width)
        )
        # mask + queries · keys: (T × H, C or 1, C)
        scores = torch.baddbmm(slots.mask, asking, context_keys.transpose(1, 2))
        # (T × H, C or 1, d)
        of_contexts = torch.bmm(_softmax(scores), context_values)

        # (T × H × N × E, d)
        asking = queries.view(-1, width).index_select(0, slots.endings)
        # All endings of a tree share its context's keys: (T × H, N × E, C).
        to_context = torch.baddbmm(
            group.padding, asking.view(trees_heads, -1, width), context_keys.transpose(1, 2)
        )
        # Each ending has its own keys: (T × H × N, E, E).
        to_ending = torch.baddbmm(
            group.causal, asking.view(-1, ending, width), ending_keys.transpose(1, 2)
        )
        # One softmax over the context and the ending together: (T × H, N × E, C + E).
        weights = _softmax(torch.cat([to_context, to_ending.view(trees_heads, -1, ending)], dim=-1))
        # (T × H × N, E, d), then as (T × H, N × E, d) with the context's share added
        of_endings = torch.bmm(
            weights.view(-1, ending, context + ending)[..., context:], ending_values
        )
        of_endings = torch.baddbmm(
            of_endings.view(trees_heads, -1, width), weights[..., :context], context_values
        )
        # (T × H × (C or 1) + T × H × N × E, d) by slots, then (rows × H, d) by rows, then (rows, W)
        slots_of_rows = torch.cat([of_contexts.view(-1, width), of_endings.view(-1, width)])
        return slots_of_rows.index_select(0, slots.results).view(-1, queries.shape[1])

    def _attention(self, group: Group) -> _Attention:
        """Return the group's indices for every head, and its masks, on the device."""
        heads = self._config.n_head
        _, context = group.everyone.contexts.shape
        ending = group.everyone.endings.shape[-1]
        # Row r of (rows, 2 W) is rows 2 H r to 2 H r + 2 H - 1 of (rows × 2 × H, d): H keys, then
        # H values. With 12 heads, row 5 has its keys at 120 … 131, its values at 132 … 143.
        # (T, H, C) and (T, H, N × E)
        keys = [
            slots.reshape(len(slots), 1, -1) * 2 * heads + np.arange(heads)[:, None]
            for slots in (group.everyone.contexts, group.everyone.endings)
        ]
        # (T, 1, C) bool
        past_end = torch.arange(context) >= torch.from_numpy(group.lengths)[:, None, None]
        padding = (
            torch.zeros(past_end.shape)
            .masked_fill_(past_end, -math.inf)
            .repeat_interleave(heads, 0)
            .to(self.device)
        )
        return _Attention(
            keys_values=[self._numbers(slots + values) for slots in keys for values in (0, heads)],
            everyone=self._slots(group.everyone, self._causal(context)),
            predictors=self._slots(group.predictors, padding),
            padding=padding,
            causal=self._causal(ending),
        )

    def _causal(self, length: int) -> Tensor:
        """Return (1, length, length): -inf above the diagonal, 0 elsewhere."""
        return torch.full((1, length, length), -math.inf).triu_(1).to(self.device)

    def _slots(self, queries: Queries, mask: Tensor) -> _Slots:
        """Return the indices of `queries`, one for each head.

        A place in (T, C) becomes H places in (T, H, C). With H = 2 and C = 16, place 18 is slot 2
        of tree 1: for its heads 0 and 1 it becomes (1 × 2 + 0) × 16 + 2 = 34 and
        (1 × 2 + 1) × 16 + 2 = 50. Places in (T, N × E) follow those of the contexts and become
        places in (T, H, N × E) in the same way.
        """
        heads = self._config.n_head
        # (H, 1)
        head = np.arange(heads)[:, None]
        # T, and C or 1
        trees, contexts = queries.contexts.shape
        # N × E
        endings = queries.endings[0].size
        # (rows, 1) each; of_endings is negative where the place is a context's
        of_contexts, of_endings = (
            queries.results[:, None],
            queries.results[:, None] - trees * contexts,
        )
        # (rows, H), since head.T is (1, H)
        result_of_context = (
            of_contexts // contexts * heads + head.T
        ) * contexts + of_contexts % contexts
        result_of_ending = (of_endings // endings * heads + head.T) * endings + of_endings % endings
        return _Slots(
            contexts=self._numbers(queries.contexts.reshape(trees, 1, -1) * heads + head),
            endings=self._numbers(queries.endings.reshape(trees, 1, -1) * heads + head),
            results=self._numbers(
                np.where(
                    of_endings < 0, result_of_context, trees * heads * contexts + result_of_ending
                )
            ),
            mask=mask,
        )

    def _block(self, tensors: dict[str, Tensor], prefix: str) -> _Block:
        """Return the weights of the block whose tensors' names begin with `prefix`."""
        width = self._config.n_embd
        of = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        # GPT-2 stores (in, out), Product takes (out, in). Rows of (3 W, W): queries, keys, values.
        attention, bias = of["attn.c_attn.weight"].T, of["attn.c_attn.bias"]
        # Attention's 1 / √d. Scaling the weights once saves a pass over all scores.
        scale = 1 / math.sqrt(self._head_width)
        return _Block(
            norm_1=(of["ln_1.weight"], of["ln_1.bias"]),
            queries=self._product(attention[:width] * scale, bias[:width] * scale, self._tile),
            keys_values=self._product(attention[width:], bias[width:], self._tile),
            attention_out=self._product(
                of["attn.c_proj.weight"].T, of["attn.c_proj.bias"], self._tile
            ),
            norm_2=(of["ln_2.weight"], of["ln_2.bias"]),
            mlp_in=self._product(of["mlp.c_fc.weight"].T, of["mlp.c_fc.bias"], self._tile),
            mlp_out=self._product(of["mlp.c_proj.weight"].T, of["mlp.c_proj.bias"], self._tile),
        )

    def _product(self, weight: Tensor, bias: Tensor | None, rows: int) -> Product:
        if self._onednn:
            return OneDNNProduct(weight, bias, rows)
        return Product(weight.to(self._dtype), bias if bias is None else bias.to(self._dtype))

    def _norm(self, x: Tensor, weight_bias: tuple[Tensor, Tensor]) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *weight_bias, self._config.layer_norm_epsilon)

    def _by_tiles(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """Return `function` of tensors (rows, …) computed tile by tile, concatenated again.

        A CPU's matrix product adds in an order that depends on the number of rows, so that number
        is always the same.
        """
        return torch.cat(
            [
                function(*tiles)
                for tiles in zip(*(tensor.split(self._tile) for tensor in rows), strict=True)
            ]
        )

    def _padded(self, numbers: np.ndarray, multiple: int) -> Tensor:
        """Return `numbers` on the device, filled with zeros up to a whole `multiple`."""
        return self._numbers(np.pad(numbers, (0, -len(numbers) % multiple)))

    def _numbers(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.reshape(-1)).to(self.device)


def _softmax(scores: Tensor) -> Tensor:
    # In float32 where scores are bfloat16, as autocast computes it.
    return torch.softmax(scores, dim=-1, dtype=torch.float32)


def _gelu(x: Tensor) -> Tensor:
    """Return GPT-2's GELU of `x`, its approximation by tanh, in half of F.gelu's time on a CPU.

    gelu(x) = x / 2 (1 + tanh z) = x sigmoid(2 z), where z = √(2 / π) (x + 0.044715 x³).
    Source: Hendrycks and Gimpel 2016, arXiv 1606.08415.
    """
    if x.is_cuda or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    # 2 z = (0.044715 x² + 1) x × 2 √(2 / π), in place to save memory
    double_z = (x * x).mul_(0.044715).add_(1).mul_(x).mul_(2 * math.sqrt(2 / math.pi))
    return double_z.sigmoid_().mul_(x)
