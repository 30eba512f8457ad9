"""GPT-2 directories to score, and the command that scores them."""

import subprocess
import sys

import pytest
from gpt2_directories import plain_nats, predictions, real_items, save_gpt2, scored
from repository import REPOSITORY

from model.tasks.item_scores import summarize


@pytest.fixture(scope="session")
def random_gpt2(tmp_path_factory, tokenizer):
    return save_gpt2(
        tmp_path_factory.mktemp("random"), tokenizer, layers=2, heads=2, width=32, context=32
    )


@pytest.fixture(scope="session")
def trained_gpt2(tmp_path_factory, tokenizer):
    texts = [f"{item.ctx} {item.endings[item.label]}" for item in real_items(300)]
    return save_gpt2(
        tmp_path_factory.mktemp("trained"),
        tokenizer,
        3,
        heads=4,
        width=64,
        context=256,
        train_on=texts,
    )


def require_equal(directory, items, wording):
    found, expected = scored(directory, items, wording), plain_nats(directory, items, wording)
    for one, plain in zip(found, expected, strict=True):
        assert one.nats == pytest.approx(plain, abs=1e-3)
    for by in ("acc", "acc_norm"):
        plainly = [one._replace(nats=plain) for one, plain in zip(found, expected, strict=True)]
        assert summarize(found, wording)[by] == summarize(plainly, wording)[by]
    assert predictions(found, wording) == predictions(plainly, wording)


@pytest.fixture
def own_gpt2(tmp_path, tokenizer):
    return save_gpt2(tmp_path / "own", tokenizer, layers=2, heads=2, width=32, context=32)


def score_command(*arguments: str, processes: int = 1) -> str:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        if processes > 1
        else []
    )
    command = [sys.executable, *launcher, "-m", "tools.score", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)
    return done.stdout if done.returncode == 0 else done.stderr
