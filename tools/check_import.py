"""Load a Hugging Face GPT-2 into our network, and compare its logits with those of transformers.

    python -m tools.check_import exports/baseline/seed_1337/step_3200

Exits with 1 if the logits differ by more than rounding. In Python, get the network by
`tools.hf_import.read_gpt2(Path(directory))`. Reads config.json and model.safetensors, or its
shards. Writes nothing: a checkpoint of ours also states condition, seed, step and loss
(model/network/checkpoints.py), which weights from elsewhere lack.
"""

from pathlib import Path

from common.errors import PipelineError, run_stage
from pipeline.terminal.command_lines import command_line
from tools.model_copies import verified_copy

_ROWS = 2
# As a part of the largest logit. With 124M random weights the difference is 7e-7; with the square
# projections not transposed it is 1.
_TOLERANCE = 1e-4


def main() -> None:
    parser = command_line("tools.check_import", __doc__)
    parser.add_argument(
        "directory",
        type=Path,
        help="a directory with config.json and model.safetensors, or its shards",
    )
    print(compared(parser.parse_args().directory))


def compared(directory: Path) -> str:
    """Return in words how much the logits differ; raise PipelineError if more than rounding."""
    import torch  # takes seconds, for which --help need not wait
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
    from transformers.utils import logging

    from tools.hf_import import read_gpt2

    model = read_gpt2(verified_copy(directory))
    logging.disable_progress_bar()
    # transformers would warn about stored masks, which read_gpt2 has checked.
    logging.set_verbosity_error()
    reference = GPT2LMHeadModel.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
    ).eval()
    size = (_ROWS, model.config.context)
    tokens = torch.randint(
        model.config.vocab_size, size, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        expected = reference(tokens).logits
        difference, largest = (
            (model(tokens) - expected).abs().max().item(),
            expected.abs().max().item(),
        )
    found = (
        f"{directory}: logits differ by at most {difference:.2e}, the largest is {largest:.4g}, on"
        f" {tokens.numel()} tokens"
    )
    if not difference <= _TOLERANCE * largest:
        raise PipelineError(
            f"{found}; what was loaded is another network: look at the table of"
            " model/export/weight_map.py"
        )
    return found


if __name__ == "__main__":
    run_stage(main)
