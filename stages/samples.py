"""Let one export continue the prompts of params.yaml greedily, for people to read.

Reads exports/CONDITION/seed_S/step_N. Writes samples/CONDITION/seed_S/step_N: a line for each
prompt. A prompt is encoded as its condition encodes a training document, so its facts are tokens if
the condition has fact tokens. Costs a third of a second in the demo; not measured at full size.
"""

import sys
from pathlib import Path

from common.errors import run_stage
from common.files import checksummed_directory, verified_directory
from common.sections import read_section
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import end_of_text, load_hugging_face_model
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.params.samples import SamplesParams
from model.post_training.decoding import continue_greedily
from model.post_training.sample_files import Sample, write_samples, written
from model.runtime.torch_setup import require_device
from model.tokens.export_tokenizer import FactTokenizer


def main() -> None:
    run = Path(sys.argv[1]) / f"seed_{sys.argv[2]}" / f"step_{sys.argv[3]}"
    params = read_section("samples", SamplesParams)
    require_device("samples.device", params.device)
    threads = set_numerics(read_section("numerics", NumericsParams)).side_by_side
    directory = verified_directory(Path("exports") / run)
    model = load_hugging_face_model(directory, params.device)
    end = end_of_text(model)
    tokenizer = FactTokenizer(read_tokenizer(directory, model.config.vocab_size), end)
    prompts = [[end, *tokenizer.encode(prompt, injected=True)] for prompt in params.prompts]
    batch_rows = max(1, len(prompts))
    found = continue_greedily(
        model, prompts, params.new_tokens, batch_rows, f"samples {run}", threads
    )
    samples = [
        Sample(
            prompt=prompt,
            answer=written(tokenizer.segments(continuation.ids)),
            prompt_tokens=len(ids),
            new_tokens=len(continuation.ids),
            ended="stopped" if continuation.stopped else "cut",
        )
        for prompt, ids, continuation in zip(params.prompts, prompts, found, strict=True)
    ]
    with checksummed_directory(Path("samples") / run) as output:
        write_samples(output, samples)
    stopped = sum(sample.ended == "stopped" for sample in samples)
    print(f"samples {run}: {len(samples)} prompts continued, {stopped} to the end of a text")


if __name__ == "__main__":
    run_stage(main)
