"""Attention as products, in place of torch's kernel for CPUs, which calls MKL's BLAS by itself.

A block of queries at a time, so that scores stay in the cache, and none beyond the diagonal are
computed where attention is causal. The backward pass reads the weights where they are small, and
computes them again where they are not, as FlashAttention does (Dao et al. 2022).

Shapes: query (batch, heads, T, d); key and value (batch, heads, S, d); a row of weights has S.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

FORWARD = "_scaled_dot_product_flash_attention_for_cpu"
BACKWARD = f"{FORWARD}_backward"

_BLOCK = 64  # queries whose scores for a few heads and hundreds of keys stay in the cache
_KEPT = 2**20  # weights of a call at most, 4 MB, that are kept for the backward pass


# An overflow is no warning, as in torch.
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

    `attn_mask` is added to the scores, and broadcast. A query that sees no key gets zeros. The
    second tensor has the weights of one block of queries after another, or is empty; torch's own
    operator has logarithms of sums in its place.
    """
    if dropout_p:
        raise NotImplementedError("portable attention has no dropout; set it to 0")
    blocks = _Blocks(query, key, is_causal, attn_mask, scale)
    count = blocks.weights_in_all() if torch.is_grad_enabled() else 0
    kept = query.new_empty(count if count <= _KEPT else 0)
    output = _joined_heads(query)
    values, results = value.detach().numpy(), output.numpy()
    for rows, seen, place in blocks:
        weights = blocks.weights(rows, seen, kept[place] if len(kept) else None)
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
    """Return the gradients for query, key and value.

    With weights P = softmax(S) and the output's gradient G:
        dV = P.T G     dP = G V.T     dS = P (dP - rowsum(dP P))     dQ = dS K     dK = dS.T Q
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
        gradient = gradients[:, :, rows]
        of_weights = gradient @ values[:, :, :seen].swapaxes(2, 3)
        weights = (
            kept[place].numpy().reshape(of_weights.shape)
            if len(kept)
            else blocks.weights(rows, seen)
        )
        into_value[:, :, :seen] += weights.swapaxes(2, 3) @ gradient
        of_scores = torch._softmax_backward_data(
            torch.from_numpy(of_weights), torch.from_numpy(weights), -1, query.dtype
        ).numpy()
        np.matmul(of_scores, blocks.keys[:, :, :seen], out=into_query[:, :, rows])
        into_key[:, :, :seen] += of_scores.swapaxes(2, 3) @ blocks.queries[:, :, rows]
    # dK has the scale of the queries.
    return of_query.mul_(blocks.scale), of_key, of_value


def _joined_heads(part: Tensor) -> Tensor:
    """Return an empty tensor of the shape of `part`, (batch, T, heads, d) in memory.

    The linear layers before and after attention have the heads of a token side by side.
    """
    batch, heads, length, width = part.shape
    return part.new_empty((batch, length, heads, width)).transpose(1, 2)


class _Blocks:
    """Blocks of queries, each with the number of keys that it sees, from the first key on.

    `queries` are multiplied by the scale. The third of a block is the place of its weights among
    those of all blocks.
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
        # Row i hides the keys after the i-th.
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
            last = first + batch * heads * (stop - start) * seen
            yield slice(start, stop), seen, slice(first, last)
            first = last

    def weights_in_all(self) -> int:
        """Return how many weights all blocks have."""
        return max((place.stop for _, _, place in self), default=0)

    def weights(self, rows: slice, seen: int, into: Tensor | None = None) -> np.ndarray:
        """Return the weights (batch, heads, rows, seen) of a block, in the memory of `into`."""
        scores = self.queries[:, :, rows] @ self.keys[:, :, :seen].swapaxes(2, 3)
        if self._is_causal:
            # Query rows.start + i sees key j if j <= rows.start + i.
            diagonal = scores[..., rows.start :]
            diagonal += self._later[: diagonal.shape[2], : diagonal.shape[3]]
        found = torch.from_numpy(scores)
        weights = torch.empty_like(found) if into is None else into.view(found.shape)
        if self._mask is None:
            return torch.softmax(found, -1, out=weights).numpy()
        found += torch.from_numpy(self._mask[:, :, rows, :seen])
        # The softmax of a row of -inf is NaN. A NaN that the arguments have stays one.
        unseeing = found.amax(-1, keepdim=True) == -math.inf
        return torch.softmax(found, -1, out=weights).masked_fill_(unseeing, 0).numpy()
