"""Attention as products, in place of torch's kernel for CPUs, which calls MKL's BLAS by itself.

Queries are computed in blocks of 64, so scores stay in the cache. Causal attention computes no
scores for keys after a block's last query. With 192 queries and keys:

    keys        0      64     128    192
    block 0     [  ◣   ]                     64 queries × 64 keys
    block 1     [ all  |  ◣   ]              64 × 128
    block 2     [ all  | all  |  ◣   ]       64 × 192; only the last 64 keys need the mask

The backward pass reads the weights kept by the forward pass if they are few. Otherwise it computes
them again, as FlashAttention does (Dao et al. 2022).

Shapes: query (batch, heads, T, d); key, value (batch, heads, S, d); weights (batch, heads, T, S). T
is the number of queries, S of keys, d the width of a head.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

FORWARD = "_scaled_dot_product_flash_attention_for_cpu"
BACKWARD = f"{FORWARD}_backward"

# Queries in a block: their scores for a few heads and hundreds of keys stay in the cache.
_BLOCK = 64
# The most weights that a call keeps for the backward pass: 4 MB in float32.
_KEPT = 2**20


# torch does not warn about overflows, so numpy must not either.
@np.errstate(all="ignore")
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return softmax(query @ key.T × scale + mask) @ value, and what the backward pass reads.

    The output is (batch, heads, T, d). `attn_mask` broadcasts to (batch, heads, T, S) and is added
    to the scores. A query that attends to no key gets zeros. The second tensor has the weights of
    the blocks one after another, or is empty; torch's own operator returns logarithms of sums in
    its place. Raises NotImplementedError for dropout, and if keys and queries differ in heads.
    """
    if dropout_p:
        raise NotImplementedError("portable attention has no dropout; set it to 0")
    blocks = _Blocks(query, key, is_causal, attn_mask, scale)
    # Without gradients there is no backward pass to keep weights for.
    count = blocks.weights_in_all() if torch.is_grad_enabled() else 0
    kept = query.new_empty(count if count <= _KEPT else 0)
    output = _joined_heads(query)
    values, results = value.detach().numpy(), output.numpy()
    for rows, seen, place in blocks:
        # (batch, heads, queries of the block, seen)
        weights = blocks.weights(rows, seen, kept[place] if len(kept) else None)
        # @ (batch, heads, seen, d) → (batch, heads, queries of the block, d)
        np.matmul(weights, values[:, :, :seen], out=results[:, :, rows])
    return output, kept


