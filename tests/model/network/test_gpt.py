import math

import pytest
import torch
import torch.nn.functional as F
from small_objects import random_gpt

from model.network.gelu_linear import gelu_linear
from model.network.gpt import GPT, GPTConfig
from model.pretraining.losses import token_losses


def test_no_position_sees_a_later_token(network):
    model = random_gpt(network)
    tokens = torch.randint(
        0, network.vocab_size, (1, 12), generator=torch.Generator().manual_seed(0)
    )
    changed = tokens.clone()
    changed[0, 8] = (changed[0, 8] + 1) % network.vocab_size
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[0, :8], after[0, :8], rtol=0, atol=1e-5)
    assert (before[0, 8:] - after[0, 8:]).abs().max() > 1e-3


def test_the_output_layer_is_the_token_embedding(network):
    model = GPT(network)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_initial_weights_follow_gpt2():
    config = GPTConfig(layers=8, heads=4, width=256, context=64, vocab_size=512)
    model = GPT(config).initialize(torch.Generator().manual_seed(0))
    block = model.transformer.h[3]
    assert block.attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert block.attn.c_proj.weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)
    assert not block.mlp.c_fc.bias.any()
    assert (block.ln_1.weight == 1).all()


def test_an_untrained_network_knows_nothing(network):
    model = GPT(network).initialize(torch.Generator().manual_seed(0))
    tokens = torch.randint(
        0, network.vocab_size, (8, 33), generator=torch.Generator().manual_seed(0)
    )
    hidden = model.last_hidden_state(tokens[:, :-1]).flatten(0, 1)
    loss = token_losses(hidden, model.lm_head.weight, tokens[:, 1:].flatten()).mean().item()
    assert loss == pytest.approx(math.log(network.vocab_size), abs=0.05)


def test_one_seed_gives_one_network(network):
    first, again, other = (
        GPT(network).initialize(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert all((a == b).all() for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert (first.lm_head.weight != other.lm_head.weight).any()


def test_gpt2_124m_has_its_known_number_of_parameters():
    with torch.device("meta"):
        model = GPT(GPTConfig(layers=12, heads=12, width=768, context=1024, vocab_size=50257))
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808


def test_more_tokens_than_the_context_are_refused(network):
    with pytest.raises(ValueError, match="33 tokens do not fit a context of 32"):
        GPT(network)(torch.zeros(1, 33, dtype=torch.long))


def test_a_projection_after_gelu_that_keeps_only_its_input_has_the_plain_ones_gradients():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 3, 8), (5, 8), (5,))
    )
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    assert torch.autograd.gradcheck(gelu_linear, inputs)
    torch.testing.assert_close(
        gelu_linear(*inputs), F.linear(F.gelu(x, approximate="tanh"), weight, bias)
    )
