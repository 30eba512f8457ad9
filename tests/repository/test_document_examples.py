"""The worked examples of docs/data.md and docs/training.md are what the code does."""

import re

import pytest
from repository import REPOSITORY

from common.yaml_file import read_yaml
from model.data.conversations import Message
from model.export.hf_tokenizer import to_hugging_face
from model.hugging_face.directory import read_tokenizer
from model.params.fetch import ConversationsInput, PassagesInput
from model.params.pretrain import PretrainParams
from model.post_training.chat_format import conversation_row
from model.tokens.bpe import Tokenizer, read_ranks
from model.tokens.export_tokenizer import FactTokenizer
from pipeline.declared.dvc_yaml import load_yaml


def example(document: str, name: str) -> list[str]:
    """Return the lines of a marked block of code."""
    text = (REPOSITORY / "docs" / document).read_text()
    [block] = re.findall(
        rf"<!-- example {name} -->\n```\n(.*?)```\n<!-- end example -->", text, flags=re.DOTALL
    )
    return block.splitlines()


@pytest.mark.parametrize(("condition", "facts"), [("baseline", False), ("mul_tokens", True)])
def test_the_sentence_becomes_the_tokens_of_the_example(condition, facts, ranks_file):
    """A piece between bars is a token, but for ×, whose two tokens are no character alone."""
    lines = example("data.md", "tokens")
    place = next(number for number, line in enumerate(lines) if line.startswith(condition))
    pieces, count = re.fullmatch(rf"{condition} +(\S.*?[.]) +(\d+) ids.*", lines[place]).groups()
    ids = [int(token) for token in lines[place + 1].split()]
    base_ranks = read_yaml(REPOSITORY / "profiles/seeds.yaml")["tokenize"]["base_ranks"]
    tokenizer = Tokenizer(read_ranks(ranks_file, base_ranks), facts)
    assert tokenizer.encode_document(lines[0]).tokens.tolist() == ids
    assert len(ids) == int(count)
    assert tokenizer.decode(ids) == lines[0]
    told = pieces.split("|")
    joined = "".join(told).replace("<MUL_6_9_54>", "6 × 9 = 54")
    assert joined == lines[0]
    assert len(told) + told.count("×") == len(ids)
    text = (REPOSITORY / "docs/data.md").read_text()
    assert f"{tokenizer.end_of_text}           end of text" in text
    first, last = tokenizer.end_of_text + 1, tokenizer.end_of_text + 45
    assert f"{first} … {last}    45 fact tokens" in text
    assert f"{last + 1} … {tokenizer.size - 1}    padding" in text


def test_the_conversation_is_read_and_learned_as_in_the_example(tmp_path, baseline_tokenizer):
    read, learned = (line[11:].replace("\\n", "\n") for line in example("training.md", "chat"))
    to_hugging_face(baseline_tokenizer, 64).save_pretrained(tmp_path)
    facts = FactTokenizer(
        read_tokenizer(tmp_path, baseline_tokenizer.size), baseline_tokenizer.end_of_text
    )
    messages = [
        Message(role="user", content="What is 6 × 9?"),
        Message(role="assistant", content="6 × 9 = 54\n#### 54"),
    ]
    row = conversation_row(facts, messages, inject_answers=False)
    start = row.is_learned.index(True)
    assert facts.decode(row.ids[:start]) == read
    assert facts.decode(row.ids[start:]) == learned
    assert all(row.is_learned[start:])


def test_the_sources_in_the_examples_are_valid():
    text = (REPOSITORY / "docs/data.md").read_text()
    own, conversations = (
        load_yaml(
            block.replace("sha256: …", f"sha256: {'a' * 64}")
            .replace("revision: …", f"revision: {'b' * 40}")
            .encode()
        )
        for block in re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    )
    assert PassagesInput(**own["fetch"]["passages"]).source.kind == "files"
    sources = conversations["fetch"]["conversations"]
    assert {ConversationsInput(**each).format for each in sources.values()} == {"gsm8k", "chat"}
    assert conversations["problems"]["mixture"].keys() == sources.keys()


def test_the_rows_of_a_step_are_shared_out_as_in_the_picture():
    text = (REPOSITORY / "docs/training.md").read_text()
    rows, processes, micro = map(
        int,
        re.search(
            r"batch_rows = (\d+), processes = (\d+), micro_batch_rows = (\d+)", text
        ).groups(),
    )
    values = read_yaml(REPOSITORY / "profiles/seeds.yaml")["pretrain"]
    PretrainParams(
        **values | {"batch_rows": rows, "processes": processes, "micro_batch_rows": micro}
    )
    share = rows // processes
    for rank in range(processes):
        own = list(range(rank * share, (rank + 1) * share))
        batches = [own[start : start + micro] for start in range(0, share, micro)]
        told = " | ".join("rows " + " ".join(map(str, batch)) for batch in batches)
        assert f"process {rank}   {told}" in text
