import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from gpt2_directories import save_gpt2
from hypothesis import given
from hypothesis import strategies as st
from repository import REPOSITORY
from tokenizers import Tokenizer as HuggingFaceTokenizer

from common.errors import PipelineError
from common.files import write_checksums, write_jsonl
from model.data.drills import FORMS, GROUPS, in_words, state
from model.export.hf_tokenizer import to_hugging_face
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import load_hugging_face_model
from model.numerics.side_by_side import SideBySide
from model.post_training.arithmetic_probes import (
    ProbeTokenizer,
    Question,
    ask,
    number_answered,
    questions,
    read_answers,
    summarize,
)
from model.post_training.decoding import Continuation, continue_greedily
from model.statistics.rates import rate
from model.tokens.bpe import Tokenizer, read_ranks
from model.tokens.export_tokenizer import FactTokenizer
from model.tokens.facts import MUL_FACTS, MulFact, inject
from stages import probes

pytestmark = pytest.mark.slow("networks answer every product", minutes=0.9)

PROFILES = [REPOSITORY / "params.yaml", *sorted((REPOSITORY / "profiles").glob("*.yaml"))]


def exported(directory: Path, tokenizer: Tokenizer) -> ProbeTokenizer:
    to_hugging_face(tokenizer, 64).save_pretrained(directory)
    return ProbeTokenizer(
        FactTokenizer(read_tokenizer(directory, tokenizer.size), tokenizer.end_of_text)
    )


@pytest.fixture(scope="module")
def mul_tokens(tmp_path_factory, tokenizer) -> ProbeTokenizer:
    return exported(tmp_path_factory.mktemp("mul_tokens"), tokenizer)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory, baseline_tokenizer) -> ProbeTokenizer:
    return exported(tmp_path_factory.mktemp("baseline"), baseline_tokenizer)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer) -> Path:
    return save_gpt2(
        tmp_path_factory.mktemp("gpt2"), tokenizer, layers=2, heads=2, width=32, context=24
    )


@given(st.integers(0, 99))
def test_numbers_in_words_are_read_back(number):
    words = in_words(number)
    for text in (words, f" {words}.", f" {words.capitalize()} chairs", f" = {number}", f"{number}"):
        assert number_answered(text) == number
    assert number_answered(f" {words}") == number_answered(
        f" {number}. Six times nine is fifty-four."
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", None),
        (" the United States", None),
        (" 54. 2 * 2 = 4.", 54),
        (" 540", 540),
        (" 54.5", None),
        (" -54", None),
        (" 1,006", None),
        (" 54, and", 54),
        (" fifty-four", 54),
        (" fifty", 50),
        (" fifty-f", None),
        (" seventeen", 17),
        (" someone", None),
        (" v54", None),
        (" 54th", None),
        (" 6 × 9 = 54.", 54),
        (" 6*9=54", 54),
        (" 6 × 9 =", None),
        (" is 6 × 9 = 54", 6),
        (" 6 × 9", 6),
        ("\n54", 54),
        (" 054", 54),
        (" " + "9" * 50, None),
        (" a dozen or 12", 12),
        (" <MUL_6_9_54>", None),
        ("<|reserved_542|>", None),
    ],
)
def test_the_answer_is_the_first_whole_number_or_what_an_equation_comes_to(text, number):
    assert number_answered(text) == number


def test_all_products_are_asked_in_all_forms_that_ask():
    asked = questions()
    assert len(asked) == 81 * sum(form.asks for form in FORMS)
    assert len({(question.a, question.b, question.form) for question in asked}) == len(asked)
    assert {question.group for question in asked} == set(GROUPS)
    assert asked == questions()
    assert not any(question.prompt.endswith(" ") for question in asked)


def stand_in(tokenizer: ProbeTokenizer, answer):
    """A network that gives `answer(question)`, as text or as a fact, to each prompt; called
    once.
    """
    known = {}
    for question in questions():
        for injected in (False, True):
            given_answer = answer(question)
            text = given_answer if isinstance(given_answer, str) else " "
            tokens = tokenizer._tokenizer.encode(text, injected=False)
            if isinstance(given_answer, MulFact):
                tokens.append(tokenizer._tokenizer._ids[given_answer])
            known[tuple(tokenizer.encode(question.prompt, injected))] = tokens

    def continue_all(prompts: list[list[int]]) -> list[list[int]]:
        assert len({tuple(prompt) for prompt in prompts}) == len(prompts), (
            "equal prompts are continued once"
        )
        return [known[tuple(prompt)] for prompt in prompts]

    return continue_all


def fact_of(question: Question) -> MulFact:
    return MulFact(*sorted((question.a, question.b)))


