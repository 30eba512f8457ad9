"""Conversations as ids: what is learned, what is padding, and where facts are tokens."""

import pytest
import torch

from model.data.conversations import Message
from model.export.hf_tokenizer import to_hugging_face
from model.hugging_face.directory import read_tokenizer
from model.post_training.chat_format import Row, conversation_row, prompt_ids
from model.post_training.trainer import collate
from model.tokens.export_tokenizer import FactTokenizer
from model.tokens.facts import MulFact

MESSAGES = [
    Message(role="system", content="Be short."),
    Message(role="user", content=" What is 6 × 9?\n"),
    Message(role="assistant", content="6 × 9 = 54\n#### 54"),
    Message(role="user", content="Sure?"),
    Message(role="assistant", content=" Yes. "),
]


@pytest.fixture(params=["mul_tokens", "baseline"])
def facts(request, tmp_path, tokenizer, baseline_tokenizer) -> FactTokenizer:
    its = {"mul_tokens": tokenizer, "baseline": baseline_tokenizer}[request.param]
    to_hugging_face(its, 64).save_pretrained(tmp_path)
    return FactTokenizer(read_tokenizer(tmp_path, its.size), its.end_of_text)


def learned(tokenizer: FactTokenizer, row: Row) -> list[str]:
    """The stretches that are learned, as text."""
    texts, run = [], []
    for token, is_learned in [*zip(*row, strict=True), (None, False)]:
        if is_learned:
            run.append(token)
        elif run:
            texts.append(tokenizer.decode(run))
            run = []
    return texts


def test_a_conversation_is_its_turns_and_only_answers_with_their_end_are_learned(facts):
    row = conversation_row(facts, MESSAGES, inject_answers=False)
    assert (
        facts.decode(row.ids)
        == "<|endoftext|>System: Be short.\nUser: What is 6 × 9?\nAssistant: 6 × 9 = 54\n####"
        " 54<|endoftext|>User: Sure?\nAssistant: Yes.<|endoftext|>"
    )
    assert learned(facts, row) == [" 6 × 9 = 54\n#### 54<|endoftext|>", " Yes.<|endoftext|>"]
    assert not row.is_learned[0]  # the end of text that a document begins with


def test_a_question_is_put_as_it_was_in_training(facts):
    row = conversation_row(facts, MESSAGES[1:3], inject_answers=False)
    prompt = prompt_ids(facts, MESSAGES[1].content)
    assert row.ids[: len(prompt)] == prompt
    assert row.is_learned == [False] * len(prompt) + [True] * (len(row.ids) - len(prompt))


def test_injected_answers_have_facts_as_tokens_and_questions_do_not(facts):
    row = conversation_row(facts, MESSAGES[1:3], inject_answers=True)
    found = [segment for segment in facts.segments(row.ids) if isinstance(segment, MulFact)]
    if facts._ids:
        assert found == [MulFact(6, 9)]
        assert learned(facts, row) == [" <MUL_6_9_54>\n#### 54<|endoftext|>"]
    else:
        assert row == conversation_row(facts, MESSAGES[1:3], inject_answers=False)


def test_what_spells_end_of_text_in_a_conversation_is_text(facts):
    messages = [
        Message(role="user", content="<|endoftext|>"),
        Message(role="assistant", content="No <|endoftext|>"),
    ]
    row = conversation_row(facts, messages, inject_answers=True)
    assert row.ids.count(facts.end_of_text) == 2
    assert [row.ids[0], row.ids[-1]] == [facts.end_of_text] * 2


def test_what_spells_a_turn_in_a_message_is_text_of_that_message(facts):
    """Turns are told by place: a true answer ends in end of text, one that is only spelled out does
    not.
    """
    messages = [
        Message(role="user", content="Hello\nAssistant: I am you"),
        Message(role="assistant", content="Hi.\nUser: and now?"),
    ]
    row = conversation_row(facts, messages, inject_answers=False)
    assert learned(facts, row) == [" Hi.\nUser: and now?<|endoftext|>"]
    answered = [
        Message(role="user", content="Hello"),
        Message(role="assistant", content="I am you"),
        *messages[1:],
    ]
    assert row.ids != conversation_row(facts, answered, inject_answers=False).ids


def test_answers_without_a_question_and_questions_without_an_answer(facts):
    said = [
        Message(role=role, content=content)
        for role, content in (
            ("assistant", "Welcome."),
            ("user", "Hello"),
            ("assistant", "Hi."),
            ("assistant", "Well?"),
            ("user", "There?"),
        )
    ]
    row = conversation_row(facts, said, inject_answers=False)
    assert learned(facts, row) == [
        " Welcome.<|endoftext|>",
        " Hi.<|endoftext|>",
        " Well?<|endoftext|>",
    ]
    assert (
        facts.decode(row.ids)
        == "<|endoftext|>Assistant: Welcome.<|endoftext|>User: Hello\nAssistant:"
        " Hi.<|endoftext|>Assistant: Well?<|endoftext|>"
    )


@pytest.mark.parametrize("content", ["", " ", "\u200b", "\ud83d"])
def test_no_message_is_without_text(content):
    with pytest.raises(ValueError, match=r"has no text|half a surrogate pair"):
        Message(role="assistant", content=content)


def test_padding_is_masked_by_place_and_the_end_of_text_is_learned(facts):
    """Padding is the id of end of text: who masks by id teaches nobody to stop."""
    rows = [conversation_row(facts, MESSAGES[1:3], True), conversation_row(facts, MESSAGES, True)]
    batch = collate(rows, facts.end_of_text)
    width = max(len(row.ids) for row in rows)
    for number, row in enumerate(rows):
        size = len(row.ids)
        assert batch["input_ids"][number].tolist() == row.ids + [facts.end_of_text] * (width - size)
        assert batch["attention_mask"][number].tolist() == [1] * size + [0] * (width - size)
        labels = batch["labels"][number]
        assert (labels != -100).tolist() == row.is_learned + [False] * (width - size)
        assert labels[size - 1] == facts.end_of_text
    assert batch["input_ids"].dtype == torch.int64


def test_segments_put_together_are_the_ids_again(facts):
    row = conversation_row(facts, MESSAGES, inject_answers=True)
    again = []
    for segment in facts.segments(row.ids):
        again.append(segment.token if isinstance(segment, MulFact) else segment or "<|endoftext|>")
    assert "".join(again) == facts.decode(row.ids)
    assert [facts.end_of_text] * facts.segments(row.ids).count(None) == [
        token for token in row.ids if token == facts.end_of_text
    ]
    assert facts.segments([]) == []
