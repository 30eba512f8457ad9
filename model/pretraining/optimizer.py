"""The optimizers: AdamW for all, or Muon for the matrices inside blocks and AdamW for the rest.

Source of AdamW's recipe: GPT-3 (Brown et al. 2020, appendix B) as karpathy/nanoGPT has it.

                               optimizer: adamw        optimizer: muon
    matrices inside blocks     AdamW, weight decay     Muon, weight decay
    embeddings                 AdamW, weight decay     AdamW, weight decay
    biases and norms           AdamW, no decay         AdamW, no decay
"""

from typing import Any

import torch
from torch import Tensor, nn

from model.numerics.side_by_side import SideBySide
from model.params.pretrain import PretrainParams
from model.pretraining.muon import Muon

_BLOCKS = "transformer.h."


class Optimizers:
    """Several optimizers of different parameters, used as one.

    Each parameter group has a `relative_rate`: its learning rate divided by the schedule's.
    """

    def __init__(self, *parts: torch.optim.Optimizer):
        self._parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def set_learning_rate(self, learning_rate: float) -> None:
        for group in self.param_groups:
            group["lr"] = learning_rate * group["relative_rate"]

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none)

    def moments(self) -> dict[Tensor, dict[str, Tensor]]:
        """Return each parameter's moments by name: the tensors themselves, not copies.

        Moments that the first step would create are created here, as zeros. A resumed run can then
        copy saved values into them.
        """
        found = {}
        for part in self._parts:
            for parameter in [each for group in part.param_groups for each in group["params"]]:
                if not part.state[parameter]:
                    part.state[parameter].update(_first_moments(part, parameter))
                found[parameter] = part.state[parameter]
        return found


def _first_moments(part: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """Return the state that the optimizer creates at its first step, as zeros."""
    if isinstance(part, Muon):
        return {"momentum_buffer": torch.zeros_like(parameter)}
    # The names and shapes of torch's AdamW with fused=True.
    return {
        "step": torch.zeros((), device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def make_optimizer(model: nn.Module, params: PretrainParams, threads: SideBySide) -> Optimizers:
    """Return AdamW, or Muon for the matrices inside blocks and AdamW for the rest.

    Weight decay applies to matrices, embeddings included, and not to biases and norms.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_inside = name.startswith(_BLOCKS) and parameter.dim() == 2
        (matrices if is_inside and params.optimizer == "muon" else others).append(parameter)
    groups = [
        {
            "params": [parameter for parameter in others if parameter.dim() >= 2],
            "weight_decay": params.weight_decay,
            "relative_rate": 1.0,
        },
        {
            "params": [parameter for parameter in others if parameter.dim() < 2],
            "weight_decay": 0.0,
            "relative_rate": 1.0,
        },
    ]
    adamw = torch.optim.AdamW(
        groups, lr=params.learning_rate, betas=(params.beta1, params.beta2), fused=True
    )
    if params.optimizer == "adamw":
        return Optimizers(adamw)
    rate = params.muon_learning_rate
    muon = Muon(
        matrices,
        lr=params.learning_rate if rate is None else rate,
        weight_decay=params.weight_decay,
        momentum=params.muon_momentum,
        nesterov=params.muon_nesterov,
        ns_steps=params.muon_ns_steps,
        adjustment=params.muon_adjustment,
        dtype=getattr(torch, params.dtype),
        threads=threads,
    )
    # Set from its own rate here; the schedule then scales both optimizers alike.
    for group in muon.param_groups:
        group["relative_rate"] = group["lr"] / params.learning_rate
    return Optimizers(muon, adamw)
