"""Portable attention: torch's, made of products."""

import math

import pytest
import torch
import torch.nn.functional as F
from portable_kernels import installed, kernels  # noqa: F401
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.numerics import attention

SHAPES = [(1, 1), (5, 5), (3, 9), (9, 3), (128, 128), (300, 300), (257, 140), (0, 4)]


def parts(queries: int, keys: int, joined: bool = False) -> list[torch.Tensor]:
    """Return query, key and value (2, 3, T or S, 8); `joined`, as linear layers leave them."""
    generator = torch.Generator().manual_seed(queries + keys)
    lengths = (queries, keys, keys)
    if joined:
        return [
            torch.randn(2, length, 24, generator=generator).view(2, length, 3, 8).transpose(1, 2)
            for length in lengths
        ]
    return [torch.randn(2, 3, length, 8, generator=generator) for length in lengths]


def with_gradients(attend, of: list[torch.Tensor], weights: torch.Tensor) -> list[torch.Tensor]:
    leaves = [part.detach().clone(memory_format=torch.preserve_format) for part in of]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    result = attend(*leaves)
    return [result, *torch.autograd.grad(result, leaves, weights)]


def compare(of: list[torch.Tensor], **options) -> list[torch.Tensor]:
    """Return results and gradients, after comparing them with the products of torch in float64."""
    exact = dict(options)
    if "attn_mask" in options and options["attn_mask"].is_floating_point():
        exact["attn_mask"] = options["attn_mask"].double()
    weights = torch.randn(of[0].shape, generator=torch.Generator().manual_seed(7))
    with sdpa_kernel(SDPBackend.MATH):
        wanted = with_gradients(
            lambda *each: F.scaled_dot_product_attention(*each, **exact),
            [part.double() for part in of],
            weights.double(),
        )
    with installed():
        found = with_gradients(
            lambda *each: F.scaled_dot_product_attention(*each, **options), of, weights
        )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.detach(), other.detach().float(), rtol=1e-5, atol=2e-6)
    return found


@pytest.mark.parametrize(("queries", "keys"), SHAPES)
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_results_and_gradients(queries, keys, joined, causal):
    compare(parts(queries, keys, joined), is_causal=causal)


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 9), (200, 150)])
@pytest.mark.parametrize("shape", ["whole", "broadcast", "matrix"])
def test_masks(queries, keys, shape):
    whole = torch.rand(2, 3, queries, keys, generator=torch.Generator().manual_seed(0)) < 0.6
    hidden = {"whole": whole, "broadcast": whole[:, :1], "matrix": whole[0, 0]}[shape]
    hidden[..., 0] = True
    added = torch.zeros(hidden.shape).masked_fill(~hidden, -math.inf) + 0.25
    compare(parts(queries, keys), attn_mask=hidden)
    compare(parts(queries, keys), attn_mask=added, scale=0.3)


def test_a_query_that_sees_no_key_gets_zeros_and_gives_none():
    seen = torch.ones(2, 1, 130, 130, dtype=torch.bool)
    seen[0, 0, 2] = False
    seen[1, 0, 129] = False
    result, of_query, *_ = compare(parts(130, 130), attn_mask=seen)
    for part in (result, of_query):
        assert (part[0, :, 2] == 0).all()
        assert (part[1, :, 129] == 0).all()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("causal", [False, True])
def test_weights_are_kept_for_the_backward_pass_or_computed_again_with_the_same_bytes(
    monkeypatch, causal
):
    of, weights = parts(200, 150), torch.randn(2, 3, 200, 8)
    found = []
    for most in (2**20, 0):
        monkeypatch.setattr(attention, "_KEPT", most)
        _, kept = attention.attend(*of, is_causal=causal)
        assert (len(kept) > 0) == (most > 0)
        found.append(
            with_gradients(
                lambda *each: F.scaled_dot_product_attention(*each, is_causal=causal), of, weights
            )
        )
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    monkeypatch.setattr(attention, "_KEPT", 2**20)
    with torch.no_grad():
        assert not len(attention.attend(*of)[1])


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("masked", [False, True])
def test_nan_stays_nan(masked):
    query, key, value = parts(4, 4)
    query[0, 0, 1, 0] = math.nan
    mask = torch.ones(4, 4, dtype=torch.bool) if masked else None
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert found[0, 0, 1].isnan().all()
    assert found.isnan().sum() == 8


@pytest.mark.usefixtures("kernels")
def test_dropout_raises():
    with pytest.raises(NotImplementedError, match=r"^aten::bernoulli_\.float has no portable"):
        F.scaled_dot_product_attention(*parts(4, 4), dropout_p=0.5)
    with pytest.raises(NotImplementedError, match="portable attention has no dropout"):
        attention.attend(*parts(4, 4), dropout_p=0.5)


@pytest.mark.usefixtures("kernels")
def test_fewer_heads_of_keys_raise():
    query, key, value = parts(4, 4)
    query = torch.cat([query, query], 1)
    with pytest.raises(NotImplementedError, match="not 3 for 6; repeat the keys"):
        F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
