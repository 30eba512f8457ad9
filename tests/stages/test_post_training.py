"""The stages after export, on tiny data in a working directory of their own."""

import copy
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from card_code import run_card
from conditions import named
from gpt2_directories import save_gpt2
from repository import REPOSITORY
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from common.errors import PipelineError
from common.files import write_checksums, write_jsonl
from model.data.conversations import two_turns
from model.data.word_problems import STORIES
from model.hugging_face.loading import load_hugging_face_model
from model.post_training.chat_template import CHAT_TEMPLATE
from stages import generate, gsm8k, problems, sft

QUESTIONS = [{"question": f"What is {n}?", "answer": f"It is.\n#### {n}"} for n in range(6)]
QUESTIONS[3]["question"] = (
    "A farmer has four fields with nine cows in each of them. How many cows are these?"
)
PARAMS = yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())
SECTIONS = {
    # Portable kernels would stay in the process for later tests.
    "numerics": {"kernels": "native", "threads": 1},
    "conditions": named("mul_tokens"),
    "pretrain": {"max_steps": 5},
    "problems": PARAMS["problems"] | {"conversations": 16, "gsm8k_test": 4},
    "sft": (
        PARAMS["sft"]
        | {
            "max_steps": 4,
            "log_every": 2,
            "state_every": 2,
            "warmup_steps": 1,
            "batch_rows": 4,
        }
    ),
    "generate": PARAMS["generate"] | {"new_tokens": 8},
}
TESTS = [
    two_turns(
        "tests",
        "So: a FARMER has four fields, with nine cows in each of them - how many cows?",
        "36",
    ).model_dump(),
    two_turns(
        "tests",
        "Farms?",
        "On one a farmer has four fields with nine cows in each of them; how many!",
    ).model_dump(),
]
MINE = [*TESTS, two_turns("mine", "A farmer has four fields.", "Ho").model_dump()]
RUN = "mul_tokens/seed_3"


def put(directory: Path, files: dict[str, list[dict]]) -> None:
    directory.mkdir(parents=True)
    for name, rows in files.items():
        write_jsonl(directory / name, rows)
    write_checksums(directory)


def set_params(section: str, **values) -> None:
    sections = yaml.safe_load(Path("params.yaml").read_text())
    sections[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(sections))


@pytest.fixture(scope="module")
def export(tmp_path_factory, tokenizer) -> Path:
    directory = tmp_path_factory.mktemp("export") / "step_5"
    write_checksums(save_gpt2(directory, tokenizer, layers=1, heads=1, width=16, context=96))
    return directory


@pytest.fixture
def project(tmp_path, monkeypatch, export) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(SECTIONS))
    put(tmp_path / "data/raw/gsm8k", {"test.jsonl": QUESTIONS})
    put(
        tmp_path / "data/raw/conversations",
        {
            "mine.jsonl": MINE,
            "none.jsonl": [],
            "tests.jsonl": TESTS,
        },
    )
    shutil.copytree(export, tmp_path / f"exports/{RUN}/step_5")
    return tmp_path


def run(monkeypatch, stage, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [stage.__name__, *arguments])
    stage.main()


