"""Check before training that no two conditions would train the same network.

Comparing such conditions would show nothing. Reads data/tokens (each condition's index.json and the
SHA-256 of its shards), and the sections that conditions override. Writes data/distinct.ok, always
with the same bytes, so `pretrain` waits for it but reruns for its own condition only. Costs half a
second at any size.
"""

from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError, run_stage
from common.files import CHECKSUMS, verified, write_bytes
from common.sections import read_json, read_section
from model.conditions.effective import effective_sections, with_effect
from model.tokens.shards import Index

TOKENS = Path("data/tokens")


def main() -> None:
    conditions = read_section("conditions", dict)
    base = {
        "tokenize": read_section("tokenize", dict),
        "model": read_section("model", dict),
        "pretrain": read_section("pretrain", dict),
        "sft": read_section("sft", dict),
    }
    found = {
        name: Condition(
            with_effect(effective_sections(base, own)),
            read_json(verified(TOKENS / name / "index.json"), Index).total("train", "tokens"),
            training_shards(TOKENS / name),
        )
        for name, own in conditions.items()
    }
    refuse_same_effect(found)
    write_bytes(Path("data/distinct.ok"), b"no two conditions have the same effect\n")
    print(f"distinct: {len(conditions)} conditions, each with an effect of its own")


class Condition(NamedTuple):
    """A condition's effect: its sections without idle keys, its training tokens, its shards.

    `tokens` is how many tokens it trains on, and `shards` the result of `training_shards`.
    """

    sections: dict[str, Any]
    tokens: int
    shards: tuple[str, ...]


def refuse_same_effect(conditions: dict[str, Condition]) -> None:
    """Raise PipelineError, which names every group of conditions with the same effect."""
    groups: list[list[str]] = []
    for name, condition in conditions.items():
        alike = [group for group in groups if _same_effect(conditions[group[0]], condition)]
        if alike:
            alike[0].append(name)
        else:
            groups.append([name])
    same = [group for group in groups if len(group) > 1]
    if same:
        names = "; ".join(
            f"{', '.join(group[:-1])} and {group[-1]} train the same network on the same"
            f" {conditions[group[0]].tokens:,} tokens"
            for group in same
        )
        raise PipelineError(
            f"distinct: {names}; in params.yaml give one of them another value, or take it out of"
            " conditions. Where only tokenize differs, it encodes no training text differently"
            " (mul_facts needs stated products: raise corpus.drill_fraction)"
        )


def _same_effect(one: Condition, other: Condition) -> bool:
    """Return whether two conditions train one network, and do not differ in `sft` alone.

    They train one network if `model`, `pretrain` and the hashes of the training tokens agree. If
    only `sft` differs, fine-tuning is their effect. A `tokenize` that differs and gives the same
    tokens has no effect.
    """
    same = {name for name in one.sections if one.sections[name] == other.sections[name]}
    trained_alike = {"model", "pretrain"} <= same and one.shards == other.shards
    return trained_alike and ("sft" in same or "tokenize" not in same)


def training_shards(directory: Path) -> tuple[str, ...]:
    """Return the lines of the directory's SHA256SUMS for the files of training ids, sorted."""
    lines = (directory / CHECKSUMS).read_text().splitlines()
    return tuple(
        sorted(
            line
            for line in lines
            if line.split("  ", 1)[1].startswith("train_") and line.endswith(".bin")
        )
    )


if __name__ == "__main__":
    run_stage(main)
