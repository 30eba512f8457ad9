"""`python -m tools.ask`: the stage's answers, streamed as whole characters, and one line for what
cannot be asked.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from conditions import named
from gpt2_directories import save_gpt2
from repository import REPOSITORY
from small_objects import checkpoint_config, random_gpt, save_checkpoint, write_token_split
from tiny_fine_tuning import ANSWERS, PARAMS, new_project

from common.errors import PipelineError
from common.files import write_checksums
from model.data.conversations import AskedQuestion
from model.hugging_face.loading import load_hugging_face_model
from model.network.canary import canary_rows, mean_loss
from model.network.gpt import GPTConfig
from model.numerics.side_by_side import SideBySide
from model.params.generate import GenerateParams
from model.post_training.answer_files import Ended
from model.post_training.chat_template import write_chat_tokenizer
from model.tokens.facts import MulFact
from stages import generate
from tools.ask import __main__ as command
from tools.ask.answers import Asked, TextStream
from tools.ask.models import find_model, load_model
from tools.ask.sampling import Sampling


@pytest.fixture(scope="module")
def export(tmp_path_factory, tokenizer) -> Path:
    directory = save_gpt2(
        tmp_path_factory.mktemp("export") / "step_5", tokenizer, 2, heads=2, width=32, context=48
    )
    write_checksums(directory)
    return directory


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    project = new_project(folder / "export", tokenizer)
    short = PARAMS.model_copy(update={"max_steps": 30})
    model, _ = project.train(tmp_path_factory.mktemp("states"), short)
    directory = Path(shutil.copytree(project.directory, folder / "step_30"))
    model.save_pretrained(directory)
    write_chat_tokenizer(directory)
    write_checksums(directory)
    return directory


def ask(*arguments: object) -> None:
    options = command._parser().parse_intermixed_args([*map(str, arguments)])
    options.kernels = "native"  # portable kernels would stay in the process
    command.ask(options)


def said(capsys, *arguments: object) -> str:
    capsys.readouterr()
    ask(*arguments)
    return capsys.readouterr().out


def rows(capsys, *arguments: object) -> list[dict]:
    return [json.loads(line) for line in said(capsys, *arguments, "--json").splitlines()]


def test_greedy_answers_are_those_of_the_stage_generate(fine_tuned, capsys):
    model = load_model("x", fine_tuned, "cpu")
    assert model.chats
    problems = [AskedQuestion(question=each, answer="#### 1", cluster="c") for each in ANSWERS]
    params = GenerateParams(batch_rows=3, device="cpu", new_tokens=8)
    kept = generate.answer(model.network, model.tokenizer, problems, params, "test", SideBySide(1))
    found = rows(capsys, fine_tuned, *ANSWERS, "--tokens", 8)
    assert [row["prompt"] for row in found] == [*ANSWERS]
    ended: set[Ended] = set()
    for row, one in zip(found, kept, strict=True):
        text = "".join(
            each.token if isinstance(each, MulFact) else str(each) for each in one.segments
        )
        assert row["text"] == text.removeprefix(" ")
        assert (row["ended"], row["new_tokens"]) == (one.ended, one.new_tokens)
        assert row["prompt_tokens"] == one.prompt_tokens
        ended.add(one.ended)
    assert "stopped" in ended
    assert said(capsys, fine_tuned, "one", "--tokens", 8) == f"{found[0]['text']}\n"


def test_several_prompts_are_told_apart_and_answered_as_each_alone(export, tmp_path, capsys):
    sampled = (export, "--temperature", 1.5, "--seed", 3, "--tokens", 6)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Water is\n\nOn the\n")
    alone = [rows(capsys, *sampled, prompt) for prompt in ("Water is", "On the")]
    together = rows(capsys, *sampled, "--file", prompts)
    assert together == [*alone[0], *alone[1]]
    assert together == rows(capsys, *sampled, "--file", prompts)
    assert together != rows(capsys, *sampled, "--seed", 4, "--file", prompts)
    shown = said(capsys, export, "--tokens", 6, "Water is", "On\n the")
    assert re.findall("^> .*$", shown, flags=re.MULTILINE) == ["> Water is", r"> On\n the"]


def test_a_file_of_json_lines_has_prompts_questions_or_texts(export, tmp_path, capsys):
    path = tmp_path / "asked.jsonl"
    path.write_text('{"prompt": "a"}\n{"question": "b", "answer": "no"}\n"c"\n')
    assert [row["prompt"] for row in rows(capsys, export, "--file", path)] == ["a", "b", "c"]
    for line, fault in (("{", "not JSON"), ("[]", "no text, and no object"), ("", "has no prompt")):
        path.write_text(line)
        with pytest.raises(PipelineError, match=fault):
            ask(export, "--file", path)


def test_models_are_compared_one_below_the_other_without_a_terminal(export, fine_tuned, capsys):
    shown = said(capsys, export, "one", "--compare", fine_tuned, "--tokens", 8)
    [own] = rows(capsys, fine_tuned, "one", "--tokens", 8)
    assert f"{export}:\n" in shown
    assert f"{fine_tuned}:\n{own['text']}\n" in shown


def test_models_are_compared_in_columns_where_there_is_room(
    export, fine_tuned, capsys, monkeypatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    wide = said(capsys, export, "one", "--compare", fine_tuned, "--tokens", 8)
    assert "│" in wide
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", wide).splitlines())) <= 100
    monkeypatch.setenv("COLUMNS", "50")
    assert "│" not in said(capsys, export, "one", "--compare", fine_tuned, "--tokens", 8)


def test_a_conversation_goes_on_from_the_ids_of_its_turns(fine_tuned, capsys):
    model = load_model("x", fine_tuned, "cpu")
    asked, alone = Asked(model, keeps_turns=True), Asked(model, keeps_turns=False)
    first = asked.answer("one", 4, Sampling())
    second = asked.answer("two", 4, Sampling())
    assert first == alone.answer("one", 4, Sampling())
    by_itself = alone.answer("two", 4, Sampling())
    assert second.prompt_tokens == (first.prompt_tokens + len(first.ids) + by_itself.prompt_tokens)
    for _ in range(6):
        last = asked.answer("two", 4, Sampling())
        assert last.prompt_tokens + 4 <= 48, "turns that do not fit are forgotten"


def test_ctrl_c_ends_an_answer_of_a_conversation_and_nothing_else(fine_tuned):
    asked = Asked(load_model("x", fine_tuned, "cpu"), keeps_turns=True)
    pieces = []

    def interrupt(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 1:
            raise KeyboardInterrupt

    answer = asked.answer("four", 8, Sampling(), interrupt)
    assert (answer.ended, len(answer.ids)) == ("interrupted", 1)
    assert asked.answer("one", 4, Sampling()).ended in ("stopped", "cut")
    once = Asked(asked.model, keeps_turns=False)
    pieces.clear()
    with pytest.raises(KeyboardInterrupt):
        once.answer("four", 8, Sampling(), interrupt)


def test_what_is_streamed_is_whole_characters_and_all_of_the_text(fine_tuned):
    tokenizer = load_model("x", fine_tuned, "cpu").tokenizer
    fact = tokenizer._ids[MulFact(6, 9)]
    ids = [*tokenizer.encode("é🎉 \ufffd你", False), fact, *tokenizer.encode("好 é", False)]
    assert len(ids) > 15
    for length in range(len(ids) + 1):
        stream = TextStream(tokenizer, without_blank=False)
        pieces = [stream.add(token) for token in ids[:length]]
        assert "\ufffd" not in "".join(pieces).replace("\ufffd你", "")
        assert "".join([*pieces, stream.rest()]) == tokenizer.decode(ids[:length])
    assert "<MUL_6_9_54>" in tokenizer.decode(ids)


def test_facts_in_a_prompt_are_tokens_if_that_is_asked_for(export, fine_tuned, capsys):
    [text], [facts] = (
        rows(capsys, export, "6 × 9 = 54", *more, "--tokens", 2) for more in ((), ("--facts",))
    )
    assert (text["prompt_tokens"] > 2, facts["prompt_tokens"]) == (True, 2)
    with pytest.raises(PipelineError, match="--facts: a fine-tuned model learned questions as"):
        ask(fine_tuned, "6 × 9 = 54", "--facts")


def test_no_text_gives_a_terminal_commands(export, capsys):
    prompt = "a\x1b[31m\x9b\x07"
    shown = said(capsys, export, prompt, "b", "--tokens", 38, "--temperature", 5)
    as_json = said(capsys, export, prompt, "--json")
    assert all(each.isprintable() for each in (shown + as_json).replace("\n", ""))
    assert json.loads(as_json)["prompt"] == prompt


def test_what_cannot_be_asked_is_one_line(export, fine_tuned, tmp_path, capsys):
    torn = Path(shutil.copytree(export, tmp_path / "exports/baseline/seed_1/step_5"))
    with open(torn / "config.json", "ab") as file:
        file.write(b" ")
    for arguments, fault in (
        ((tmp_path / "none", "a"), "none: no such directory, and no model of that name in the hub"),
        ((torn.with_name("step_6"), "a"), f"local cache; {torn.parent} has step_5"),
        ((torn.parent, "a"), f"no model's directory, since it has no config.json; {torn} is one"),
        ((torn, "a"), "config.json: missing or altered since it was written"),
        ((export, ""), "prompt 1: is empty"),
        ((export, "a", " \n"), "prompt 2: is empty"),
        ((export, "\udcff"), "prompt 1: is not UTF-8"),
        ((export,), "no prompt: give one or --file; a conversation needs a terminal"),
        ((export, "--file", tmp_path / "none"), "none cannot be read (No such file"),
        ((export, "a", "x " * 60), "prompt 2: .*: a prompt of 121 tokens and 1 new ones exceed"),
        ((export, "a", "--tokens", 47), "model's context of 48; shorten the prompt or lower"),
        ((export, "a", "--seed", 1), "--seed: needs --temperature"),
    ):
        with pytest.raises(PipelineError) as caught:
            ask(*arguments)
        assert re.search(re.sub(r"([()])", r"\\\1", fault), str(caught.value))
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == "", "nothing was answered before"


def test_a_checkpoint_is_asked_through_the_gate(tmp_path, monkeypatch, capsys, baseline_tokenizer):
    tokens, checkpoint = Path("data/tokens/baseline"), Path("checkpoints/baseline/seed_1/step_7")
    monkeypatch.chdir(tmp_path)
    micro = yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())
    chosen = micro["tokenize"] | {"base_ranks": 512}
    sections = {"export": micro["export"], "tokenize": chosen, "conditions": named("baseline")}
    Path("params.yaml").write_text(yaml.safe_dump(sections))
    size = baseline_tokenizer.size
    documents = [[512, *range(number, number + 40)] for number in range(5)]
    _, validation = write_token_split(tokens, documents, vocab_size=size)
    baseline_tokenizer.save(tokens)
    write_checksums(tokens)
    network = GPTConfig(layers=1, heads=2, width=16, context=32, vocab_size=size)
    model = random_gpt(network)
    ids, _ = canary_rows(validation, 2, network.context)
    loss = mean_loss(model(ids[:, :-1]), ids[:, 1:])
    save_checkpoint(checkpoint, model, checkpoint_config(network, canary_loss=loss))
    [row] = rows(capsys, checkpoint, "Water", "--tokens", 4)
    assert (row["model"], row["new_tokens"]) == (str(checkpoint), 4)
    save_checkpoint(checkpoint, model, checkpoint_config(network, canary_loss=loss + 1))
    with pytest.raises(PipelineError, match="loss"):
        ask(checkpoint, "Water")


def test_a_model_of_the_hub_is_asked_if_it_is_in_the_cache(export, tmp_path, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--some--gpt2"
    shutil.copytree(export, folder / "snapshots" / ("0" * 40))
    (folder / "snapshots" / ("0" * 40) / ".gitattributes").touch()
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("0" * 40)
    assert find_model("some/gpt2") == folder / "snapshots" / ("0" * 40)
    [found], [own] = (rows(capsys, name, "Water", "--tokens", 4) for name in ("some/gpt2", export))
    assert found == own | {"model": "some/gpt2"}
    with pytest.raises(PipelineError, match="other/gpt2: no such directory, and no model of that"):
        find_model("other/gpt2")


def test_another_chat_template_is_told_and_not_used(fine_tuned, tmp_path, capsys):
    directory = Path(shutil.copytree(fine_tuned, tmp_path / "other"))
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    (directory / "SHA256SUMS").unlink()
    assert not load_model("other", directory, "cpu").chats
    assert "other: has another chat template" in capsys.readouterr().err
    assert load_hugging_face_model(directory).config.n_positions == 48
