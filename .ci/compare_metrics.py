"""Compare the results of a run with the committed ones.

If this machine computes the known answer of portable kernels, metrics and dvc.lock (the hashes of
all outputs) must have the committed bytes. Otherwise, or with native kernels, figures must be close
to the committed ones. Prints which rule was applied; exits with 1 if a figure is off, missing or
new.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

# Another processor sums in another order, and training amplifies the difference. These tolerances
# were chosen, not measured. 0.05 is more than one and a half times the half-width of an accuracy's
# interval. 2 % is about how much bits per byte fall over the last third of training.
RELATIVE = 0.02
ACCURACY = 0.05
# Figures after fine-tuning vary more. Between two seeds they differed by 0.12 for generated
# problems, 0.07 in a bound of the probes' intervals, and 12 % in the loss.
FINE_TUNED_ACCURACY = 0.15
FINE_TUNING_LOSS = 0.25
COMPARISON = "metrics/comparison.json"

Rule = Callable[[Any, Any], bool]  # takes our value and the committed one


def anything(ours: Any, committed: Any) -> bool:
    return True


def between(low: float, high: float) -> Rule:
    return lambda ours, committed: low <= ours <= high


def within(distance: float) -> Rule:
    return lambda ours, committed: abs(ours - committed) <= distance


def within_share(share: float) -> Rule:
    return lambda ours, committed: abs(ours - committed) <= share * abs(committed)


def equal_or_within_share(share: float) -> Rule:
    """Return the rule that a float may differ by `share` of itself, and no other value may."""

    def rule(ours: Any, committed: Any) -> bool:
        if isinstance(committed, float):
            return ours is not None and within_share(share)(ours, committed)
        return ours == committed

    return rule


# Rows of (file, figure, rule); the first row that fits decides. File: COMPARISON, a name below a
# run's metrics, or None for any. Figure: a regular expression for the whole dotted path.
RULES: tuple[tuple[str | None, str, Rule], ...] = (
    (None, r".*max_abs_logit_difference", between(float("-inf"), 1e-4)),
    (COMPARISON, r".*_holm_p", between(0, 1)),
    (COMPARISON, r"\.fine_tuned\..*_difference", within(2 * FINE_TUNED_ACCURACY)),
    (COMPARISON, r"\.fine_tuned\..*", within(FINE_TUNED_ACCURACY)),
    (COMPARISON, r".*_difference", within(2 * ACCURACY)),
    (COMPARISON, r".*", within(ACCURACY)),
    # A rate, or a bound of its interval.
    ("probes/sft.json", r".*(rate|\.0|\.1)", within(FINE_TUNED_ACCURACY)),
    ("gsm8k.json", r"\.generated\..*(rate|\.0|\.1)", within(FINE_TUNED_ACCURACY)),
    (None, r".*(rate|\.0|\.1)", within(ACCURACY)),
    (None, r".*correct", anything),  # another row compares the rate
    (None, r".*weights_sha256", anything),  # other rounding gives other weights
    # Other weights give other answers, so only the end of answers is compared.
    ("gsm8k.json", r".*(\.cut|\.facts|\.no_answer\..*)", anything),
    ("gsm8k.json", r".*\.stopped", within_share(ACCURACY)),
    ("sft.json", r".*", equal_or_within_share(FINE_TUNING_LOSS)),
    (None, r".*", equal_or_within_share(RELATIVE)),
)


def figures(value, path=""):
    """Yield (dotted path, leaf) for every leaf of a JSON value."""
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from figures(child, f"{path}.{key}")
    else:
        yield path, value


def close(file: str, path: str, ours: Any, committed: Any) -> bool:
    """Return whether the figure at `path` of `file` may come from another processor."""
    rule = next(
        rule
        for of_file, figure, rule in RULES
        if of_file in (None, file) and re.fullmatch(figure, path)
    )
    return rule(ours, committed)


def compare(name: str, ours: bytes, committed: bytes) -> list[str]:
    """Return a line for each figure that another processor's rounding does not explain."""
    left, right = dict(figures(json.loads(ours))), dict(figures(json.loads(committed)))
    if left.keys() != right.keys():
        return [f"{name}: other keys than committed"]
    file = COMPARISON if name == COMPARISON else name.partition("/seed_")[2].partition("/")[2]
    off = (path for path in left if not close(file, path, left[path], right[path]))
    return [f"{name}: {path[1:]} is {left[path]}, committed {right[path]}" for path in off]


def must_be_identical() -> bool:
    """Return whether the run's kernels are portable, and this machine computes the known answer.

    A new process computes it, with the variables that the seal sets for stages.
    """
    sys.path.insert(0, os.getcwd())
    from pipeline.seal.environment import environment_of_libraries

    params = yaml.safe_load(Path("params.yaml").read_text())
    kernels = params["numerics"]["kernels"]
    if kernels != "portable":
        return False
    environment = environment_of_libraries({"numerics.kernels": kernels})
    command = [sys.executable, "-m", "model.numerics.known_answer"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"metrics: {' '.join(command[1:])} failed:\n{done.stderr}")
    return done.stdout.rstrip().endswith(" as everywhere")


def git(*arguments: str) -> bytes:
    return subprocess.check_output(["git", *arguments])


def main() -> None:
    identity = must_be_identical()
    names = git("ls-files", "metrics/*.json").decode().split()
    problems = [
        f"{name}: not committed"
        for name in git("ls-files", "-o", "--exclude-standard", "metrics").decode().split()
    ]
    identical = 0
    for name in names:
        if not Path(name).is_file():
            problems.append(f"{name}: not regenerated")
            continue
        ours, committed = Path(name).read_bytes(), git("show", f"HEAD:{name}")
        identical += ours == committed
        if identity and ours != committed:
            problems.append(f"{name}: other bytes than committed")
        elif not identity:
            problems += compare(name, ours, committed)
    same = Path("dvc.lock").read_bytes() == git("show", "HEAD:dvc.lock")
    if identity and not same:
        problems.append("dvc.lock: changed; git diff dvc.lock names the outputs")
    for problem in problems:
        print(problem)
    if problems or not names:
        sys.exit(f"metrics: {len(problems)} problems in {len(names)} committed files")
    print(
        "dvc.lock: unchanged, so every output of every stage has the committed bytes"
        if same
        else "dvc.lock: changed"
    )
    if identity or identical == len(names):
        print(f"metrics: all {identical} files identical to the committed bytes")
    else:
        print(
            f"metrics: {identical} of {len(names)} files identical to the committed bytes, the"
            " others within tolerance"
        )
        print(
            f"metrics: tolerance is {ACCURACY} for accuracies, {RELATIVE:.0%} for other figures;"
            " after fine-tuning more"
        )


if __name__ == "__main__":
    main()
