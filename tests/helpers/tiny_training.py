"""A network and parameters that train within a second."""

import yaml
from repository import REPOSITORY

from model.network.gpt import GPTConfig
from model.numerics.setting import Numerics
from model.numerics.side_by_side import SideBySide
from model.params.pretrain import PretrainParams
from model.runtime.distributed import Processes

ONE_PROCESS = Processes(rank=0, local_rank=0, count=1)
# torch's own kernels, in whatever process a test runs.
NATIVE = Numerics(portable=False, threads=1, side_by_side=SideBySide(1))
# For a test that has installed portable kernels.
PORTABLE = NATIVE._replace(portable=True)
NETWORK = GPTConfig(layers=1, heads=2, width=16, context=8, vocab_size=100)
MICRO = yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())["pretrain"] | {
    "max_steps": 4,
    "checkpoint_steps": [4],
    "learning_rate": 1.0e-3,
    "min_learning_rate": 1.0e-4,
    "warmup_steps": 1,
    "log_every": 2,
    "validate_every": 2,
    "state_every": 4,
}


def params(**changes) -> PretrainParams:
    return PretrainParams(**{**MICRO, **changes})
