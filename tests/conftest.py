"""Set the environment of all tests and their limits, and define shared fixtures."""

import os
from importlib import metadata
from pathlib import Path

# A make that a test starts must not take over the options of `make test`.
for of_make in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(of_make, None)
# A git hook and `git rebase --exec` set these; git would then use this repository in every test.
for of_git in (
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
):
    os.environ.pop(of_git, None)
# A user's configuration may sign commits, which waits for a passphrase, or change line ends.
GIT_SETTINGS = {"commit.gpgsign": "false", "tag.gpgsign": "false", "core.autocrlf": "false"}
os.environ["GIT_CONFIG_COUNT"] = str(len(GIT_SETTINGS))
for number, (key, value) in enumerate(GIT_SETTINGS.items()):
    os.environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
os.umask(0o022)  # the usual mask, for tests of files' modes
# No test may reach the network. huggingface_hub reads the variable when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import pytest

# Show values in failed assertions of helpers too, as in those of test files.
pytest.register_assert_rewrite(
    *(path.stem for path in (Path(__file__).parent / "helpers").glob("*.py"))
)

from small_objects import checkpoint_config, random_gpt, save_checkpoint

from model.network.gpt import GPTConfig
from model.runtime.torch_setup import avoid_broken_amx
from model.tokens.bpe import Tokenizer, read_ranks

avoid_broken_amx()  # as in stages that compute in bfloat16

# The same examples on every machine, and no deadline: a busy machine is not a failure.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")

pytest_plugins = ["time_limit", "slow_tests", "gpu_tests"]


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


@pytest.fixture
def checkpoint(tmp_path, network) -> Path:
    directory = tmp_path / "checkpoint"
    save_checkpoint(directory, random_gpt(network), checkpoint_config(network))
    return directory
