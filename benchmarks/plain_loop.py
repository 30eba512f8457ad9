"""A plain GPT-2 training loop after karpathy/nanoGPT, the reference of benchmarks/train.py.

Plain torch, one process on the CPU in float32, not tuned: torch's default AdamW, all logits of a
micro batch at once. It computes what nanoGPT's model.py and train.py compute, written anew, without
the parts that do nothing here: dropout of 0, automatic mixed precision, distributed training,
compilation. GELU is GPT-2's tanh form; nanoGPT has since changed to the exact one. Module names are
nanoGPT's and ours, so state_dicts load in both.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, time, width = x.size()
        query, key, value = self.c_attn(x).split(width, dim=2)
        query = query.view(rows, time, self.heads, width // self.heads).transpose(1, 2)
        key = key.view(rows, time, self.heads, width // self.heads).transpose(1, 2)
        value = value.view(rows, time, self.heads, width // self.heads).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).contiguous().view(rows, time, width))


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU(approximate="tanh")
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class PlainGPT(nn.Module):
    """GPT-2: `forward(tokens, targets)` returns logits and the mean loss in nats.

    tokens, targets  (rows, time) int64
    logits           (rows, time, vocab) float32
    """

    def __init__(self, vocab_size: int, context: int, layers: int, heads: int, width: int):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, width),
                "wpe": nn.Embedding(context, width),
                "h": nn.ModuleList([Block(width, heads) for _ in range(layers)]),
                "ln_f": nn.LayerNorm(width),
            }
        )
        self.lm_head = nn.Linear(width, vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() >= 2:
                nn.init.normal_(
                    parameter,
                    std=0.02 / math.sqrt(2 * layers) if name.endswith("c_proj.weight") else 0.02,
                )

    def forward(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        positions = torch.arange(tokens.size(1), device=tokens.device)
        x = self.transformer.wte(tokens) + self.transformer.wpe(positions)
        for block in self.transformer.h:
            x = block(x)
        logits = self.lm_head(self.transformer.ln_f(x))
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss


def make_optimizer(
    model: PlainGPT,
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    fused: bool = False,
) -> torch.optim.AdamW:
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused or None)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    get_batch: Callable[[], tuple[Tensor, Tensor]],
    accumulation: int,
    gradient_clip: float,
    after_step: Callable[[Tensor | None], bool],
    autocast: AbstractContextManager[object] | None = None,
) -> None:
    """Train until `after_step` returns False.

    It is called with None before the first step, then with each step's mean loss. `get_batch`
    returns the tokens and targets of a micro batch, each (rows, time) int64. A step takes
    `accumulation` micro batches.
    """
    tokens, targets = get_batch()
    mean_loss = None
    while after_step(mean_loss):
        mean_loss = torch.zeros((), device=tokens.device)
        for _ in range(accumulation):
            with autocast or nullcontext():
                logits, loss = model(tokens, targets)  # noqa: RUF059 - as nanoGPT has it: the logits live until the next ones
            loss = loss / accumulation
            tokens, targets = get_batch()
            loss.backward()
            mean_loss += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