def rows(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_problems_are_a_mixture_to_train_on_and_two_sets_to_ask(project, monkeypatch, capsys):
    set_params("problems", mixture={"generated": 3.0, "mine": 1.0})
    run(monkeypatch, problems)
    train = rows("data/conversations/train.jsonl")
    assert sorted({row["source"] for row in train}) == ["generated", "mine"]
    mine = [row for row in train if row["source"] == "mine"]
    assert [row["messages"][1]["content"] for row in mine] == ["Ho"] * 4, (
        "what shares text with the tests is left out"
    )
    index = json.loads(Path("data/conversations/index.json").read_text())
    assert index == {"contaminated": {"mine": 2}, "drawn": {"generated": 12, "mine": 4}}
    printed = capsys.readouterr().out
    assert (
        "16 conversations to train on, 2 contaminated of mine dropped, mine's 1 taken 4.0 times"
        " each; 12" in printed
    )
    assert "12 of generated and 4 of gsm8k to ask" in printed
    asked = {name: rows(f"data/problems/{name}.jsonl") for name in ("generated", "gsm8k")}
    assert [len(each) for each in asked.values()] == [12, 4]
    distinct = [row | {"cluster": row["answer"]} for row in QUESTIONS]
    assert all(row in distinct for row in asked["gsm8k"])
    assert len({row["question"] for row in asked["generated"]}) == 12
    assert {row["cluster"] for row in asked["generated"]} <= {story.question for story in STORIES}
    set_params("problems", gsm8k_test=None)
    run(monkeypatch, problems)
    assert rows("data/problems/gsm8k.jsonl") == distinct


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gsm8k_test": 7}, "params.yaml: problems.gsm8k_test: 7 asked for, there are 6"),
        (
            {"generated_test": 999},
            "params.yaml: problems.generated_test: 999 asked for, there are 265",
        ),
        (
            {"mixture": {"generated": 1.0, "mine": 0.001}},
            (
                "params.yaml: problems: mixture.mine: its weight gives it none of the 16"
                " conversations; raise it, or remove the source"
            ),
        ),
        (
            {"mixture": {"tests": 1.0}},
            (
                "data/raw/conversations/tests.jsonl: all 2 conversations share text with GSM8K's"
                " test set; take another source"
            ),
        ),
        (
            {"mixture": {"none": 1.0}},
            (
                "data/raw/conversations/none.jsonl: all 0 conversations share text with GSM8K's"
                " test set; take another source"
            ),
        ),
    ],
)
def test_problems_that_cannot_be_had_are_one_line_and_nothing_is_written(
    project, monkeypatch, values, message
):
    set_params("problems", **values)
    with pytest.raises(PipelineError) as caught:
        run(monkeypatch, problems)
    assert str(caught.value) == message
    assert not Path("data/problems").exists()
    assert not Path("data/conversations").exists()


