"""Draw the conversations to fine-tune on, and the problems that fine-tuned models answer.

Reads data/raw/conversations and data/raw/gsm8k. Writes data/conversations, a mixture of
conversations to train on, and data/problems: held-out generated problems and GSM8K's test set.
Conversations that share text with GSM8K's test set are left out and counted; GSM8K's own training
set has seven. Costs a second in the demo, minutes for a million conversations.
"""

import itertools
from collections import Counter
from pathlib import Path

from common.errors import PipelineError, run_stage
from common.files import checksummed_directory, verified_directory, write_json, write_jsonl
from common.sections import read_section
from model.data.contamination import Benchmark
from model.data.conversations import AskedQuestion, Conversation, Question, read_kept, two_turns
from model.data.gsm8k_text import evaluated_texts
from model.data.question_sample import sample_questions
from model.data.word_problems import held_out_problems, training_problems
from model.params.mixture import mix, shares
from model.params.problems import GENERATED, ProblemsParams

CONVERSATIONS = Path("data/raw/conversations")
GSM8K = Path("data/raw/gsm8k/test.jsonl")
TRAIN = Path("data/conversations")
ASKED = Path("data/problems")


def main() -> None:
    params = read_section("problems", ProblemsParams)
    tests = read_kept(GSM8K, Question)
    benchmark = Benchmark(
        evaluated_texts(question.model_dump() for question in tests), params.contamination_words
    )
    fetched = verified_directory(CONVERSATIONS)
    sources, contaminated = {}, {}
    for name, count in shares(params.mixture, params.conversations).items():
        if name == GENERATED:
            sources[name] = generated(count, params.seed)
        else:
            sources[name], contaminated[name] = read_source(fetched / f"{name}.jsonl", benchmark)
    train = mix(sources, params.mixture, params.conversations, params.seed)
    held_out = [
        AskedQuestion(question=asked, answer=solution, cluster=story)
        for story, asked, solution in held_out_problems(params.seed)
    ]
    # Some of GSM8K's questions differ in a name only, so those with one solution are one cluster.
    distinct = [
        AskedQuestion(**question.model_dump(), cluster=question.answer) for question in tests
    ]
    asked = {
        GENERATED: sample_questions(
            "problems.generated_test", held_out, _cluster, params.generated_test, params.seed
        ),
        "gsm8k": sample_questions(
            "problems.gsm8k_test", distinct, _cluster, params.gsm8k_test, params.seed
        ),
    }
    drawn = Counter(each.source for each in train)
    with checksummed_directory(TRAIN) as output:
        write_jsonl(output / "train.jsonl", [conversation.model_dump() for conversation in train])
        write_json(output / "index.json", {"contaminated": contaminated, "drawn": drawn})
    with checksummed_directory(ASKED) as output:
        for name, questions in asked.items():
            write_jsonl(output / f"{name}.jsonl", [question.model_dump() for question in questions])
    counts = " and ".join(f"{len(questions)} of {name}" for name, questions in asked.items())
    dropped = "".join(
        f", {count} contaminated of {name} dropped" for name, count in contaminated.items()
    )
    # Sources with fewer conversations than the mixture draws, and how often each one is taken.
    short = {
        name: count / len(sources[name])
        for name, count in drawn.items()
        if count > len(sources[name])
    }
    again = "".join(
        f", {name}'s {len(sources[name])} taken {times:.1f} times each"
        for name, times in short.items()
    )
    print(f"problems: {len(train)} conversations to train on{dropped}{again}; {counts} to ask")


def _cluster(question: AskedQuestion) -> str:
    return question.cluster


def generated(count: int, seed: int) -> list[Conversation]:
    """Return `count` generated problems with their solutions as conversations."""
    problems = itertools.islice(training_problems(seed), count)
    return [two_turns(GENERATED, problem.question, problem.solution) for problem in problems]


def read_source(path: Path, benchmark: Benchmark) -> tuple[list[Conversation], int]:
    """Return a source's conversations that share no text with the test set, and the others' count.

    Raises PipelineError if all of them share text with it.
    """
    found = read_kept(path, Conversation)
    clean = [
        each
        for each in found
        if not benchmark.shares_text_with(" ".join(said.content for said in each.messages))
    ]
    if not clean:
        raise PipelineError(
            f"{path}: all {len(found)} conversations share text with GSM8K's test set; take another"
            " source"
        )
    return clean, len(found) - len(clean)


if __name__ == "__main__":
    run_stage(main)
