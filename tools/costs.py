"""What the full-size profile needs: disk by stage and the arithmetic of training, computed from its
values.

    python -m tools.costs
    python -m tools.costs params.yaml

Sizes are those of the formats (float32 weights, uint16 tokens); of text only an upper bound is
known, the hub's own files. Reads the profile. Writes nothing.
"""

from pathlib import Path
from typing import NamedTuple

from common.sections import validate
from common.yaml_file import read_yaml
from model.params.all_sections import Params
from model.tokens.facts import MUL_FACTS
from pipeline.terminal.command_lines import command_line

PROFILE = Path("profiles/gpt2-124m-10b.yaml")
HUB_BYTES = (
    28.5e9  # the parquet files of FineWeb-Edu sample-10BT, with columns that fetch does not keep
)
_DOCUMENT_ROW = 12  # bytes of train_00000.documents.npy a document
_STATE = 3  # weights and both moments of AdamW
_STATES_KEPT = 2  # and for a moment one more
_VOCABULARY_MULTIPLE = 64


class Cost(NamedTuple):
    stage: str
    gigabytes: float
    made_of: str


def disk(params: Params) -> list[Cost]:
    """Return what is on disk after each stage, in DVC's workspace; DVC's cache has all but
    `scratch` once more.
    """
    weights = 4 * parameters_and_operations(params)[0] / 1e9
    conditions, runs = len(params.conditions), len(params.conditions) * len(params.seeds)
    steps = len(params.pretrain.checkpoint_steps)
    tokens = 2 * tokens_trained_on(params) / 1e9
    table = _DOCUMENT_ROW * params.fetch.passages.count / 1e9
    text = HUB_BYTES / 1e9
    return [
        Cost("fetch", text, "at most the hub's files"),
        Cost("corpus", text, "at most the same again"),
        Cost(
            "tokenize",
            conditions * (tokens + table),
            f"{conditions} × (2 bytes a token, {_DOCUMENT_ROW} a document)",
        ),
        Cost("pretrain", runs * steps * weights, f"{runs} × {steps} checkpoints of {weights:.2f}"),
        Cost(
            "pretrain, scratch",
            (_STATES_KEPT + 1) * _STATE * weights,
            f"{_STATES_KEPT + 1} states of {_STATE * weights:.2f}",
        ),
        Cost("export", runs * steps * weights, f"{runs} × {steps} exports of {weights:.2f}"),
        Cost("sft", runs * weights, f"{runs} models of {weights:.2f}"),
        Cost("sft, scratch", (_STATES_KEPT + 1) * _STATE * weights, "states, as above"),
    ]


def parameters_and_operations(params: Params) -> tuple[int, float]:
    """Return the network's parameters, and its operations a token; its vocabulary as
    model/tokens/bpe.py rounds it up.
    """
    import torch  # takes seconds, which a question for help should not

    from model.network.gpt import GPT, GPTConfig
    from model.pretraining.throughput import flops_per_token

    ids = params.tokenize.base_ranks + 1 + len(MUL_FACTS)
    size = -(-ids // _VOCABULARY_MULTIPLE) * _VOCABULARY_MULTIPLE
    network = GPTConfig(**params.model.model_dump(), vocab_size=size)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GPT(network).parameters()), flops_per_token(
            network
        )


def tokens_trained_on(params: Params) -> int:
    return params.pretrain.max_steps * params.pretrain.batch_rows * params.model.context


def report(params: Params) -> str:
    costs = disk(params)
    kept = sum(cost.gigabytes for cost in costs if "scratch" not in cost.stage)
    scratch = max(cost.gigabytes for cost in costs if "scratch" in cost.stage)
    lines = ["| stage | GB | made of |", "|---|---:|---|"]
    lines += [f"| {cost.stage} | {cost.gigabytes:.1f} | {cost.made_of} |" for cost in costs]
    lines += [
        f"| DVC's cache | {kept:.1f} | a copy of all that is not scratch; nothing where the disk"
        " has reflinks |"
    ]
    lines += [f"| all at once | {2 * kept + scratch:.0f} | the most that is there at a time |", ""]
    tokens = tokens_trained_on(params)
    parameters, per_token = parameters_and_operations(params)
    operations = per_token * tokens
    lines += [
        (
            f"{parameters:,} parameters, {tokens:,} tokens a run, {operations:.3g} floating-point"
            f" operations; {operations / (0.4 * 8 * 312e12) / 3600:.1f} hours at 40 % of eight"
            " A100's 312 TFLOP/s"
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = command_line("tools.costs", __doc__)
    parser.add_argument(
        "profile",
        nargs="?",
        type=Path,
        default=PROFILE,
        help=f"a complete params.yaml; {PROFILE} if none",
    )
    path = parser.parse_args().profile
    print(report(validate(read_yaml(path), Params, path, "")))


if __name__ == "__main__":
    main()
