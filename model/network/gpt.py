"""GPT-2 as nanoGPT writes it: pre-norm blocks, `nn.Linear` projections, tanh-GELU, tied weights.

Source: Radford et al. 2019 (GPT-2). Module names and initialization are those of karpathy/nanoGPT,
so one export table serves its checkpoints and ours.

Shapes, with width = heads × head width:

    tokens (batch, time) ─ wte + wpe ─▶ (batch, time, width) ─ layers × Block ─▶ ln_f
    ─▶ (batch, time, width) ─ lm_head ─▶ logits (batch, time, vocab)
"""

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from model.network.gelu_linear import gelu_linear
from model.params.network import NetworkParams


class GPTConfig(NetworkParams):
    """All that builds the network: the `model` section and the vocabulary's size."""

    vocab_size: int = Field(gt=0)


def seen_in_document(tokens: Tensor, end_of_text: int | None) -> Tensor | None:
    """Return which tokens each token attends to within its document, bool (batch, 1, time, time).

    Entry [b, 0, i, j] tells whether token i attends to token j. A document begins with
    `end_of_text`. Returns None if `end_of_text` is None: attention then crosses documents.
    """
    if end_of_text is None:
        return None
    # (batch, time): each token's document in its row. For `a e b c e d`, with e the end of text:
    # 0 1 1 1 2 2, so b attends to `e b` and d to `e d`.
    document = (tokens == end_of_text).cumsum(1)
    # (batch, 1, time, time): one mask for all heads.
    is_same = document[:, None, :, None] == document[:, None, None, :]
    return is_same.tril()


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention; `forward` maps (batch, time, width) to the same shape."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.heads = config.heads
        # Query, key and value in one product, in this order.
        self.c_attn = nn.Linear(config.width, 3 * config.width)
        self.c_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        # (batch, time, width); `seen` is bool (batch, 1, time, time), or None for causal attention.
        batch, time, width = x.shape
        # Each (batch, heads, time, head width).
        query, key, value = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        # (batch, heads, time, head width)
        y = F.scaled_dot_product_attention(query, key, value, seen, is_causal=seen is None)
        # The heads of a token side by side again: (batch, time, width).
        projected: Tensor = self.c_proj(y.transpose(1, 2).reshape(batch, time, width))
        return projected


class MLP(nn.Module):
    """A block's two linear layers with GELU between; `forward` keeps (batch, time, width)."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width)
        self.c_proj = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        # (batch, time, width) → (batch, time, 4 × width) → (batch, time, width)
        return gelu_linear(self.c_fc(x), self.c_proj.weight, self.c_proj.bias)


class Block(nn.Module):
    """A pre-norm block: attention, then MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        attended: Tensor = x + self.attn(self.ln_1(x), seen)
        y: Tensor = attended + self.mlp(self.ln_2(attended))
        return y


class Transformer(nn.Module):
    """The network without its output layer, under the parameter names of Hugging Face's GPT-2."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        self.h = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.ln_f = nn.LayerNorm(config.width)


class GPT(nn.Module):
    """`forward(tokens)` maps ids (batch, time) int64 to logits (batch, time, vocab) float32."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        # Tied: one tensor (vocab, width) is the embedding and the output layer.
        self.lm_head.weight = self.transformer.wte.weight

    def initialize(self, generator: torch.Generator) -> "GPT":
        """Draw GPT-2's initial weights from `generator`, in the order of the parameters.

        Matrices are N(0, 0.02²), biases 0 and norms 1. The standard deviation of the two residual
        projections of each block is 0.02 / sqrt(2 × layers).
        """
        # 2 × layers projections add to the residual stream. Scaled so, the variance of their sum
        # does not grow with depth.
        residual_std = 0.02 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:
                # The gains of norms, the only other vectors.
                nn.init.ones_(parameter)
            else:
                std = residual_std if name.endswith("c_proj.weight") else 0.02
                nn.init.normal_(parameter, std=std, generator=generator)
        return self

    def hidden_states(self, tokens: Tensor) -> list[Tensor]:
        """Return the residual stream (batch, time, width) after the embedding and after each block.

        These are layers + 1 tensors, the last one after the final norm. Hugging Face's GPT-2
        returns its `hidden_states` in the same order.
        """
        states = [self._embedded(tokens)]
        for block in self.transformer.h:
            states.append(block(states[-1]))
        return [*states[:-1], self.transformer.ln_f(states[-1])]

    def last_hidden_state(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the output layer's input (batch, time, width), without keeping earlier blocks.

        `seen` tells which tokens each token attends to, bool (batch, 1, time, time). With None, a
        token attends to all tokens up to itself.
        """
        x = self._embedded(tokens)
        for block in self.transformer.h:
            x = block(x, seen)
        normed: Tensor = self.transformer.ln_f(x)
        return normed

    def forward(self, tokens: Tensor) -> Tensor:
        # (batch, time, width) → (batch, time, vocab)
        logits: Tensor = self.lm_head(self.last_hidden_state(tokens))
        return logits

    def _embedded(self, tokens: Tensor) -> Tensor:
        """Return token plus position embeddings; raise ValueError beyond the context."""
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"{tokens.shape[1]} tokens do not fit a context of {self.config.context}"
            )
        # (time,): the same positions in every row, so wpe broadcasts over the batch.
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x: Tensor = self.transformer.wte(tokens) + self.transformer.wpe(positions)
        return x