def test_a_fine_tuned_model_is_a_directory_as_exports_are(project, monkeypatch, capsys):
    run(monkeypatch, problems)
    run(monkeypatch, sft, "mul_tokens", "3")
    directory = Path(f"sft/{RUN}/step_5")
    before, after = (
        load_hugging_face_model(Path(root) / RUN / "step_5").state_dict()
        for root in ("exports", "sft")
    )
    assert before.keys() == after.keys()
    assert not torch.equal(before["transformer.wte.weight"], after["transformer.wte.weight"])
    assert AutoModelForCausalLM.from_pretrained(directory).lm_head.weight.equal(
        after["lm_head.weight"]
    )
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        assert (directory / name).read_bytes() == (
            Path(f"exports/{RUN}/step_5") / name
        ).read_bytes()
    configs = [
        json.loads((Path(root) / RUN / "step_5/tokenizer_config.json").read_text())
        for root in ("exports", "sft")
    ]
    assert [config.pop("split_special_tokens") for config in configs] == [True, False]
    assert configs[0] == configs[1]
    assert (directory / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    metrics = json.loads(Path(f"metrics/{RUN}/sft.json").read_text())
    assert metrics.keys() == {
        "conversations",
        "cut_at_context",
        "facts",
        "learned_tokens",
        "train_loss",
        "without_answer",
    }
    assert (metrics["conversations"], metrics["cut_at_context"], metrics["without_answer"]) == (
        16,
        0,
        0,
    )
    stated = [
        line
        for row in rows("data/conversations/train.jsonl")
        for line in row["messages"][1]["content"].splitlines()
    ]
    assert metrics["facts"] == sum(" × " in line for line in stated) > 0
    curve = Path(f"sft_losses/{RUN}/training.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["step", "2", "4"]
    assert (
        f"sft {RUN}: 4 steps on 16 conversations, 0 of them cut, loss " in capsys.readouterr().out
    )


def test_the_code_of_the_card_runs_as_it_stands(tmp_path, monkeypatch, capsys, tokenizer):
    export = save_gpt2(tmp_path / "export", tokenizer, layers=1, heads=1, width=16, context=192)
    output = Path("sft/mul_tokens/seed_3/step_5")
    monkeypatch.chdir(tmp_path)
    sft.save(load_hugging_face_model(export), export, output, {})
    answers = run_card(tmp_path / output, monkeypatch, capsys).splitlines()
    assert len(answers) >= 2
    assert all(answers)


def test_a_conversation_longer_than_the_context_is_cut_and_counted(project, monkeypatch):
    long = two_turns("mine", "Hi", "and so on " * 60).model_dump()
    endless = two_turns("mine", "and so on " * 60, "Ho").model_dump()
    put(
        project / "data/conversations",
        {"train.jsonl": [endless, *[long] * 3, *[two_turns("mine", "Hi", "Ho").model_dump()] * 4]},
    )
    run(monkeypatch, sft, "mul_tokens", "3")
    metrics = json.loads(Path(f"metrics/{RUN}/sft.json").read_text())
    assert (metrics["cut_at_context"], metrics["without_answer"]) == (4, 1)


def test_a_model_that_reads_back_otherwise_is_not_kept(project, monkeypatch):
    """The guard's mutation: what is written is not what was trained."""
    run(monkeypatch, problems)
    right = GPT2LMHeadModel.save_pretrained

    def wrong(model: GPT2LMHeadModel, directory: Path, **of_a_state) -> None:
        if of_a_state:
            return right(model, directory, **of_a_state)
        other = copy.deepcopy(model)
        other.transformer.wpe.weight.data[0, 0] += 1e-6
        return right(other, directory)

    monkeypatch.setattr(GPT2LMHeadModel, "save_pretrained", wrong)
    with pytest.raises(
        PipelineError,
        match=r"^sft/mul_tokens/seed_3/step_5: .* differ from the trained weights when read back;",
    ):
        run(monkeypatch, sft, "mul_tokens", "3")
    assert not Path(f"sft/{RUN}/step_5").exists()


def test_questions_without_room_are_counted_and_wrong(project, monkeypatch, capsys):
    run(monkeypatch, problems)
    shutil.copytree(f"exports/{RUN}/step_5", f"sft/{RUN}/step_5")
    asked = rows("data/problems/gsm8k.jsonl")
    asked[1] = {"question": "How " * 90 + "many?", "answer": "#### 1", "cluster": "long"}
    shutil.rmtree("data/problems")
    put(project / "data/problems", {"gsm8k.jsonl": asked, "generated.jsonl": asked})
    run(monkeypatch, generate, "mul_tokens", "3")
    found = rows(f"generations/{RUN}/gsm8k.jsonl")
    assert [row["question"] for row in found] == [row["question"] for row in asked]
    assert [row["ended"] == "too_long" for row in found] == [False, True, False, False]
    assert found[1]["segments"] == []
    assert all(row["new_tokens"] == 8 for row in found if row["ended"] == "cut")
    assert "1 too_long" in capsys.readouterr().out
    run(monkeypatch, gsm8k, "mul_tokens", "3")
    metrics = json.loads(Path(f"metrics/{RUN}/gsm8k.json").read_text())
    assert metrics.keys() == {"generated", "gsm8k"}
    for figures in metrics.values():
        assert (figures["too_long"], figures["strict"]["total"], figures["most_new_tokens"]) == (
            1,
            4,
            8,
        )
    readings = rows(f"scores/{RUN}/gsm8k/gsm8k.jsonl")
    assert [reading["gold"] for reading in readings] == [
        str(row["answer"].split()[-1]) for row in asked
    ]
    assert readings[1]["flexible"] is None


def test_generations_altered_since_they_were_written_are_not_read(project, monkeypatch):
    generation = {
        "question": "?",
        "answer": "#### 1",
        "cluster": "c",
        "prompt_tokens": 1,
        "new_tokens": 1,
        "most_new_tokens": 8,
        "ended": "cut",
        "segments": ["1"],
    }
    put(
        project / f"generations/{RUN}",
        {"generated.jsonl": [generation], "gsm8k.jsonl": [generation]},
    )
    path = Path(f"generations/{RUN}/gsm8k.jsonl")
    path.write_text(path.read_text().replace("#### 1", "#### 2"))
    with pytest.raises(
        PipelineError, match=r"gsm8k\.jsonl: missing or altered since it was written"
    ):
        run(monkeypatch, gsm8k, "mul_tokens", "3")
    assert not Path("metrics").exists()
