"""The table of docs/gpu.md: what `make gpu` measured on which card, beside its goals."""

from collections.abc import Callable
from typing import Any, NamedTuple

Figures = dict[str, Any]
_OURS = "ours, compiled"


class Row(NamedTuple):
    """A row: the part of benchmarks/gpu.json, what was measured, the goal, and the result's text.

    `met` tells whether the goal is reached; None where there is no goal.
    """

    part: str
    measured: str
    goal: str
    result: Callable[[Figures], str]
    met: Callable[[Figures], bool] | None = None


def _times(values: list[float]) -> str:
    median, least, most = values
    return f"{median:.2f} × ({least:.2f} to {most:.2f})"


def _arm(name: str) -> Callable[[Figures], str]:
    def text(found: Figures) -> str:
        arm = found[name]
        share = f", MFU {arm['mfu']:.1%}" if "mfu" in arm else ""
        return (
            f"{arm['tokens_per_second']:,} tokens/s{share}, {arm['memory_mib']:,} MiB, micro"
            f" batches of {arm['micro_batch_rows']} rows"
        )

    return text


def _against(name: str) -> Callable[[Figures], str]:
    return lambda found: _times(found[name]["ours_is_faster_by"])


def _published(found: Figures) -> str:
    if "published" not in found:
        return "another card"
    return f"{found[_OURS]['tokens_per_second'] / found['published']['tokens_per_second']:.2f} ×"


def _shares(found: Figures) -> str:
    shares = sorted(found.get("by_kernel", {}).items(), key=lambda pair: -pair[1])
    return ", ".join(f"{kind} {share:.0%}" for kind, share in shares) or "no profile"


def _parity(found: Figures) -> str:
    return (
        f"logits differ by {found['max_abs_logit_difference']:.1e} at most; {found['seconds']:g} s"
    )


def _evaluated(dtype: str) -> Callable[[Figures], str]:
    def text(found: Figures) -> str:
        one = found[dtype]
        return (
            f"{one['items_per_second']:,} items/s against {one['lm_eval_items_per_second']:,} with"
            f" batches of {one['lm_eval_batch_size']}: {_times(one['ratio'])};"
            f" {one['same_predictions']} predictions are the same; items: {found['items_from']}"
        )

    return text


def _generated(found: Figures) -> str:
    return (
        f"{found['prompts_per_second']:,} prompts/s against"
        f" {found['transformers_prompts_per_second']:,}: {_times(found['ratio'])};"
        f" {found['same_texts']} texts are the same"
    )


_ONE_AND_A_THIRD = "1.3 ×"
ROWS = [
    Row("tests", "tests marked `gpu`", "all pass", lambda f: f"{f['passed']} pass"),
    Row("graph", "micro graph on the GPU, twice", "same bytes", lambda f: f["second_run"]),
    Row("graph", "parity of its exports", "", _parity),
    Row(
        "training",
        "training at 124M, bfloat16, compiled",
        "MFU 50 %",
        _arm(_OURS),
        lambda f: f[_OURS].get("mfu", 0) >= 0.5,
    ),
    Row(
        "training",
        "the same, sums in any order",
        "",
        _arm("ours, sums in any order"),
    ),
    Row("training", "plain nanoGPT-style loop", "", _arm("plain loop")),
    Row("training", "transformers' Trainer", "", _arm("Trainer")),
    Row(
        "training",
        "ours over the plain loop",
        _ONE_AND_A_THIRD,
        _against("plain loop"),
        lambda f: f["plain loop"]["ours_is_faster_by"][0] >= 1.3,
    ),
    Row(
        "training",
        "ours over the Trainer",
        _ONE_AND_A_THIRD,
        _against("Trainer"),
        lambda f: f["Trainer"]["ours_is_faster_by"][0] >= 1.3,
    ),
    Row(
        "training",
        "ours over llm.c's 468,000 tokens/s on one H100",
        "",
        _published,
    ),
    Row("training", "a step of ours, by kernel", "", _shares),
    Row(
        "evaluation",
        "HellaSwag at 124M in float32, lm-evaluation-harness",
        "3 ×",
        _evaluated("float32"),
        lambda f: f["float32"]["ratio"][0] >= 3,
    ),
    Row(
        "evaluation",
        "the same in bfloat16",
        "3 ×",
        _evaluated("bfloat16"),
        lambda f: f["bfloat16"]["ratio"][0] >= 3,
    ),
    Row("generation", "generation at 124M, transformers' `generate`", "", _generated),
    Row("export", "export of a 124M network trained on the GPU", "", _parity),
]


def gpu_table(found: dict[str, Figures]) -> str:
    """Return the table as Markdown, from what `make gpu` wrote; {} if it never ran on a GPU."""
    lines = ["| measured | goal | result |", "|---|---|---|"]
    for row in ROWS:
        part = found.get(row.part, {"status": "not run"})
        result = part["status"] + (f": {part['why']}" if "why" in part else "")
        if part["status"] == "passed":
            figures = part["figures"]
            result = row.result(figures)
            if row.met:
                result += "; goal reached" if row.met(figures) else "; goal missed"
        lines.append(f"| {row.measured} | {row.goal} | {result} |")
    machines = sorted({_machine(part["machine"]) for part in found.values()})
    return "\n".join([*lines, "", *(f"Measured on {each}." for each in machines)]).strip() + "\n"


def _machine(machine: dict[str, str]) -> str:
    versions = [f"{name} {value}" for name, value in machine.items() if name != "card"]
    return f"{machine['card']}: {', '.join(versions)}"
