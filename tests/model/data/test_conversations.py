import json

import pytest
from repository import REPOSITORY

from common.errors import PipelineError
from common.files import sha256_file
from common.sections import read_section
from model.params.fetch import ConversationsInput, Gsm8kInput
from model.sources.conversation_records import (
    chat_conversations,
    gsm8k_conversations,
    read_questions,
)
from model.sources.raw_inputs import fetch_conversations, fetch_gsm8k

SOLUTION = "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18"
CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hello", "name": "Ann"},
    {"role": "assistant", "content": "Hi."},
]


def test_solutions_lose_the_calculators_annotations_and_nothing_else():
    [conversation] = gsm8k_conversations(
        "x", [{"question": "How much?", "answer": SOLUTION}], "gsm8k_train"
    )
    assert [message.role for message in conversation.messages] == ["user", "assistant"]
    assert (
        conversation.messages[1].content
        == "Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18.\n#### 18"
    )


def test_chats_keep_role_and_content():
    [conversation] = chat_conversations("x", [{"id": 7, "messages": CHAT}], "tulu")
    assert conversation.model_dump() == {
        "source": "tulu",
        "messages": [{key: message[key] for key in ("role", "content")} for message in CHAT],
    }


def said(*turns: tuple[str, str]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in turns]


HELLO, HI = ("user", "Hello"), ("assistant", "Hi.")
ROLES = (
    "is not one of system, developer, user, human, assistant, gpt; rename it or leave the chat out"
)

# What a record has, and the messages it becomes.
TAUGHT = {
    "assistant first": (
        {"messages": said(("assistant", "Welcome."), HELLO, HI)},
        [("assistant", "Welcome."), HELLO, HI],
    ),
    "ends with user": (
        {"messages": said(HELLO, HI, ("user", "There?"))},
        [HELLO, HI, ("user", "There?")],
    ),
    "system last": (
        {"messages": said(HELLO, HI, ("system", "Be kind."))},
        [HELLO, HI, ("system", "Be kind.")],
    ),
    "two assistants": (
        {"messages": said(HELLO, HI, ("assistant", "Well?"))},
        [HELLO, HI, ("assistant", "Well?")],
    ),
    "developer": (
        {"messages": said(("developer", "Be kind."), HELLO, HI)},
        [("system", "Be kind."), HELLO, HI],
    ),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "system", "value": ""},
                {"from": "human", "value": "Hello"},
                {"from": "gpt", "value": "Hi."},
            ]
        },
        [HELLO, HI],
    ),
    "ShareGPT's names": ({"messages": said(("human", "Hello"), ("gpt", "Hi."))}, [HELLO, HI]),
    "a table's nulls": (
        {
            "messages": None,
            "conversations": [
                {"role": None, "from": "human", "content": None, "value": "Hello"},
                *said(HI),
            ],
        },
        [HELLO, HI],
    ),
    "parts": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
                },
                *said(HI),
            ]
        },
        [HELLO, HI],
    ),
    "system blank": ({"messages": said(("system", " \u200b"), HELLO, HI)}, [HELLO, HI]),
    "no tool called": (
        {"messages": [*said(HELLO), {**said(HI)[0], "tool_calls": [], "weight": 1}]},
        [HELLO, HI],
    ),
    "an emoji": ({"messages": said(HELLO, ("assistant", "👍🏽"))}, [HELLO, ("assistant", "👍🏽")]),
}


@pytest.mark.parametrize(("record", "turns"), TAUGHT.values(), ids=TAUGHT)
def test_a_chat_is_read_as_public_readers_read_it(record, turns):
    [conversation] = chat_conversations("a.jsonl", [record], "tulu")
    assert [(message.role, message.content) for message in conversation.messages] == turns


BLANK = [
    "",
    " ",
    "\n\t ",
    "\xa0",
    "\u3000",
    "\u200b",
    "\ufeff\r\n",
    "\u2060\u00ad",
    "\u3164",
    "\u2800",
    "\0",
    "\ufe0f",
]


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_a_chat_with_a_blank_question_or_answer_is_left_out_and_its_neighbours_are_not(text):
    good = {"messages": said(HELLO, HI)}
    for turns in (
        (HELLO, ("assistant", text)),
        (("user", text), HI),
        (HELLO, HI, HELLO, ("assistant", text), HELLO, HI),
    ):
        first, left_out, last = chat_conversations(
            "a.jsonl", [good, {"messages": said(*turns)}, good], "tulu"
        )
        assert left_out is None
        assert first == last is not None
    for fields in (
        {"question": text, "answer": "#### 7"},
        {"question": "How many?", "answer": f"<<3+4=7>>{text}"},
    ):
        assert gsm8k_conversations("a.jsonl", [fields], "mine") == [None]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "has nothing; a chat is a list `messages`, each with role and content"),
        (
            {"id": 1, "text": "a"},
            "has 'id', 'text'; a chat is a list `messages`, each with role and content",
        ),
        (
            {"messages": "[]"},
            "messages: is no list; a chat is a list `messages`, each with role and content",
        ),
        (
            {"conversations": {}},
            "conversations: is no list; a chat is a list `messages`, each with role and content",
        ),
        ({"messages": ["Hello"]}, "messages.0: is no object with role and content"),
        ({"messages": []}, "messages: none is the assistant's"),
        ({"messages": CHAT[:2]}, "messages: none is the assistant's"),
        (
            {"messages": said(("User", "Hello"), ("Assistant", "Hi."))},
            f"messages.0: the role 'User' {ROLES}",
        ),
        ({"messages": said(HELLO, HI, ("tool", "5"), HI)}, f"messages.2: the role 'tool' {ROLES}"),
        (
            {"conversations": [{"from": "observation", "value": "5"}]},
            f"conversations.0: the role 'observation' {ROLES}",
        ),
        ({"messages": [{"content": "Hello"}]}, f"messages.0: the role None {ROLES}"),
        (
            {"messages": [{"role": ["user"], "content": "a"}]},
            f"messages.0: the role ['user'] {ROLES}",
        ),
        (
            {
                "messages": [
                    *said(HELLO),
                    {"role": "assistant", "content": None, "tool_calls": [{"name": "x"}]},
                ]
            },
            "messages.1: has tool_calls, which are not taught; leave the chat out",
        ),
        (
            {"messages": [*said(HELLO), {**said(HI)[0], "function_call": {"name": "x"}}]},
            "messages.1: has function_call, which are not taught; leave the chat out",
        ),
        (
            {"messages": [*said(HELLO), {**said(HI)[0], "weight": 0}]},
            "messages.1: has the weight 0; every answer has weight 1 here",
        ),
        (
            {"messages": said(HELLO, ("assistant", None))},
            "messages.1: its content is no text but None",
        ),
        ({"messages": said(("user", 5), HI)}, "messages.0: its content is no text but 5"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]},
                    *said(HI),
                ]
            },
            "messages.0: its content has a part that is no text; only text is taught",
        ),
        (
            {"messages": said(("user", "Hello \ud83d"), HI)},
            "messages.0: has half a surrogate pair, \\ud83d at character 6; repair the file",
        ),
        ({"messages": said(("us\ner", "Hello"), HI)}, f"messages.0: the role 'us\\ner' {ROLES}"),
    ],
)
def test_a_record_that_is_no_chat_is_one_line(record, message):
    with pytest.raises(PipelineError) as caught:
        chat_conversations("a.jsonl", [{"messages": CHAT}, record], "tulu")
    assert str(caught.value) == f"a.jsonl: record 1: {message}"


