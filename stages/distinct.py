"""Check that no two conditions train on the same tokens, before a step is trained: their networks
would be the same.

Reads data/tokens: each condition's index.json and the SHA-256 of its shards. Writes
data/distinct.ok, always the same bytes: `pretrain` waits for it and reruns for its own condition
only. Costs half a second at any size.
"""

from pathlib import Path

from common.errors import PipelineError, run_stage
from common.files import CHECKSUMS, verified, write_bytes
from common.sections import read_json, read_section
from model.tokens.shards import Index

TOKENS = Path("data/tokens")


def main() -> None:
    conditions = read_section("conditions", list[str])
    indices = {
        condition: read_json(verified(TOKENS / condition / "index.json"), Index)
        for condition in conditions
    }
    refuse_same_tokens(indices)
    write_bytes(Path("data/distinct.ok"), b"no two conditions train on the same tokens\n")
    print(f"distinct: {len(conditions)} conditions, all with training tokens of their own")


def refuse_same_tokens(indices: dict[str, Index]) -> None:
    """Raise PipelineError naming every group of conditions whose training shards have the same
    bytes.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for condition in indices:
        groups.setdefault(training_shards(TOKENS / condition), []).append(condition)
    same = [group for group in groups.values() if len(group) > 1]
    if same:
        names = "; ".join(
            f"{', '.join(group[:-1])} and {group[-1]} train on the same"
            f" {indices[group[0]].total('train', 'tokens'):,} tokens"
            for group in same
        )
        raise PipelineError(
            f"distinct: {names}: they encode no training text differently; params.yaml: raise"
            " corpus.drill_fraction (mul_tokens needs stated products), or take a condition out of"
            " conditions; or edit its module in model/conditions/"
        )


def training_shards(directory: Path) -> tuple[str, ...]:
    """Return the names and SHA-256 of the training ids, as the directory's checksums have them."""
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
