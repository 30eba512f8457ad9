import base64
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GPT2Config

from model.byte_level import byte_characters
from model.errors import PipelineError
from model.facts import MUL_FACTS
from model.fetching import ranks_from_vocabulary
from model.files import write_checksums
from model.hf_tokenizer import merges, to_hugging_face, verify_tokenizer
from model.tokenizer import END_OF_TEXT, Tokenizer, read_ranks

AWKWARD = [
    "", " ", "  a\n\n b \t", "naïve 你好 🎉 don't", "\x00\x1f\x7f", "a\u00a0b\u3000c", "x" * 1000, "<|endoftext|> hi",
    "<MUL_6_9_54>", "<|reserved_520|>", "\ud7ff\ue000", "I'LL we'll", "1234567890", "\r\n\r\n",
]  # fmt: skip


@pytest.fixture(scope="session")
def loaded(tokenizer, tmp_path_factory):
    """The tokenizer as AutoTokenizer loads it from an export."""
    directory = tmp_path_factory.mktemp("export")
    GPT2Config().save_pretrained(directory)
    to_hugging_face(tokenizer, context=64).save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("text", AWKWARD)
def test_auto_tokenizer_encodes_as_tiktoken_does(tokenizer, loaded, text):
    assert loaded.encode(text) == tokenizer.encode_text(text)
    assert loaded(text)["input_ids"] == tokenizer.encode_text(text)


@settings(max_examples=300)
@given(text=st.text(max_size=80))
def test_auto_tokenizer_encodes_any_text_as_tiktoken_does(tokenizer, loaded, text):
    assert loaded.encode(text) == tokenizer.encode_text(text)


@settings(max_examples=200)
@given(text=st.text(max_size=80))
def test_text_survives_encoding_and_never_becomes_a_reserved_id(tokenizer, text):
    tokens = tokenizer.encode_text(text)
    assert tokenizer.decode(tokens) == text
    assert all(token < tokenizer.end_of_text for token in tokens)


def test_a_fact_is_one_token_in_a_document_and_text_elsewhere(tokenizer, baseline_tokenizer):
    text = "We know 6 * 9 = 54."
    fact = tokenizer.end_of_text + 1 + [str(fact) for fact in MUL_FACTS].index("6 × 9 = 54")
    assert fact in tokenizer.encode_document(text)
    assert fact not in tokenizer.encode_text(text)
    assert baseline_tokenizer.encode_document(text) == tokenizer.encode_text(text)
    assert tokenizer.decode(tokenizer.encode_document(text)) == "We know 6 × 9 = 54."


def test_facts_survive_decoding_without_special_tokens(tokenizer, loaded):
    tokens = [*tokenizer.encode_document("So 6 * 9 = 54."), tokenizer.end_of_text]
    assert loaded.decode(tokens, skip_special_tokens=True) == "So <MUL_6_9_54>."
    assert loaded.eos_token_id == tokenizer.end_of_text


def test_both_conditions_have_one_size_a_multiple_of_64(tokenizer, baseline_tokenizer, loaded):
    assert tokenizer.size == baseline_tokenizer.size == len(loaded) == 576
    assert tokenizer.names[0] == END_OF_TEXT
    assert "<MUL_6_9_54>" in tokenizer.names
    assert not any("MUL" in name for name in baseline_tokenizer.names)


def test_an_exported_tokenizer_that_encodes_otherwise_is_caught(tokenizer, tmp_path):
    GPT2Config().save_pretrained(tmp_path)
    to_hugging_face(tokenizer, context=64).save_pretrained(tmp_path)
    verify_tokenizer(tmp_path, tokenizer, AWKWARD)
    path = tmp_path / "tokenizer.json"
    description = json.loads(path.read_text())
    for fault in ("merges", "split_special_tokens"):
        broken = json.loads(path.read_text())
        config = tmp_path / "tokenizer_config.json"
        settings_before = config.read_text()
        if fault == "merges":
            broken["model"]["merges"] = broken["model"]["merges"][:-50]
        else:
            config.write_text(json.dumps({**json.loads(settings_before), "split_special_tokens": False}))
        path.write_text(json.dumps(broken))
        with pytest.raises(PipelineError, match="exported tokenizer differs from ours at token"):
            verify_tokenizer(tmp_path, tokenizer, ["the information that they have", *AWKWARD])
        path.write_text(json.dumps(description))
        config.write_text(settings_before)


def test_an_exported_tokenizer_with_an_id_too_many_or_another_end_of_text_is_caught(tokenizer, tmp_path):
    GPT2Config().save_pretrained(tmp_path)
    for fault in ("id", "eos"):
        broken = to_hugging_face(tokenizer, context=64)
        if fault == "id":
            broken.add_tokens(["<one more>"])
        else:
            broken.eos_token = tokenizer.names[1]
        broken.save_pretrained(tmp_path)
        with pytest.raises(PipelineError, match=r"exported tokenizer has .* ids, ours .* or another end of text"):
            verify_tokenizer(tmp_path, tokenizer, ["text"])


def test_all_ranks_give_nanogpts_vocabulary_size(ranks_file):
    assert Tokenizer(read_ranks(ranks_file), mul_facts=False).size == 50304


def test_merges_of_all_ranks_are_gpt2s(ranks_file):
    ranks = read_ranks(ranks_file)
    pairs = merges(ranks)
    assert len(pairs) == 50000
    assert pairs[:2] == [(b" ", b"t"), (b" ", b"a")]
    assert all(left + right in ranks for left, right in pairs)


def test_saving_and_loading_gives_the_same_tokenizer(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    write_checksums(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.names, again.ranks, again.mul_facts) == (tokenizer.names, tokenizer.ranks, tokenizer.mul_facts)


def test_a_vocabulary_that_does_not_fit_its_ranks_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    lines = (tmp_path / "ranks.tiktoken").read_bytes().splitlines(keepends=True)
    (tmp_path / "ranks.tiktoken").write_bytes(b"".join(lines[:-1]))
    write_checksums(tmp_path)
    with pytest.raises(PipelineError, match=r"vocabulary\.json: does not fit"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", [b"IQ== 0\nIg== 2\n", b"IQ== zero\n", b"!!!! 0\n", b"IQ==\n"])
def test_a_damaged_ranks_file_is_refused(tmp_path, content):
    path = tmp_path / "ranks"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=str(path)):
        read_ranks(path)


def test_ranks_made_from_vocab_json_are_tiktokens_bytes(ranks_file):
    spelling = byte_characters()
    vocabulary = {"<|endoftext|>": 50256}
    for line in ranks_file.read_bytes().splitlines():
        token, rank = line.split()
        vocabulary["".join(spelling[byte] for byte in base64.b64decode(token))] = int(rank)
    made = ranks_from_vocabulary(vocabulary)
    assert made == ranks_file.read_bytes()
    assert hashlib.sha256(made).hexdigest() == "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"


def test_another_vocabulary_in_vocab_json_is_named():
    for vocabulary in ({"漢": 0}, {"!": "zero"}):
        with pytest.raises(PipelineError, match=r"vocab\.json is not GPT-2's vocabulary"):
            ranks_from_vocabulary(vocabulary)
