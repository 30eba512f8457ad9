"""Check all of params.yaml before anything runs, so that a wrong value costs a line and not a run.

Reads params.yaml. Writes data/params.ok, always the same bytes: later stages wait for it and rerun
for their own keys only. Before it the seal asks whether this machine has what params.yaml names
(tools/machine_limits.py). Encodes 12,288 characters with each condition's pattern. A
processor that cannot compute the portable bytes costs a line, and no more. Costs a second.
"""

import sys
from pathlib import Path

from common.errors import PipelineError, run_stage
from common.files import write_bytes
from common.sections import PARAMS_FILE
from common.yaml_file import read_yaml
from model.data.question_sample import sample_questions
from model.data.word_problems import held_out_problems
from model.numerics.processor import warning
from model.params.all_sections import Params, read_conditions
from model.tokens.bpe import PATTERN, Tokenizer


def main() -> None:
    conditions = read_conditions(read_yaml(PARAMS_FILE), PARAMS_FILE)
    require_patterns(conditions)
    params, *_ = conditions.values()
    problems = params.problems
    if problems.generated_test is not None:  # a sample that `problems` would refuse
        held_out, key = held_out_problems(problems.seed), "problems.generated_test"
        sample_questions(
            key, held_out, lambda problem: problem.story, problems.generated_test, problems.seed
        )
    other_bytes = warning() if params.numerics.kernels == "portable" else None
    if other_bytes:
        print(other_bytes, file=sys.stderr)
    write_bytes(Path("data/params.ok"), b"params.yaml is valid\n")
    print(f"params: {len(params.conditions)} conditions, {len(params.seeds)} seeds")


def require_patterns(conditions: dict[str, Params]) -> None:
    """Raise PipelineError for a regular expression that would not encode every character."""
    bytes_alone = {bytes([byte]): byte for byte in range(256)}
    for name, params in conditions.items():
        try:
            Tokenizer(bytes_alone, False, params.tokenize.pattern or PATTERN)
        except PipelineError as error:
            raise PipelineError(f"{PARAMS_FILE}: conditions.{name}: {error}") from None


if __name__ == "__main__":
    run_stage(main)
