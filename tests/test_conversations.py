import json

import pytest
from conftest import REPOSITORY

from model.conversations import chat_conversations, gsm8k_conversations, read_questions
from model.errors import PipelineError
from model.fetching import fetch_conversations, fetch_gsm8k
from model.files import sha256_file
from model.params.fetch import ConversationsInput, Gsm8kInput
from model.section import read_section

SOLUTION = "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18"
CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hello", "name": "Ann"},
    {"role": "assistant", "content": "Hi."},
]


def test_solutions_lose_the_calculators_annotations_and_nothing_else():
    [conversation] = gsm8k_conversations("x", [{"question": "How much?", "answer": SOLUTION}], "gsm8k_train")
    assert [message.role for message in conversation.messages] == ["user", "assistant"]
    assert conversation.messages[1].content == "Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18.\n#### 18"


def test_chats_keep_role_and_content():
    [conversation] = chat_conversations("x", [{"id": 7, "messages": CHAT}], "tulu")
    assert conversation.model_dump() == {
        "source": "tulu",
        "messages": [{key: message[key] for key in ("role", "content")} for message in CHAT],
    }


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "a.jsonl: record 1 has no list of messages"),
        ({"messages": ["Hello"]}, "a.jsonl: record 1 has no list of messages"),
        ({"messages": CHAT[:2]}, "a.jsonl: record 1: no message is the assistant's"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "a.jsonl: record 1.messages.0.role: Input should be 'system', 'user' or 'assistant', got 'tool'",
        ),
        (
            {"messages": [{"role": "user", "content": ""}]},
            "a.jsonl: record 1.messages.0.content: String should have at least 1 character, got ''",
        ),
    ],
)
def test_a_record_that_is_no_chat_is_one_line(record, message):
    with pytest.raises(PipelineError) as caught:
        chat_conversations("a.jsonl", [{"messages": CHAT}, record], "tulu")
    assert str(caught.value) == message


@pytest.mark.parametrize("record", [{"question": "?"}, {"doc": 5}, {"question": 3, "answer": "#### 3"}])
def test_a_record_that_is_no_question_is_named(record):
    with pytest.raises(PipelineError, match=r"^a\.jsonl: record 0\."):
        read_questions("a.jsonl", [record])


def test_the_real_test_set_is_whole(tmp_path):
    questions = fetch_gsm8k(read_section("fetch.gsm8k", Gsm8kInput, REPOSITORY / "profiles/micro.yaml"), tmp_path)
    assert len({question.question for question in questions}) == 1319
    assert questions[0].answer.endswith("#### 18")
    assert "<<" in questions[0].answer  # as published; whoever trains on them takes the annotations out


@pytest.mark.parametrize(
    ("kind", "records"), [("gsm8k", [{"question": "?", "answer": SOLUTION}] * 3), ("chat", [{"messages": CHAT}] * 3)]
)
def test_conversations_come_from_local_files_and_are_counted(tmp_path, monkeypatch, kind, records):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    file = {"path": "a.jsonl", "sha256": sha256_file(tmp_path / "a.jsonl")}

    def read(count: int):
        source = {"kind": "files", "files": [file, file]}
        return fetch_conversations("mine", ConversationsInput(count=count, format=kind, source=source), tmp_path)

    assert [conversation.source for conversation in read(6)] == ["mine"] * 6
    with pytest.raises(PipelineError, match=r"^fetch\.conversations\.mine: 6 records found"):
        read(5)
