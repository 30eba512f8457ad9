"""GPT-2 for scoring: log-likelihoods of tokens on trees, from a Hugging Face directory.

It computes what transformers' GPT2LMHeadModel computes; tests compare them. It is faster because:

- a context is read once, and its endings attend to it and to themselves;
- the last block's queries and MLP, and the output layer, are computed only for rows whose next
  token is scored;
- on a CPU one thread computes each batch, which saves synchronizing small products, and with native
  kernels products go through oneDNN where it is faster than MKL (AMD with AVX-512).

On a CPU a tree's result is the same to the bit, whatever else is in the batch and whichever process
computes it: products are computed in tiles of a fixed number of rows, in which a tree begins at a
multiple of twelve (model/scoring/packing.py), attention in shapes that depend on the tree only,
everything else row by row, and all in one thread.
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

# Rows of a tile; on a CPU a multiple of ROWS_TOGETHER (model/scoring/packing.py).
_TILE = {"cpu": 240, "cuda": 4096}
# The output layer's.
_OUTPUT_TILE = {"cpu": 480, "cuda": 1024}
# Tokens of the vocabulary whose logits for a tile, 2 MB, stay near a CPU that sums them.
_OUTPUT_COLUMNS = 1040
# Between these limits a row's sum of exponentials is far from float32's limits.
_SAFE_TOTALS = (1e-25, 1e25)


class _Block(NamedTuple):
    norm_1: tuple[Tensor, Tensor]
    queries: Product
    keys_values: Product
    attention_out: Product
    norm_2: tuple[Tensor, Tensor]
    mlp_in: Product
    mlp_out: Product


class _Slots(NamedTuple):
    """`Queries` for every head, as rows of (rows × heads, head width), and the contexts' mask.

    The mask is added to scores.
    """

    contexts: Tensor  # (trees × heads × (C or 1),)
    endings: Tensor  # (trees × heads × N × E,)
    results: Tensor  # (rows × heads,)
    mask: Tensor  # (1, C, C) or (trees × heads, 1, C)


class _Attention(NamedTuple):
    """A group's keys and values, as rows of (rows × 2 × heads, head width), and endings' masks."""

    keys_values: list[Tensor]  # of contexts the keys, the values, of endings the keys, the values
    everyone: _Slots
    predictors: _Slots
    padding: Tensor  # (trees × heads, 1, C)
    causal: Tensor  # (1, E, E)


class ScoringNetwork:
    def __init__(
        self,
        config: HuggingFaceGPT2Config,
        tensors: dict[str, Tensor],
        device: str = "cpu",
        dtype: str = "float32",
        portable: bool = False,
    ):
        """Prepare the weights; with `dtype` "bfloat16", products and attention are computed in it.

        All else stays in float32, as under autocast. With `portable`, torch's operators are those
        of model/numerics/portable.py, and oneDNN is not used.
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
        self._sums_exponentials = self.device.type == "cpu" and self._dtype == torch.float32
        columns = _OUTPUT_COLUMNS if self._sums_exponentials else len(self._tokens)
        self._output = [
            self._product(part, None, self._output_tile) for part in self._tokens.split(columns)
        ]

    @torch.inference_mode()
    def nats(self, packed: Packed) -> np.ndarray:
        """Return -log p of each of the batch's targets, float64 (scored tokens,)."""
        with (
            torch.autocast(self.device.type, self._dtype)
            if self._dtype != torch.float32
            else nullcontext()
        ):
            hidden = self._predicting_states(packed)
            tiles = hidden.split(self._output_tile)
            bounds = np.searchsorted(
                packed.predicted_by, np.arange(len(tiles) + 1) * self._output_tile
            )
            parts = []
            for number, tile in enumerate(tiles):
                which = slice(bounds[number], bounds[number + 1])
                if which.start == which.stop:
                    break  # what follows only fills the last tile of the block
                rows = self._numbers(packed.predicted_by[which] - number * self._output_tile)
                parts.append(self._of_targets(tile, rows, self._numbers(packed.targets[which])))
        return torch.cat(parts).double().cpu().numpy()

    def _of_targets(self, hidden: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Return -log p of each target (scored tokens,), which row `rows` of `hidden` predicts."""
        if self._sums_exponentials:
            totals = self._totals(hidden)
            nats = totals.log()[rows] - (hidden[rows] * self._tokens[targets]).sum(1)
            # Each row decides for itself, whatever else is in the tile.
            safe = ((totals > _SAFE_TOTALS[0]) & (totals < _SAFE_TOTALS[1]))[rows]
            if safe.all():
                return nats
        # log_softmax is faster than logsumexp, though only these values are used: logsumexp does
        # not keep a row in the cache.
        logits = torch.cat([part(hidden).float() for part in self._output], dim=1)
        exact = -F.log_softmax(logits, dim=-1)[rows, targets]
        return torch.where(safe, nats, exact) if self._sums_exponentials else exact

    def _totals(self, hidden: Tensor) -> Tensor:
        """Return each row's sum of the logits' exponentials, (rows,), in half of the time.

        Logits are taken times log2(e), so that exp(x) is 2^logit, which torch computes faster.
        """
        scaled = hidden * math.log2(math.e)
        totals = torch.zeros(len(hidden))
        for part in self._output:
            totals += part(scaled).exp2_().sum(1)
        return totals

    def _predicting_states(self, packed: Packed) -> Tensor:
        x = (
            self._tokens[self._padded(packed.tokens, self._tile)]
            + self._positions[self._padded(packed.positions, self._tile)]
        )
        predicting = self._padded(packed.predicting, self._tile)
        groups = [self._attention(group) for group in packed.groups]
        for block in self._blocks[:-1]:
            normed = self._norm(x, block.norm_1)
            x = self._run(block, x, normed, normed, groups, [group.everyone for group in groups])
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
        """Return x (rows, width) after the block; rows `asking` attend to `keyed`, both normed."""
        keys_values = self._by_tiles(block.keys_values, keyed)
        queries = self._by_tiles(block.queries, asking)
        attended = [
            self._attend(queries, keys_values, *of_group)
            for of_group in zip(groups, slots, strict=True)
        ]
        filling = len(x) - sum(map(len, attended))  # rows of the last tile that are no token's
        attended.append(queries.new_zeros(filling, queries.shape[1]))

        def rest(x: Tensor, attended: Tensor) -> Tensor:
            x = x + block.attention_out(attended)
            return x + block.mlp_out(_gelu(block.mlp_in(self._norm(x, block.norm_2))))

        return self._by_tiles(rest, x, torch.cat(attended))

    def _attend(
        self, queries: Tensor, keys_values: Tensor, group: _Attention, slots: _Slots
    ) -> Tensor:
        """Return the attention's output for the group's rows, (rows, width).

        Contexts attend causally, endings to their context and causally to themselves.
        """
        width = self._head_width
        trees_heads, _, context = group.padding.shape
        ending = group.causal.shape[-1]
        rows = keys_values.view(-1, width)
        context_keys, context_values, ending_keys, ending_values = (
            rows.index_select(0, slot) for slot in group.keys_values
        )
        context_keys, context_values = (
            part.view(trees_heads, context, width) for part in (context_keys, context_values)
        )
        ending_keys, ending_values = (
            part.view(-1, ending, width) for part in (ending_keys, ending_values)
        )
        asking = (
            queries.view(-1, width).index_select(0, slots.contexts).view(trees_heads, -1, width)
        )
        scores = torch.baddbmm(slots.mask, asking, context_keys.transpose(1, 2))
        of_contexts = torch.bmm(_softmax(scores), context_values)

        asking = queries.view(-1, width).index_select(0, slots.endings)
        to_context = torch.baddbmm(
            group.padding, asking.view(trees_heads, -1, width), context_keys.transpose(1, 2)
        )
        to_ending = torch.baddbmm(
            group.causal, asking.view(-1, ending, width), ending_keys.transpose(1, 2)
        )
        weights = _softmax(torch.cat([to_context, to_ending.view(trees_heads, -1, ending)], dim=-1))
        of_endings = torch.bmm(
            weights.view(-1, ending, context + ending)[..., context:], ending_values
        )
        of_endings = torch.baddbmm(
            of_endings.view(trees_heads, -1, width), weights[..., :context], context_values
        )
        slots_of_rows = torch.cat([of_contexts.view(-1, width), of_endings.view(-1, width)])
        return slots_of_rows.index_select(0, slots.results).view(-1, queries.shape[1])

    def _attention(self, group: Group) -> _Attention:
        heads = self._config.n_head
        _, context = group.everyone.contexts.shape
        ending = group.everyone.endings.shape[-1]
        keys = [
            slots.reshape(len(slots), 1, -1) * 2 * heads + np.arange(heads)[:, None]
            for slots in (group.everyone.contexts, group.everyone.endings)
        ]
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
        return torch.full((1, length, length), -math.inf).triu_(1).to(self.device)

    def _slots(self, queries: Queries, mask: Tensor) -> _Slots:
        heads = self._config.n_head
        head = np.arange(heads)[:, None]
        trees, contexts = queries.contexts.shape
        endings = queries.endings[0].size
        # From places among (trees, C) and (trees, N × E) to places among (trees, heads, C) and
        # (trees, heads, N × E).
        of_contexts, of_endings = (
            queries.results[:, None],
            queries.results[:, None] - trees * contexts,
        )
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
        width = self._config.n_embd
        of = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        attention, bias = of["attn.c_attn.weight"].T, of["attn.c_attn.bias"]
        # Here once, in place of a pass over all scores.
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
        return torch.cat(
            [
                function(*tiles)
                for tiles in zip(*(tensor.split(self._tile) for tensor in rows), strict=True)
            ]
        )

    def _padded(self, numbers: np.ndarray, multiple: int) -> Tensor:
        return self._numbers(np.pad(numbers, (0, -len(numbers) % multiple)))

    def _numbers(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.reshape(-1)).to(self.device)


def _softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-1, dtype=torch.float32)


def _gelu(x: Tensor) -> Tensor:
    """Return GPT-2's GELU of `x` in half of F.gelu's time on a CPU.

    x / 2 (1 + tanh z) is x sigmoid(2 z).
    """
    if x.is_cuda or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    double_z = (x * x).mul_(0.044715).add_(1).mul_(x).mul_(2 * math.sqrt(2 / math.pi))
    return double_z.sigmoid_().mul_(x)
