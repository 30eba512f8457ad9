"""Compute what a profile needs: disk by stage, and the arithmetic of training.

    python -m tools.costs
    python -m tools.costs params.yaml
    python -m tools.costs --sizes
        machines, hours, disk and dollars of the profile at 1, 10 and 100 times its tokens

Sizes follow from the formats (float32 weights, uint16 tokens). For text only an upper bound is
known, the size of the hub's files. A run of any condition counts as one of the base network. Reads
the profile. Writes nothing.
"""

from pathlib import Path
from typing import NamedTuple

from common.sections import validate
from common.yaml_file import read_yaml
from model.params.all_sections import Params
from model.tokens.facts import MUL_FACTS
from pipeline.terminal.command_lines import command_line

PROFILE = Path("profiles/gpt2-124m-10b.yaml")
# The parquet files of FineWeb-Edu sample-10BT, with columns that fetch does not keep.
HUB_BYTES = 28.5e9
_DOCUMENT_ROW = 12  # bytes per document in train_00000.documents.npy
_STATE = 3  # a state's size in weights: the weights and both moments of AdamW
_STATES_KEPT = 2  # one more exists while a new state is written
_VOCABULARY_MULTIPLE = 64

# What --sizes assumes. Bytes of English text per GPT-2 token.
_TEXT_BYTES = 4.7
# Bytes of text per second and core, measured on two cores (docs/lab_notes.md).
_CORPUS_RATE, _TOKENIZE_RATE = 3.5e6, 5.1e6
# Bytes per second of DVC's md5 in one thread, measured with one and two threads, and the threads
# that docs/first_full_size_run.md recommends.
_MD5_RATE, _MD5_THREADS = 0.7e9, 16
_CORES = 64  # of a machine without GPUs
# FLOP/s of an A100, at 40 % of 312 TFLOP/s; GPUs of a node.
_GPU_RATE, _GPUS_OF_NODE = 0.4 * 312e12, 8
# Dollars per hour: eight A100 at Lambda's price (docs/first_full_size_run.md); 64 cores are an
# assumption.
_NODE_PRICE, _MACHINE_PRICE = 22.32, 3.0


class Size(NamedTuple):
    """The profile at `times` its tokens, and the machines and GPUs that it runs on."""

    times: int
    characters_per_shard: int
    machines: int
    gpus: int


SIZES = (
    Size(1, 50_000_000, 1, 8),
    Size(10, 50_000_000, 4, 64),
    Size(100, 200_000_000, 16, 64),
)


class Cost(NamedTuple):
    stage: str
    gigabytes: float
    made_of: str


def disk(params: Params, times: int = 1) -> list[Cost]:
    """Return what each stage leaves in DVC's workspace; `times` multiplies text and tokens.

    DVC's cache holds a copy of all but `scratch`.
    """
    weights = 4 * parameters_and_operations(params)[0] / 1e9
    conditions, runs = len(params.conditions), len(params.conditions) * len(params.seeds)
    steps = len(params.pretrain.checkpoint_steps)
    tokens = times * 2 * tokens_trained_on(params) / 1e9
    table = times * _DOCUMENT_ROW * params.fetch.passages.count / 1e9
    text = times * HUB_BYTES / 1e9
    return [
        Cost("fetch", text, "at most the hub's files"),
        Cost("corpus", text, "at most the same again"),
        Cost("corpus, scratch", 2 * text, "dealt out to groups, and to shards"),
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
    """Return the network's number of parameters, and its operations per token.

    The vocabulary is rounded up as in model/tokens/bpe.py.
    """
    import torch  # takes seconds, for which --help need not wait

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


def kept_and_peak(costs: list[Cost]) -> tuple[float, float]:
    """Return the gigabytes that remain in the workspace, and the largest use of disk at any time.

    The peak includes DVC's copy of what is kept, and the scratch folder of the running stage.
    """
    kept = peak = 0.0
    for cost in costs:
        if "scratch" in cost.stage:
            peak = max(peak, 2 * kept + cost.gigabytes)
        else:
            kept += cost.gigabytes
    return kept, max(peak, 2 * kept)


def sizes(params: Params) -> str:
    """Return a table of what the profile costs at each of SIZES."""
    lines = [
        "| tokens | text, TB | shards | machines | `corpus`, min | `tokenize`, min | DVC's md5, min"
        " | A100 | `pretrain`, h | disk, TB | dollars |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    conditions = len(params.conditions)
    runs = conditions * len(params.seeds)
    _, operations = parameters_and_operations(params)
    for size in SIZES:
        tokens = size.times * tokens_trained_on(params)
        text = _TEXT_BYTES * tokens
        corpus = text / (_CORPUS_RATE * _CORES * size.machines) / 3600
        tokenize = conditions * text / (_TOKENIZE_RATE * _CORES * size.machines) / 3600
        kept, peak = kept_and_peak(disk(params, size.times))
        md5 = [1e9 * kept / (_MD5_RATE * threads) / 3600 for threads in (1, _MD5_THREADS)]
        pretrain = runs * operations * tokens / (_GPU_RATE * size.gpus) / 3600
        dollars = _NODE_PRICE * pretrain * size.gpus / _GPUS_OF_NODE
        dollars += _MACHINE_PRICE * (corpus + tokenize) * size.machines
        lines.append(
            f"| {tokens / 1e9:,.0f} B | {text / 1e12:.2f} |"
            f" {text / size.characters_per_shard:,.0f} | {size.machines} | {60 * corpus:.0f} |"
            f" {60 * tokenize:.0f} | {60 * md5[0]:.0f}, or {60 * md5[1]:.1f} | {size.gpus} |"
            f" {pretrain:.0f} | {peak / 1000:.1f} | {dollars:,.0f} |"
        )
    return "\n".join(lines)


def report(params: Params) -> str:
    costs = disk(params)
    kept, peak = kept_and_peak(costs)
    lines = ["| stage | GB | made of |", "|---|---:|---|"]
    lines += [f"| {cost.stage} | {cost.gigabytes:.1f} | {cost.made_of} |" for cost in costs]
    lines += [
        f"| DVC's cache | {kept:.1f} | a copy of all that is not scratch; nothing where the disk"
        " has reflinks |"
    ]
    lines += [f"| all at once | {peak:.0f} | the most that is there at a time |", ""]
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
        help=f"a complete params.yaml (default: {PROFILE})",
    )
    parser.add_argument(
        "--sizes", action="store_true", help="show the profile at 1, 10 and 100 times its tokens"
    )
    options = parser.parse_args()
    params = validate(read_yaml(options.profile), Params, options.profile, "")
    print(sizes(params) if options.sizes else report(params))


if __name__ == "__main__":
    main()