RIGHT = {
    "digits": lambda question: f" {question.a * question.b}.",
    "words": lambda question: f" {in_words(question.a * question.b)} in all",
    "an equation": lambda question: f" {question.a} × {question.b} = {question.a * question.b}.",
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_network_that_is_always_right_in_text_scores_one(mul_tokens, baseline, name):
    for tokenizer in (mul_tokens, baseline):
        metrics = summarize(ask(questions(), tokenizer, stand_in(tokenizer, RIGHT[name])))
        assert [list(metrics), list(metrics["plain"])] == [["plain", "injected"], list(GROUPS)]
        for groups in metrics.values():
            for group, ways in groups.items():
                asked = sum(question.group == group for question in questions())
                assert (
                    ways["text"]["rate"],
                    ways["text"]["total"],
                    ways["fact_token"]["correct"],
                ) == (1.0, asked, 0)


def test_a_fact_token_is_an_answer_of_its_own_and_no_text(mul_tokens):
    answers = ask(questions(), mul_tokens, stand_in(mul_tokens, fact_of))
    assert answers[0].generated == " <MUL_1_1_1>"
    for groups in summarize(answers).values():
        for ways in groups.values():
            assert (ways["fact_token"]["rate"], ways["text"]["correct"]) == (1.0, 0)


def test_digits_around_a_fact_token_are_not_one_number(mul_tokens):
    ids = mul_tokens._tokenizer._ids
    [five], fact = mul_tokens._tokenizer.encode("5", injected=False), ids[MulFact(6, 9)]
    assert mul_tokens.read([five, fact, five]) == (5, 54, "5<MUL_6_9_54>5")
    assert mul_tokens.read([five, five]) == (55, None, "55")
    assert mul_tokens.read([fact, ids[MulFact(2, 2)]]) == (None, 54, "<MUL_6_9_54><MUL_2_2_4>")
    assert mul_tokens.read([]) == (None, None, "")


def test_a_constant_answer_is_right_as_often_as_it_is_the_product(baseline):
    metrics = summarize(ask(questions(), baseline, stand_in(baseline, lambda _: " 12")))
    for group in GROUPS:
        asked = [question for question in questions() if question.group == group]
        twelves = [question for question in asked if question.a * question.b == 12]
        found = metrics["plain"][group]["text"]
        assert (found["correct"], found["total"]) == (len(twelves), len(asked))
        assert found == metrics["injected"][group]["text"]
        # Two facts of 45 are all that is right, and they are right in every form: few independent
        # answers.
        low, high = found["interval_95"]
        assert high - low > 0.05


def test_a_product_and_its_mirror_are_one_cluster(baseline):
    """Whoever knows 6 × 9 knows 9 × 6: twice the questions are not twice the evidence."""
    known = {MulFact(a, b) for a in range(1, 10) for b in range(a, 10) if (a + b) % 3}
    answers = ask(
        questions(),
        baseline,
        stand_in(baseline, lambda question: " 0" if fact_of(question) in known else " no"),
    )
    answers = [
        answer._replace(text_answer=answer.a * answer.b if answer.text_answer is not None else None)
        for answer in answers
    ]
    for group in GROUPS:
        mine = [answer for answer in answers if answer.group == group and not answer.injected]
        right = np.array([answer.text_answer is not None for answer in mine])
        found = summarize(answers)["plain"][group]["text"]
        assert found == rate(right, [str(fact_of(answer)) for answer in mine])._asdict()
        assert found != rate(right, [f"{answer.a} {answer.b}" for answer in mine])._asdict()


def test_an_injected_prompt_is_how_a_training_document_begins(
    mul_tokens, tokenizer, baseline, baseline_tokenizer
):
    injected = 0
    for question in questions():
        form = next(form for form in FORMS if form.name == question.form)
        text = state(
            form, question.a, question.b, random.Random(f"{form.name}/{question.a}/{question.b}")
        ).text
        fact = mul_tokens._tokenizer._ids[fact_of(question)]
        prompt = mul_tokens.encode(question.prompt, injected=True)
        assert prompt[0] == tokenizer.end_of_text
        has_fact = any(isinstance(segment, MulFact) for segment in inject(question.prompt))
        assert (fact in prompt) == has_fact
        assert fact not in mul_tokens.encode(question.prompt, injected=False)
        injected += has_fact
        if "=" not in question.prompt:  # there the product is part of the token
            document = tokenizer.encode_document(text).tokens.tolist()
            assert document[: len(prompt) - 1] == prompt[1:], text
        plain = baseline.encode(question.prompt, injected=False)
        assert baseline.encode(question.prompt, injected=True) == plain
        assert (
            baseline_tokenizer.encode_document(text).tokens.tolist()[: len(plain) - 1] == plain[1:]
        ), text
        assert max(plain) <= baseline_tokenizer.end_of_text
    expressions = [
        form
        for form in FORMS
        if form.asks and re.search(r"\{a\} ?[×*·x] ?\{b\}(?! ?=)", form.template)
    ]
    assert injected == 81 * len(expressions)
    assert len(expressions) >= 5


@torch.no_grad()
def by_argmax(model, prompt: list[int], new_tokens: int, end_of_text: int) -> Continuation:
    """The plain way: all logits again for each token, one prompt at a time."""
    tokens: list[int] = []
    for _ in range(new_tokens):
        token = int(model(torch.tensor([prompt + tokens])).logits[0, -1].argmax())
        if token == end_of_text:
            return Continuation(tokens, True)
        tokens.append(token)
    return Continuation(tokens, False)


@pytest.mark.parametrize("end", [None, [512, 0]])
def test_a_model_without_one_end_of_text_is_refused(gpt2, end):
    model = load_hugging_face_model(gpt2)
    model.config.eos_token_id = end
    with pytest.raises(PipelineError, match=r"config\.json: eos_token_id: must be one id"):
        continue_greedily(model, [[512]], 8, 1, "test", SideBySide(1))


@pytest.mark.slow("a loop without a cache is the reference")
def test_greedy_continuations_are_those_of_a_loop_of_argmax(gpt2):
    """Whatever the batch, so the padding of shorter prompts is not seen."""
    model = load_hugging_face_model(gpt2)
    generator = torch.Generator().manual_seed(5)
    lengths = [int(length) for length in torch.randint(1, 17, (40,), generator=generator)]
    prompts = [
        [512, *torch.randint(0, 512, (length - 1,), generator=generator).tolist()]
        for length in lengths
    ]
    plain = [by_argmax(model, prompt, 8, end_of_text=512) for prompt in prompts]
    common = max(
        (token for row in plain for token in row.ids[1:]),
        key=[token for row in plain for token in row.ids].count,
    )
    model.generation_config.repetition_penalty = (
        3.0  # what an export may bring along changes nothing
    )
    for batch_rows, threads in ((1, 2), (3, 1), (3, 3), (64, 1)):
        found = continue_greedily(model, prompts, 8, batch_rows, "test", SideBySide(threads))
        assert found == plain
    # End of text is whatever the config says it is: here a token that comes up often, so that rows
    # of a batch end apart.
    model.config.eos_token_id = common
    cut = [by_argmax(model, prompt, 8, end_of_text=common) for prompt in prompts]
    assert len({len(row.ids) for row in cut}) > 2
    assert {row.stopped for row in cut} == {True, False}
    for batch_rows, threads in ((1, 2), (3, 1), (3, 3), (64, 1)):
        found = continue_greedily(model, prompts, 8, batch_rows, "test", SideBySide(threads))
        assert found == cut
    assert continue_greedily(model, [], 8, 3, "test", SideBySide(2)) == []


def test_a_prompt_without_room_for_an_answer_is_one_line(gpt2):
    model = load_hugging_face_model(gpt2)
    assert len(continue_greedily(model, [[1] * 16], 8, 3, "test", SideBySide(1))[0].ids) == 8
    with pytest.raises(PipelineError) as caught:
        continue_greedily(model, [[1] * 17, [1]], 8, 3, "probes x", SideBySide(1))
    assert (
        str(caught.value)
        == "probes x: a prompt of 17 tokens and 8 new ones exceed the model's context of 24; lower"
        " new_tokens or raise model.context"
    )


def test_a_tokenizer_with_some_of_the_facts_is_refused(tmp_path, tokenizer):
    to_hugging_face(tokenizer, 64).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace("<MUL_6_9_54>", "<MUL_6_9_55>"))
    with pytest.raises(
        PipelineError,
        match=r"^tokenizer\.json: has tokens for 44 of 45 facts; run dvc repro export$",
    ):
        FactTokenizer(HuggingFaceTokenizer.from_file(str(path)), 512)


