"""Check all of params.yaml before anything runs, so a wrong value costs a second and not a run.

Reads params.yaml. Writes data/params.ok, always with the same bytes, so later stages wait for it
but rerun for their own keys only. Before the stage starts, the seal checks that this machine has
what params.yaml names (tools/machine_limits.py). The stage encodes 12,288 characters with each
condition's pattern. It warns, and does not stop, if the processor cannot compute the portable
bytes. Costs a second.
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
    # The stage `problems` would refuse such a sample, but only after data was fetched.
    if problems.generated_test is not None:
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
    """Raise PipelineError if a condition's pattern does not match every character."""
    # The pattern alone matters, so a vocabulary of the 256 single bytes is enough.
    bytes_alone = {bytes([byte]): byte for byte in range(256)}
    for name, params in conditions.items():
        try:
            Tokenizer(bytes_alone, False, params.tokenize.pattern or PATTERN)
        except PipelineError as error:
            raise PipelineError(f"{PARAMS_FILE}: conditions.{name}: {error}") from None


if __name__ == "__main__":
    run_stage(main)
