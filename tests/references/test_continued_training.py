"""An export is a network that transformers trains on as we do: the same losses, step by step, from
the same checkpoint.
"""

import pytest
import torch
import yaml
from repository import REPOSITORY
from small_objects import checkpoint_config, save_checkpoint
from transformers import GPT2LMHeadModel

from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.network.checkpoints import load_model, read_checkpoint
from model.network.gpt import GPT
from model.numerics.side_by_side import SideBySide
from model.params.pretrain import PretrainParams
from model.pretraining.losses import mean_loss
from model.pretraining.optimizer import make_optimizer
from tools.hf_import import read_gpt2

PARAMS = PretrainParams(
    **yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())["pretrain"]
)
END_OF_TEXT = 512


def rows_of(tokenizer, count: int, length: int, first: int) -> torch.Tensor:
    """Return `count` int64 rows of `length` tokens, of numbers counted up from `first`: a text that
    a small network learns.
    """
    text = tokenizer.encode_text(
        " ".join(
            f"{number} and {number + 1} follow." for number in range(first, first + count * length)
        )
    )
    return torch.tensor(text[: count * length]).view(count, length)


def our_loss(model: GPT, rows: torch.Tensor) -> torch.Tensor:
    return mean_loss(
        model.last_hidden_state(rows[:, :-1]).flatten(0, 1),
        model.lm_head.weight,
        rows[:, 1:].flatten(),
    )


def their_loss(model: GPT2LMHeadModel, rows: torch.Tensor) -> torch.Tensor:
    return model(input_ids=rows, labels=rows).loss


def trained(model, loss_of, rows: torch.Tensor) -> list[float]:
    """Train `model` with our AdamW, a step for every four of `rows`; return the loss before each
    step.
    """
    optimizer = make_optimizer(model.train(), PARAMS, SideBySide(1))
    losses = []
    for batch in rows.split(4):
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), PARAMS.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


@pytest.fixture
def checkpoint_of_training(tmp_path, tokenizer, network):
    """A checkpoint of a network that has learnt something."""
    model = GPT(network).initialize(torch.Generator().manual_seed(0))
    losses = trained(model, our_loss, rows_of(tokenizer, 160, network.context, first=0))
    assert losses[-1] < losses[0] / 2
    save_checkpoint(tmp_path / "checkpoint", model, checkpoint_config(network))
    return tmp_path / "checkpoint"


def exported(checkpoint, directory, table) -> GPT2LMHeadModel:
    """The checkpoint as transformers loads it from what our exporter saves."""
    config, tensors = read_checkpoint(checkpoint)
    build_hugging_face_model(
        hugging_face_config(config.network, END_OF_TEXT), map_tensors(tensors, table)
    ).save_pretrained(directory)
    return GPT2LMHeadModel.from_pretrained(directory, local_files_only=True)


def test_transformers_trains_an_export_on_with_our_losses(
    checkpoint_of_training, tmp_path, tokenizer, network
):
    rows = rows_of(tokenizer, 40, network.context, first=7000)
    ours = load_model(*read_checkpoint(checkpoint_of_training))
    theirs = exported(checkpoint_of_training, tmp_path / "export", export_table(network.layers))
    our_losses, their_losses = trained(ours, our_loss, rows), trained(theirs, their_loss, rows)
    assert len(our_losses) == 10
    assert our_losses[-1] < 0.9 * our_losses[0], "ten steps that change nothing would show nothing"
    assert their_losses == pytest.approx(our_losses, rel=1e-5)

    # What transformers made of it comes back as what training made of it here.
    theirs.save_pretrained(tmp_path / "trained")
    back = read_gpt2(tmp_path / "trained")
    with torch.no_grad():
        torch.testing.assert_close(back(rows), ours(rows), rtol=0, atol=1e-3)


@pytest.mark.parametrize("part", ["h.0.attn.c_proj.weight", "h.1.attn.c_proj.weight"])
def test_with_a_square_projection_untransposed_the_losses_differ_at_every_step(
    checkpoint_of_training, tmp_path, tokenizer, network, part
):
    rows = rows_of(tokenizer, 40, network.context, first=7000)
    ours = load_model(*read_checkpoint(checkpoint_of_training))
    name = f"transformer.{part}"
    table = [
        entry._replace(transposed=entry.transposed and entry.target != name)
        for entry in export_table(network.layers)
    ]
    theirs = exported(checkpoint_of_training, tmp_path / "export", table)
    our_losses, their_losses = trained(ours, our_loss, rows), trained(theirs, their_loss, rows)
    assert all(
        their != pytest.approx(our, rel=1e-4)
        for our, their in zip(our_losses, their_losses, strict=True)
    )