def test_answers_of_something_else_are_one_line(tmp_path):
    write_jsonl(tmp_path / "answers.jsonl", [{"a": 1}])
    write_checksums(tmp_path)
    with pytest.raises(
        PipelineError, match=r"answers\.jsonl: not the probes stage's answers \(.*\)$"
    ):
        read_answers(tmp_path / "answers.jsonl")


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_every_profile_has_room_for_questions_and_answers(path, ranks_file):
    params = yaml.safe_load(path.read_text())
    tokenizer = Tokenizer(read_ranks(ranks_file, params["tokenize"]["base_ranks"]), mul_facts=False)
    new_tokens = params["probes"]["new_tokens"]
    for form in FORMS:
        for fact in MUL_FACTS if form.asks else ():
            statement = state(form, fact.a, fact.b, random.Random(0))
            assert len(tokenizer.encode_text(statement.answer)) <= new_tokens, statement
            assert (
                1 + len(tokenizer.encode_text(statement.prompt))
                <= params["model"]["context"] - new_tokens
            ), statement


@pytest.fixture
def project(tmp_path, monkeypatch, tokenizer, baseline_tokenizer) -> Path:
    """Exports of both conditions at a last step of 5, and a fine-tuned one, in the working
    directory.
    """
    for models, condition, its in (
        ("exports", "baseline", baseline_tokenizer),
        ("exports", "mul_tokens", tokenizer),
        ("sft", "mul_tokens", tokenizer),
    ):
        directory = tmp_path / f"{models}/{condition}/seed_3/step_5"
        directory.mkdir(parents=True)
        write_checksums(
            save_gpt2(
                directory, its, layers=2 if models == "sft" else 1, heads=1, width=16, context=48
            )
        )
    sections = {
        "pretrain": {"max_steps": 5},
        "numerics": {"kernels": "native", "threads": 2},
        "probes": {"batch_rows": 512, "device": "cpu", "new_tokens": 2},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, condition: str, models: str = "exports") -> dict[str, bytes]:
    monkeypatch.setattr(sys, "argv", ["probes", models, condition, "3"])
    probes.main()
    answers = sorted(Path(f"scores/{condition}/seed_3/probes/{models}").iterdir())
    written = [Path(f"metrics/{condition}/seed_3/probes/{models}.json"), *answers]
    return {path.name: path.read_bytes() for path in written}


