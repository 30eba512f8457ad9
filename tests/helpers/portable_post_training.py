"""Fine-tune a tiny GPT-2 with portable kernels, let it answer, and print the results.

    PYTHONPATH=.:tests/helpers python tests/helpers/portable_post_training.py GPT2 STATES [KILL]

GPT2 is a directory that `new_project` saved, STATES a folder for states. With KILL, the process
kills itself when the state of step 2 is complete. The environment must have pyproject.toml's
variables.
"""

import hashlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path

from tiny_fine_tuning import PARAMS, Project

from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.post_training.trainer import States

# Groups of 4, 4 and 2 rows.
GROUPED = PARAMS.model_copy(
    update={"batch_rows": 10, "max_steps": 4, "warmup_steps": 1, "log_every": 1, "state_every": 2}
)


def main() -> None:
    directory, states = map(Path, sys.argv[1:3])
    warnings.simplefilter("ignore")
    numerics = set_numerics(NumericsParams(kernels="portable", threads=None))
    if len(sys.argv) > 3:
        complete = States.complete

        def killed(self: States, step: int) -> None:
            complete(self, step)
            os.kill(os.getpid(), signal.SIGKILL)

        States.complete = killed
    project = Project(directory)
    model, curve = project.train(states, GROUPED, numerics=numerics)
    weights = hashlib.sha256()
    for parameter in model.parameters():
        weights.update(parameter.detach().numpy().tobytes())
    # Two batches whose rows end at different lengths.
    answers = project.answers(model, batch_rows=2, threads=numerics.threads)
    print(json.dumps({"weights": weights.hexdigest(), "curve": curve, "answers": answers}))
    print(f"{numerics.threads} threads", file=sys.stderr)


if __name__ == "__main__":
    main()
