"""Small real objects that several tests share."""

import os
from importlib import metadata
from pathlib import Path

for of_make in (
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
):  # `make test` is no part of what a test calls make for
    os.environ.pop(of_make, None)
# Those of a hook or of `git rebase --exec` would turn the tests' repositories into this one.
for of_git in (
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
):
    os.environ.pop(of_git, None)
# A user's configuration may sign commits, which waits for a passphrase, and change line ends.
GIT_SETTINGS = {"commit.gpgsign": "false", "tag.gpgsign": "false", "core.autocrlf": "false"}
os.environ["GIT_CONFIG_COUNT"] = str(len(GIT_SETTINGS))
for number, (key, value) in enumerate(GIT_SETTINGS.items()):
    os.environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
os.umask(0o022)  # tests of files' modes start from the usual one
os.environ["HF_HUB_OFFLINE"] = (
    "1"  # no test may reach the network; read when huggingface_hub is imported
)

import hypothesis
import numpy as np
import pytest
import torch
from time_limit import (  # noqa: F401
    pytest_runtest_protocol,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
)

from common.files import checksummed_directory, write_checksums
from model.network.checkpoints import CheckpointConfig, write_checkpoint
from model.network.gpt import GPT, GPTConfig
from model.runtime.torch_setup import avoid_broken_amx
from model.tokens.bpe import Tokenizer, read_ranks
from model.tokens.shards import Index, ShardEntry, TokenSplit, write_shard

avoid_broken_amx()  # as stages do that compute in bfloat16

# The same examples on every machine, and no deadline: a busy machine is not a failure.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")

REPOSITORY = Path(__file__).parent.parent
# Of several processes each takes the next file: those of minutes go first.
SLOW = (
    "test_pipeline.py", "test_faults.py", "test_sharing.py", "test_experiments.py", "test_contributing.py", "test_dry_run.py",
    "test_pretrain.py", "test_scoring.py", "test_parallel.py", "test_lm_eval.py", "test_lm_eval_gsm8k.py", "test_kills.py",
)  # fmt: skip
# Skipped unless LONG=1, for they take a quarter of an hour: whole graphs, on failing disks, through remotes, in parallel.
LONG = (
    "test_contributing.py",
    "test_dry_run.py",
    "test_faults.py",
    "test_parallel.py",
    "test_sharing.py",
)
# Seconds for one test of SLOW and LONG, with the fixtures that it is the first to use; of others pyproject.toml's `timeout`.
LIMIT = 1500


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))
    for item in items:
        if item.path.name in {*SLOW, *LONG}:
            item.add_marker(pytest.mark.timeout(LIMIT))
        if item.path.name in LONG:
            item.add_marker("long")
            item.add_marker(
                pytest.mark.skipif(
                    os.environ.get("LONG") != "1", reason="takes minutes; LONG=1 make test runs it"
                )
            )


@pytest.fixture(scope="session")
def ranks_file() -> Path:
    return Path(
        str(metadata.distribution("mlx-whisper").locate_file("mlx_whisper/assets/gpt2.tiktoken"))
    )


@pytest.fixture(scope="session")
def tokenizer(ranks_file) -> Tokenizer:
    return Tokenizer(read_ranks(ranks_file, 512), mul_facts=True)


@pytest.fixture(scope="session")
def baseline_tokenizer(ranks_file) -> Tokenizer:
    return Tokenizer(read_ranks(ranks_file, 512), mul_facts=False)


@pytest.fixture
def network(tokenizer) -> GPTConfig:
    return GPTConfig(layers=2, heads=2, width=32, context=32, vocab_size=tokenizer.size)


def random_gpt(config: GPTConfig, seed: int = 0) -> GPT:
    """A network whose biases and norms are random too, so that a fault in any of them shows."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config).initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def save_checkpoint(directory: Path, model: GPT, config: CheckpointConfig) -> None:
    with checksummed_directory(directory) as partial:
        write_checkpoint(partial, model, config)


@pytest.fixture
def checkpoint(tmp_path, network) -> Path:
    directory = tmp_path / "checkpoint"
    save_checkpoint(directory, random_gpt(network), checkpoint_config(network))
    return directory


def checkpoint_config(network: GPTConfig, **changes) -> CheckpointConfig:
    fields = {
        "canary_documents": 2,
        "canary_loss": 5.5,
        "condition": "baseline",
        "seed": 1,
        "step": 7,
        "tokens": 70,
    }
    return CheckpointConfig(network=network, **{**fields, **changes})


def write_token_split(
    directory: Path,
    documents: list[list[int]],
    sources: list[str] | None = None,
    vocab_size: int = 100,
):
    """Write `documents` (token ids with their leading end of text) as one train and one val shard; return both splits.

    A token stands for two bytes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = sorted(set(sources or ["text"]))
    numbers = [names.index(source) for source in sources or ["text"] * len(documents)]
    table = np.array(
        [
            (len(tokens), 2 * len(tokens) - 2, source)
            for tokens, source in zip(documents, numbers, strict=True)
        ]
    )
    splits = {}
    for split in ("train", "val"):
        write_shard(directory, split, 0, [np.array(tokens) for tokens in documents], table)
        splits[split] = [
            ShardEntry(
                documents=len(documents),
                documents_sha256="",
                expressions={},
                mul_fact_tokens=0,
                original_bytes=int(table[:, 1].sum()),
                plain_tokens=int(table[:, 0].sum()),
                tokens=int(table[:, 0].sum()),
            )
        ]
    index = Index(condition="baseline", sources=names, splits=splits, vocab_size=vocab_size)
    (directory / "index.json").write_text(index.model_dump_json())
    write_checksums(directory)
    return TokenSplit(directory, "train"), TokenSplit(directory, "val")
