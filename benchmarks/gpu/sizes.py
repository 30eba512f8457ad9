"""What a training step of GPT-2 124M holds in memory, computed on the CPU.

    python -m benchmarks.gpu.sizes

Counts the storages that autograd keeps of one row of the full-size profile, in bfloat16 by autocast
and not compiled: an upper bound for the compiled network.
"""

import torch
from torch import Tensor

from benchmarks.gpu.training import full_size_task
from model.pretraining.loop import LossNetwork

CARDS = {"80 GB": 80e9, "141 GB": 141e9}


def main() -> None:
    task = full_size_task(steps=1, micro_batch_rows=1)
    params = task.params.model_copy(update={"device": "cpu", "compile": False})
    model = task.initial()
    of_weights = sum(each.numel() * each.element_size() for each in model.parameters())
    known = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = LossNetwork(model, params)(task.rows[:1])
    of_row = sum(kept.values())
    del loss
    print(
        f"weights {of_weights / 1e6:.0f} MB, gradients {of_weights / 1e6:.0f} MB, AdamW's moments"
        f" {2 * of_weights / 1e6:.0f} MB; a row of {task.config.context:,} tokens keeps"
        f" {of_row / 1e6:.0f} MB for the backward pass"
    )
    for card, memory in CARDS.items():
        rows = int((memory - 4 * of_weights) // of_row)
        print(f"a card of {card} holds {rows} rows, less what the loss of a block of rows takes")


if __name__ == "__main__":
    main()