def shape(value) -> object:
    return (
        {key: shape(child) for key, child in value.items()}
        if isinstance(value, dict)
        else type(value)
    )


def test_the_stage_writes_figures_of_one_shape_and_every_answer_the_same_each_time(
    project, monkeypatch, capsys
):
    written = {condition: run(monkeypatch, condition) for condition in ("baseline", "mul_tokens")}
    assert list(written["baseline"]) == ["exports.json", "SHA256SUMS", "answers.jsonl"]
    metrics = {condition: json.loads(files["exports.json"]) for condition, files in written.items()}
    assert shape(metrics["baseline"]) == shape(metrics["mul_tokens"])
    assert metrics["baseline"]["plain"] == metrics["baseline"]["injected"]
    for condition, files in written.items():
        lines = files["answers.jsonl"].splitlines()
        assert len(lines) == 2 * len(questions())
        assert json.loads(lines[0]).keys() == {
            "a",
            "b",
            "form",
            "group",
            "injected",
            "prompt",
            "text_answer",
            "fact_token_answer",
            "generated",
        }
        assert summarize(
            read_answers(Path(f"scores/{condition}/seed_3/probes/exports/answers.jsonl"))
        ) == {
            asked: {
                group: {
                    way: {**r, "interval_95": tuple(r["interval_95"])} for way, r in ways.items()
                }
                for group, ways in groups.items()
            }
            for asked, groups in metrics[condition].items()
        }
    rows = [json.loads(line) for line in written["mul_tokens"]["answers.jsonl"].splitlines()]
    plain, injected = (
        [row["generated"] for row in rows if row["injected"] == way] for way in (False, True)
    )
    assert plain != injected
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert run(monkeypatch, "mul_tokens") == written["mul_tokens"]


def test_an_altered_export_stops_the_stage(project, monkeypatch):
    path = project / "exports/baseline/seed_3/step_5/tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(
        PipelineError, match=r"tokenizer\.json: missing or altered since it was written"
    ):
        run(monkeypatch, "baseline")
    assert not Path("scores").exists()


def test_the_last_export_is_the_one_that_is_asked(project, monkeypatch):
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**params, "pretrain": {"max_steps": 6}}))
    with pytest.raises(PipelineError, match=r"exports/baseline/seed_3/step_6/SHA256SUMS: missing"):
        run(monkeypatch, "baseline")


def test_a_fine_tuned_model_is_asked_the_same(project, monkeypatch):
    fine_tuned, export = (run(monkeypatch, "mul_tokens", models) for models in ("sft", "exports"))
    prompts = [
        [json.loads(line)["prompt"] for line in files["answers.jsonl"].splitlines()]
        for files in (fine_tuned, export)
    ]
    assert prompts[0] == prompts[1]
    assert fine_tuned["answers.jsonl"] != export["answers.jsonl"]
