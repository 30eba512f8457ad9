"""Print hashes of tiny work of every stage that computes; they must be equal on all processors.

    python tests/helpers/portable_work.py FOLDER [STAGE …]

The output is JSON. FOLDER/gpt2 is a model that the test has saved. Without STAGE, run all stages.
`operators` in place of STAGE prints the names of torch's operators that all this work calls.
"""

import hashlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gpt2_directories import real_items
from outcome_sample import outcomes
from small_objects import write_token_split
from tiny_fine_tuning import PARAMS, Project
from tiny_training import ONE_PROCESS, params
from torch.utils._python_dispatch import TorchDispatchMode

from model.comparison.family import compare_outcomes, judge
from model.hugging_face.directory import read_hugging_face_directory
from model.hugging_face.loading import load_hugging_face_model
from model.network.gpt import GPT, GPTConfig
from model.numerics.setting import Numerics, set_numerics
from model.params.numerics import NumericsParams
from model.pretraining.loop import History, Training
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation
from model.scoring import scorer as scoring
from model.scoring.scorer import Scorer
from model.tasks.wordings import WORDINGS


class Nowhere:
    """A store of training states that keeps none."""

    def resume(self, model, optimizer) -> History:
        return History()

    def keep_checkpoint(self, step, model) -> None:
        pass

    def keep_state(self, model, optimizer, history) -> None:
        pass


def hashed(*parts) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(
            np.ascontiguousarray(part.detach()).tobytes()
            if isinstance(part, torch.Tensor)
            else repr(part).encode()
        )
    return found.hexdigest()


def pretrained(saved: Path, folder: Path, numerics: Numerics, **changes) -> str:
    documents = [[99, *((7 * token) % 90 for token in range(n, n + 40))] for n in range(40)]
    splits = write_token_split(folder / "tokens", documents, ["text"] * 20 + ["drills"] * 20)
    model = GPT(GPTConfig(layers=2, heads=2, width=48, context=64, vocab_size=100))
    model.initialize(torch.Generator().manual_seed(0))
    chosen = params(**changes)
    rows = TrainingRows(splits[0], 64, seed=0)
    validation = Validation(splits[1], 20, 64, "drills", chosen.attention_within_documents)
    training = Training(model, rows, validation, chosen, numerics, ONE_PROCESS, "tiny")
    history = training.run(Nowhere())
    return hashed(*model.state_dict().values(), history.training, history.validated)


def fine_tuned(saved: Path, folder: Path, numerics: Numerics) -> str:
    chosen = PARAMS.model_copy(update={"max_steps": 6, "state_every": 6, "warmup_steps": 2})
    model, curve = Project(saved).train(folder / "states", chosen, numerics=numerics)
    return hashed(*model.state_dict().values(), curve)


def generated(saved: Path, folder: Path, numerics: Numerics) -> str:
    model = load_hugging_face_model(saved).eval()
    return hashed(Project(saved).answers(model, threads=numerics.threads))


def scored(saved: Path, folder: Path, numerics: Numerics) -> str:
    gpt2 = read_hugging_face_directory(saved)
    scorer = Scorer(gpt2, "cpu", "float32", numerics, 512, ONE_PROCESS)
    found = scorer.score(real_items(12), WORDINGS["reference"], "tiny")
    return hashed([item.nats for item in found])


def compared(saved: Path, folder: Path, numerics: Numerics) -> str:
    """Hash bootstrap, sign tests, Student's tests, intervals, detectable differences and Holm."""
    generator = np.random.default_rng(0)
    right = generator.random((2, 2, 60)) < 0.4
    bits = generator.normal(2, 0.5, (2, 2, 60))
    clusters = [str(n // 3) for n in range(60)]
    rows = [
        compare_outcomes(
            *("step 1", f"figure {n}", "other"),
            tuple([outcomes(list(each), clusters=clusters) for each in arm] for arm in values),
        )
        for n, values in enumerate((right.astype(float), bits))
    ]
    return hashed(
        [(one.row.comparison, one.holm_p, one.detectable, one.interval) for one in judge(rows)]
    )


class InThisThread:
    """A ThreadPoolExecutor that works in the calling thread."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


class Operators(TorchDispatchMode):
    """A recorder of the operators that this thread calls, including backward passes."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*arguments, **(keywords or {}))


WORK = {
    "pretrain": pretrained,
    "pretrain otherwise": partial(
        pretrained, optimizer="muon", schedule="linear", attention_within_documents=True
    ),
    "sft": fine_tuned,
    "generate": generated,
    "evaluate": scored,
    "compare": compared,
}


def work(saved: Path, stages: list[str], numerics: Numerics) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        return {stage: WORK[stage](saved, Path(folder), numerics) for stage in stages}


def main() -> None:
    saved = Path(sys.argv[1]) / "gpt2"
    stages = sys.argv[2:]
    numerics = set_numerics(NumericsParams(kernels="portable", threads=None))
    if stages == ["operators"]:
        scoring.ThreadPoolExecutor = InThisThread
        with Operators() as operators:
            work(saved, list(WORK), numerics)
        print(json.dumps(sorted(operators.names)))
    else:
        print(json.dumps(work(saved, stages or list(WORK), numerics)))


if __name__ == "__main__":
    main()
