"""Read the numbers in one fine-tuned model's answers to the problems, and count the right ones.

Reads generations/CONDITION/seed_S. Writes metrics/CONDITION/seed_S/gsm8k.json, and the numbers that
were read to scores/CONDITION/seed_S/gsm8k. Costs two seconds in the demo.
"""

import sys
from pathlib import Path

from common.errors import PipelineError, printable, run_stage
from common.files import checksummed_directory, write_json, write_jsonl
from model.post_training.answer_files import Generation, read_generations
from model.post_training.answer_reading import Reading, read, summarize
from model.tasks.problem_sets import PROBLEM_SETS


def main() -> None:
    run = f"{sys.argv[1]}/seed_{sys.argv[2]}"
    metrics = {}
    with checksummed_directory(Path("scores") / run / "gsm8k") as output:
        for name in PROBLEM_SETS:
            path = Path("generations") / run / f"{name}.jsonl"
            generations = read_generations(path)
            readings = read_all(path, generations)
            pairs = zip(generations, readings, strict=True)
            rows = [
                {"question": of.question, "cluster": of.cluster, **written(reading)}
                for of, reading in pairs
            ]
            write_jsonl(output / f"{name}.jsonl", rows)
            metrics[name] = summarize(generations, readings)
    write_json(Path("metrics") / run / "gsm8k.json", metrics)
    figures = ", ".join(
        f"{name} strict {figures['strict']['rate']:.4f}" for name, figures in metrics.items()
    )
    print(f"gsm8k {run}: {figures}")


def read_all(path: Path, generations: list[Generation]) -> list[Reading]:
    """Return the numbers read in a file's generations.

    Raises PipelineError, which names the record, if a reference solution has no answer.
    """
    readings: list[Reading] = []
    try:
        for generation in generations:
            readings.append(read(generation))
    except ValueError as error:
        raise PipelineError(
            f"{path}: record {len(readings)}: answer: {printable(str(error))}; run dvc repro"
        ) from None
    return readings


def written(reading: Reading) -> dict[str, str | None]:
    """Return a reading with its exact numbers as text: `18`, `3/4`."""
    return {
        name: None if number is None else str(number) for name, number in reading._asdict().items()
    }


if __name__ == "__main__":
    run_stage(main)
