"""AdamW and its learning rate: linear warm-up, then a cosine.

Source of the recipe: GPT-3 (Brown et al. 2020, appendix B) as karpathy/nanoGPT has it.
"""

import math

import torch

from model.network.gpt import GPT
from model.params.pretrain import PretrainParams


def learning_rate_at(step: int, params: PretrainParams) -> float:
    """Return the learning rate of a step from 1 on: warm-up, then cosine to `min_learning_rate`."""
    if step <= params.warmup_steps:
        return params.learning_rate * step / params.warmup_steps
    progress = (step - params.warmup_steps) / (params.max_steps - params.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return params.min_learning_rate + cosine * (params.learning_rate - params.min_learning_rate)


def make_optimizer(model: GPT, params: PretrainParams) -> torch.optim.AdamW:
    """AdamW that decays matrices (embeddings among them) and neither biases nor norms."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=params.learning_rate, betas=(params.beta1, params.beta2), fused=True
    )
