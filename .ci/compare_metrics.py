"""Compare the metrics a run just made with those committed: identical bytes, or close figures on another processor.

Prints which of the two holds; exits 1 when a figure is off, missing or new.
"""

import json
import subprocess
import sys

# Another processor sums in another order, and training amplifies that; these bound what the change of order explains.
# Measured with ATEN_CPU_CAPABILITY and MKL's instruction set capped: losses moved by less than 0.5 %, accuracies by 0.02.
RELATIVE = 0.02
ACCURACY = 0.05


def figures(value, path=""):
    """Yield (dotted path, leaf) for every leaf of a JSON value."""
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from figures(child, f"{path}.{key}")
    else:
        yield path, value


def close(path: str, ours, committed) -> bool:
    if path.endswith("max_abs_logit_difference"):
        return ours <= 1e-4
    if path.endswith(("rate", ".0", ".1")):
        return abs(ours - committed) <= ACCURACY
    if path.endswith("correct"):
        return True  # its rate is compared
    return ours == committed or abs(ours - committed) <= RELATIVE * abs(committed)


def main() -> None:
    git = ["git", "-c", "core.quotepath=off"]
    names = subprocess.check_output([*git, "ls-files", "metrics"], text=True).split()
    untracked = subprocess.check_output([*git, "ls-files", "--others", "--exclude-standard", "metrics"], text=True).split()
    problems = [f"{name}: not committed" for name in untracked]
    identical = 0
    for name in names:
        committed = subprocess.check_output([*git, "show", f"HEAD:{name}"])
        try:
            with open(name, "rb") as file:
                ours = file.read()
        except FileNotFoundError:
            problems.append(f"{name}: not regenerated")
            continue
        if ours == committed:
            identical += 1
            continue
        left, right = dict(figures(json.loads(ours))), dict(figures(json.loads(committed)))
        if left.keys() != right.keys():
            problems.append(f"{name}: other keys than committed")
        else:
            problems += [
                f"{name}: {path[1:]} is {left[path]}, committed {right[path]}"
                for path in left
                if not close(path, left[path], right[path])
            ]
    for problem in problems:
        print(problem)
    if problems or not names:
        sys.exit(f"metrics: {len(problems)} problems in {len(names)} committed files")
    if identical == len(names):
        print(f"metrics: all {identical} files identical to the committed bytes")
    else:
        print(
            f"metrics: {identical} of {len(names)} files identical, the others within tolerance (accuracy {ACCURACY}, others {RELATIVE:.0%})"
        )


if __name__ == "__main__":
    main()