@pytest.mark.parametrize(
    "record", [{"question": "?"}, {"doc": 5}, {"question": 3, "answer": "#### 3"}]
)
def test_a_record_that_is_no_question_is_named(record):
    with pytest.raises(PipelineError, match=r"^a\.jsonl: record 0: (question|answer): .*[^\n]$"):
        read_questions("a.jsonl", [record])


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (
            "How many \ud83d?",
            "#### 7",
            "question: has half a surrogate pair, \\ud83d at character 9; repair the file",
        ),
        (
            "How many?",
            "\udc00 #### 7",
            "answer: has half a surrogate pair, \\udc00 at character 0; repair the file",
        ),
        (" \u200b", "#### 7", "question: has no text"),
        ("How many?", " \n", "answer: has no text"),
        (
            "How many?",
            "<<3+4=7>>",
            "answer: has #### 0 times; it must end in one line `#### NUMBER`",
        ),
        (
            "How many?",
            "#### 7 plums",
            "answer: has ' 7 plums' after ####; write a space and one number alone",
        ),
        (" How  much? ", "#### 7", "question: the same as record 0's; keep one"),
    ],
)
def test_the_test_set_is_held_to_what_is_needed_to_ask_it(question, answer, message):
    good = {"question": "How much?", "answer": "#### 1"}
    for bad in (
        {"question": question, "answer": answer},
        {"doc": {"question": question, "answer": answer}},
    ):
        with pytest.raises(PipelineError) as caught:
            read_questions("a.jsonl", [good, bad])
        assert str(caught.value).startswith(f"a.jsonl: record 1: {message}")
        assert str(caught.value).isprintable()


def test_the_real_test_set_is_whole(tmp_path):
    questions = fetch_gsm8k(
        read_section("fetch.gsm8k", Gsm8kInput, REPOSITORY / "profiles/micro.yaml"), tmp_path
    )
    assert len({question.question for question in questions}) == 1319
    assert questions[0].answer.endswith("#### 18")
    assert (
        "<<" in questions[0].answer
    )  # as published; whoever trains on them takes the annotations out


@pytest.mark.parametrize(
    ("kind", "records"),
    [("gsm8k", [{"question": "?", "answer": SOLUTION}] * 3), ("chat", [{"messages": CHAT}] * 3)],
)
def test_conversations_come_from_local_files_and_are_counted(tmp_path, monkeypatch, kind, records):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    file = {"path": "a.jsonl", "sha256": sha256_file(tmp_path / "a.jsonl")}

    def read(count: int):
        source = {"kind": "files", "files": [file, file]}
        return fetch_conversations(
            "mine", ConversationsInput(count=count, format=kind, source=source), tmp_path
        )

    kept, left_out = read(6)
    assert [conversation.source for conversation in kept] == ["mine"] * 6
    assert left_out == 0
    with pytest.raises(PipelineError, match=r"^fetch\.conversations\.mine: 6 records found"):
        read(5)


def test_conversations_left_out_count_and_one_has_to_be_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(*answers: str):
        records = [{"messages": said(HELLO, ("assistant", answer))} for answer in answers]
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        source = {
            "kind": "files",
            "files": [{"path": "a.jsonl", "sha256": sha256_file(tmp_path / "a.jsonl")}],
        }
        params = ConversationsInput(count=len(answers), format="chat", source=source)
        return fetch_conversations("mine", params, tmp_path)

    kept, left_out = read("Hi.", "  ", "Ho.", "")
    assert [conversation.messages[1].content for conversation in kept] == ["Hi.", "Ho."]
    assert left_out == 2
    message = (
        r"^fetch\.conversations\.mine: each of its 2 conversations has a question or an answer"
        r" without text$"
    )
    with pytest.raises(PipelineError, match=message):
        read(" ", "\n")
