"""Attention as products, in place of torch's kernel for CPUs, which calls MKL's BLAS by itself.

A block of queries at a time, so that scores stay in the cache, and none beyond the diagonal are
computed where attention is causal. Nothing is kept for the backward pass but the arguments: it
computes the weights again, as FlashAttention does (Dao et al. 2022).

Shapes: query (batch, heads, T, d); key and value (batch, heads, S, d); a row of weights has S.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

FORWARD = "_scaled_dot_product_flash_attention_for_cpu"
BACKWARD = f"{FORWARD}_backward"

_BLOCK = 128  # queries whose scores for a few heads and hundreds of keys stay in the cache


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
    """Return softmax(query @ key.T × scale + mask) @ value, and a tensor that nothing reads.

    `attn_mask` is added to the scores, and broadcast. A query that sees no key gets zeros. torch's
    own operator has logarithms of sums for its backward pass as a second result.
    """
    if dropout_p:
        raise NotImplementedError("portable attention has no dropout; set it to 0")
    blocks = _Blocks(query, key, is_causal, attn_mask, scale)
    output = _joined_heads(query)
    values, results = value.detach().numpy(), output.numpy()
    for rows, seen in blocks:
        np.matmul(blocks.weights(rows, seen), values[:, :, :seen], out=results[:, :, rows])
    return output, query.new_empty(query.shape[:-1])


@np.errstate(all="ignore")
def attend_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
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
    for rows, seen in blocks:
        gradient = gradients[:, :, rows]
        weights = blocks.weights(rows, seen)
        into_value[:, :, :seen] += weights.swapaxes(2, 3) @ gradient
        of_weights = gradient @ values[:, :, :seen].swapaxes(2, 3)
        of_scores = (
            torch._softmax_backward_data(
                torch.from_numpy(of_weights), torch.from_numpy(weights), -1, query.dtype
            )
            .mul_(blocks.scale)
            .numpy()
        )
        np.matmul(of_scores, blocks.keys[:, :, :seen], out=into_query[:, :, rows])
        into_key[:, :, :seen] += of_scores.swapaxes(2, 3) @ blocks.queries[:, :, rows]
    return of_query, of_key, of_value


def _joined_heads(part: Tensor) -> Tensor:
    """Return an empty tensor of the shape of `part`, (batch, T, heads, d) in memory.

    The linear layers before and after attention have the heads of a token side by side.
    """
    batch, heads, length, width = part.shape
    return part.new_empty((batch, length, heads, width)).transpose(1, 2)


class _Blocks:
    """Blocks of queries, each with the number of keys that it sees, from the first key on."""

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
        self.queries, self.keys = query.detach().numpy(), key.detach().numpy()
        self.scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        self._is_causal = is_causal
        # Broadcast to (batch, heads, T, S), without a copy.
        whole = (*query.shape[:3], key.shape[2])
        self._mask = None if mask is None else mask.detach().expand(whole).numpy()

    def __iter__(self) -> Iterator[tuple[slice, int]]:
        length, keys = self.queries.shape[2], self.keys.shape[2]
        for start in range(0, length, _BLOCK):
            stop = min(start + _BLOCK, length)
            yield slice(start, stop), min(stop, keys) if self._is_causal else keys

    def weights(self, rows: slice, seen: int) -> np.ndarray:
        """Return the weights (batch, heads, rows, seen) of a block."""
        asking = self.queries[:, :, rows] * np.asarray(self.scale, self.queries.dtype)
        scores = torch.from_numpy(asking @ self.keys[:, :, :seen].swapaxes(2, 3))
        if self._mask is not None:
            scores += torch.from_numpy(self._mask[:, :, rows, :seen])
            # The softmax of a row of -inf is NaN. A NaN that the arguments have stays one.
            unseeing = scores.amax(-1, keepdim=True) == -math.inf
        if self._is_causal:
            # Query rows.start + i sees key j if j <= rows.start + i.
            hidden = torch.full(scores.shape[2:], -math.inf, dtype=scores.dtype)
            scores += hidden.triu_(rows.start + 1)
        weights = scores.softmax(-1)
        if self._mask is not None:
            weights.masked_fill_(unseeing, 0)
        found: np.ndarray = weights.numpy()
        return found