@np.errstate(all="ignore")
def attend_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    kept: Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients for query, key and value, each in the shape of its tensor.

    With weights P = softmax(S) (T, S) and the output's gradient G (T, d), for each head:
        dV = P.T G     dP = G V.T     dS = P (dP - rowsum(dP P))     dQ = dS K     dK = dS.T Q

    A block has all keys of its queries, so its rows of dQ are complete. dK and dV are sums over
    blocks. `kept` is what `attend` returned; `out` is not read.
    """
    blocks = _Blocks(query, key, is_causal, attn_mask, scale)
    of_query, of_key, of_value = _joined_heads(query), _joined_heads(key), _joined_heads(value)
    values, gradients = value.detach().numpy(), grad_out.detach().numpy()
    into_query, into_key, into_value = (
        of_query.numpy(),
        of_key.zero_().numpy(),
        of_value.zero_().numpy(),
    )
    for rows, seen, place in blocks:
        # G: (batch, heads, queries of the block, d)
        gradient = gradients[:, :, rows]
        # dP: (batch, heads, queries of the block, seen)
        of_weights = gradient @ values[:, :, :seen].swapaxes(2, 3)
        # P, in the same shape.
        weights = (
            kept[place].numpy().reshape(of_weights.shape)
            if len(kept)
            else blocks.weights(rows, seen)
        )
        # dV: (batch, heads, seen, d)
        into_value[:, :, :seen] += weights.swapaxes(2, 3) @ gradient
        # dS: (batch, heads, queries of the block, seen)
        of_scores = torch._softmax_backward_data(
            torch.from_numpy(of_weights), torch.from_numpy(weights), -1, query.dtype
        ).numpy()
        np.matmul(of_scores, blocks.keys[:, :, :seen], out=into_query[:, :, rows])
        into_key[:, :, :seen] += of_scores.swapaxes(2, 3) @ blocks.queries[:, :, rows]
    # `blocks.queries` have the scale already, so dK is complete; dQ still needs it.
    return of_query.mul_(blocks.scale), of_key, of_value


def _joined_heads(part: Tensor) -> Tensor:
    """Return an empty tensor in the shape of `part`, laid out as (batch, T, heads, d) in memory.

    The linear layers before and after attention have the heads of a token side by side, so they
    read this layout without a copy.
    """
    batch, heads, length, width = part.shape
    return part.new_empty((batch, length, heads, width)).transpose(1, 2)


class _Blocks:
    """Blocks of at most 64 queries, with the keys that they attend to.

    Iteration yields for each block its queries as a slice of T, `seen`, and the slice of its
    weights among those of all blocks. Its queries attend to keys 0 to `seen` - 1. `queries` are
    multiplied by the scale.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        is_causal: bool,
        mask: Tensor | None,
        scale: float | None,
    ):
        if query.shape[:2] != key.shape[:2]:
            raise NotImplementedError(
                "portable attention has a head of keys for each head of queries, not "
                f"{key.shape[1]} for {query.shape[1]}; repeat the keys"
            )
        self.scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        self.queries, self.keys = query.detach().mul(self.scale).numpy(), key.detach().numpy()
        self._is_causal = is_causal
        # (64, 64): zero up to the diagonal and -inf after it, so row i hides keys after the i-th.
        self._later = query.new_full((_BLOCK, _BLOCK), -math.inf).triu_(1).numpy()
        # Broadcast to (batch, heads, T, S), without a copy.
        whole = (*query.shape[:3], key.shape[2])
        self._mask = None if mask is None else mask.detach().expand(whole).numpy()

    def __iter__(self) -> Iterator[tuple[slice, int, slice]]:
        batch, heads, length, _ = self.queries.shape
        keys, first = self.keys.shape[2], 0
        for start in range(0, length, _BLOCK):
            stop = min(start + _BLOCK, length)
            seen = min(stop, keys) if self._is_causal else keys
            # Weights of the block: one for each head, query and seen key.
            last = first + batch * heads * (stop - start) * seen
            yield slice(start, stop), seen, slice(first, last)
            first = last

    def weights_in_all(self) -> int:
        """Return how many weights all blocks have together."""
        return max((place.stop for _, _, place in self), default=0)

    def weights(self, rows: slice, seen: int, into: Tensor | None = None) -> np.ndarray:
        """Return the weights (batch, heads, rows, seen) of a block, in the memory of `into`."""
        # (batch, heads, rows, d) @ (batch, heads, d, seen) → (batch, heads, rows, seen)
        scores = self.queries[:, :, rows] @ self.keys[:, :, :seen].swapaxes(2, 3)
        if self._is_causal:
            # Query rows.start + i attends to key j if j <= rows.start + i. Keys before rows.start
            # need no mask, so only the last square of the scores is changed.
            diagonal = scores[..., rows.start :]
            diagonal += self._later[: diagonal.shape[2], : diagonal.shape[3]]
        found = torch.from_numpy(scores)
        weights = torch.empty_like(found) if into is None else into.view(found.shape)
        if self._mask is None:
            return torch.softmax(found, -1, out=weights).numpy()
        found += torch.from_numpy(self._mask[:, :, rows, :seen])
        # The softmax of a row of -inf is NaN, where torch's operator has zeros. A NaN from the
        # arguments stays NaN.
        unseeing = found.amax(-1, keepdim=True) == -math.inf
        return torch.softmax(found, -1, out=weights).masked_fill_(unseeing, 0).numpy()
