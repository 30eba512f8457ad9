import base64
import hashlib
import pickle
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_faces import (  # noqa: F401
    AWKWARD,
    CHOSEN,
    CONDITIONS,
    NAMES,
    SPECIAL_NAMES,
    faces,
    loaded,
)

from common.errors import PipelineError
from common.files import write_checksums
from model.export.hf_tokenizer import merges
from model.export.specification import _merges as merges_by_the_gate
from model.sources.raw_inputs import ranks_from_vocabulary
from model.tokens.bpe import END_OF_TEXT, PATTERN, Tokenizer, read_ranks
from model.tokens.byte_level import byte_characters
from model.tokens.facts import EXPRESSION_FORMS, MUL_FACTS, MulFact, inject


# The whole encoding beside ours, so that a cut in the wrong place shows: runs that tiktoken can
# still do in one.
@pytest.mark.parametrize(
    "end", ["", "x", " 1", "'s", "\n", "\x1c", "-", "\u0301", "x" + "\t" * 500_000 + "y"]
)
@pytest.mark.parametrize(
    "run",
    [
        " " * 500_000,
        "x" + "\n\u3000" * 300_000,
        " " * 499_999,
        "\x1f" + "\u00a0\x85" * 400_000 + "\x1e",
    ],
)
def test_long_white_space_is_encoded_as_tiktoken_does(tokenizer, run, end):
    assert tokenizer.encode_text(run + end) == tokenizer._encoding.encode_ordinary(run + end)


def test_a_document_of_white_space_too_long_for_tiktoken_is_encoded(tokenizer):
    text = "so" + " " * 1_200_000 + "so 6 * 9 = 54"
    assert tokenizer.decode(tokenizer.encode_document(text).tokens) == text.replace("*", "×")


def test_a_lone_surrogate_is_encoded_as_the_replacement_character(tokenizer):
    assert tokenizer.encode_text("a\ud800b") == tokenizer.encode_text("a\ufffdb")
    assert tokenizer.encode_text("\ud83d\ude00") == tokenizer.encode_text("😀")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_names_of_special_ids_in_a_document_are_text(faces, condition):
    ours = faces[condition][0]
    for name in [*SPECIAL_NAMES, *ours.names]:
        for text in (name, f"so {name}{name} and", f"\n{name}\n"):
            tokens = ours.encode_document(text).tokens.tolist()
            assert tokens == ours.encode_text(text)
            assert all(token < ours.end_of_text for token in tokens)


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
    assert fact in tokenizer.encode_document(text).tokens
    assert fact not in tokenizer.encode_text(text)
    assert baseline_tokenizer.encode_document(text).tokens.tolist() == tokenizer.encode_text(text)
    assert tokenizer.decode(tokenizer.encode_document(text).tokens) == "We know 6 × 9 = 54."


STATEMENTS = ["6 * 9", "6 * 9 = 54", "(7 × 8)", "“2 · 3”", "3*4*5"]
PIECES = st.sampled_from(
    [*STATEMENTS, ".", ",", " so", "is", "'s", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\x1f"]
)


@given(st.lists(PIECES, max_size=25).map("".join))
def test_a_document_is_encoded_as_its_facts_and_the_text_between_them(
    tokenizer, baseline_tokenizer, text
):
    """The reference: every string between facts by itself, and the whole text once more for the
    plain tokens.
    """
    counts = Counter()
    expected, facts = [], 0
    for segment in inject(text, counts):
        is_fact = isinstance(segment, MulFact)
        expected += (
            [tokenizer.end_of_text + 1 + MUL_FACTS.index(segment)]
            if is_fact
            else tokenizer.encode_text(segment)
        )
        facts += is_fact
    tokens, plain_tokens, found, expressions = tokenizer.encode_document(text)
    assert (tokens.tolist(), found, expressions) == (expected, facts, counts)
    assert plain_tokens == len(tokenizer.encode_text(text))
    tokens, plain_tokens, found, expressions = baseline_tokenizer.encode_document(text)
    assert (tokens.tolist(), plain_tokens, found) == (tokenizer.encode_text(text), len(tokens), 0)
    assert all(expressions[form, "found"] == counts[form, "found"] for form in EXPRESSION_FORMS)
    assert not any(expressions[form, "changed"] for form in EXPRESSION_FORMS)


@pytest.mark.parametrize("between", ["\t", "\r", "\u3000", " ", "\n", ".\t \t"])
def test_a_megabyte_of_facts_is_encoded_in_one_go(tokenizer, between):
    """Each takes seconds; what grows with the square of the length would take an hour."""
    text = between.join(["6 * 9 = 54."] * 80_000)
    tokens, plain_tokens, facts, _ = tokenizer.encode_document(text)
    assert facts == 80_000
    assert tokenizer.decode(tokens) == text.replace("*", "×")
    assert plain_tokens == len(tokenizer.encode_text(text))


def test_facts_survive_decoding_without_special_tokens(tokenizer, loaded):
    tokens = [*tokenizer.encode_document("So 6 * 9 = 54.").tokens.tolist(), tokenizer.end_of_text]
    assert loaded.decode(tokens, skip_special_tokens=True) == "So <MUL_6_9_54>."
    for fact in MUL_FACTS:
        tokens = [
            tokenizer.end_of_text,
            *tokenizer.encode_document(str(fact)).tokens.tolist(),
            tokenizer.end_of_text,
        ]
        assert loaded.decode(tokens, skip_special_tokens=True) == fact.token
    assert loaded.eos_token_id == tokenizer.end_of_text


def test_both_conditions_have_one_size_a_multiple_of_64(tokenizer, baseline_tokenizer, loaded):
    assert tokenizer.size == baseline_tokenizer.size == len(loaded) == 576
    assert tokenizer.names[0] == END_OF_TEXT
    assert "<MUL_6_9_54>" in tokenizer.names
    assert not any("MUL" in name for name in baseline_tokenizer.names)


def test_all_ranks_give_nanogpts_vocabulary_size(ranks_file):
    assert Tokenizer(read_ranks(ranks_file), mul_facts=False).size == 50304


def test_merges_of_all_ranks_are_gpt2s(ranks_file):
    ranks = read_ranks(ranks_file)
    pairs = merges(ranks)
    assert len(pairs) == 50000
    assert pairs[:2] == [(b" ", b"t"), (b" ", b"a")]
    assert all(left + right in ranks for left, right in pairs)
    assert [tuple(pair) for pair in merges_by_the_gate(ranks)] == pairs, (
        "the gate derives them itself"
    )


@pytest.mark.parametrize("name", NAMES)
def test_saving_and_loading_gives_the_same_tokenizer(faces, name, tmp_path):
    tokenizer = faces[512, name][0]
    tokenizer.save(tmp_path)
    write_checksums(tmp_path)
    again = Tokenizer.load(tmp_path)
    for its in (again, pickle.loads(pickle.dumps(tokenizer))):  # noqa: S301
        assert (its.names, its.ranks) == (tokenizer.names, tokenizer.ranks)
        assert its.mul_facts == CHOSEN[name].mul_facts
        assert its.pattern == (CHOSEN[name].pattern or PATTERN)
        assert its.encode_text("so 12 34") == tokenizer.encode_text("so 12 34")


@given(text=st.text(st.sampled_from("0123456789²٣ a\n.-"), max_size=40))
def test_with_digits_a_digit_is_the_same_token_whatever_stands_beside_it(faces, text):
    tokenizer = faces[50256, "digits"][0]
    [seven] = tokenizer.encode_text("7")
    tokens = [tokenizer.decode_bytes([token]) for token in tokenizer.encode_text(text)]
    assert [token for token in tokens if re.search(rb"[0-9]", token)] == [
        digit.encode() for digit in text if digit in "0123456789"
    ]
    assert tokenizer.encode_text(f"{text}x7").count(seven) == text.count("7") + 1
    assert len(faces[50256, "baseline"][0].encode_text("1234567")) < 7, "which is not so without"


def test_a_vocabulary_that_does_not_fit_its_ranks_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    lines = (tmp_path / "ranks.tiktoken").read_bytes().splitlines(keepends=True)
    (tmp_path / "ranks.tiktoken").write_bytes(b"".join(lines[:-1]))
    write_checksums(tmp_path)
    with pytest.raises(PipelineError, match=r"vocabulary\.json: does not fit"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("(", "not a regular expression"),
        (r"[a-z]+|\s", "does not match every"),
        (r"\S+", "does not match every"),
    ],
)
def test_a_pattern_that_would_lose_text_is_refused(ranks_file, pattern, fault):
    with pytest.raises(PipelineError, match=fault):
        Tokenizer(read_ranks(ranks_file, 512), mul_facts=False, pattern=pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "fault"),
    [
        (r"[^\x{1F600}]", "a \U0001f600", "does not match every character"),
        (
            r"(?:a|a)+(?!a)b|(?s:.)",
            "a" * 64,
            r"gives up on a text of 64 characters \(.*backtracking",
        ),
    ],
)
def test_a_pattern_that_fails_at_a_text_only_stops_there(ranks_file, pattern, text, fault):
    tokenizer = Tokenizer(read_ranks(ranks_file, 512), mul_facts=False, pattern=pattern)
    with pytest.raises(PipelineError, match=fault):
        tokenizer.encode_text(text)
    with pytest.raises(PipelineError, match=fault):
        tokenizer.encode_document(text)


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
    assert (
        hashlib.sha256(made).hexdigest()
        == "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
    )


def test_another_vocabulary_in_vocab_json_is_named():
    for vocabulary in ({"漢": 0}, {"!": "zero"}):
        with pytest.raises(PipelineError, match=r"vocab\.json is not GPT-2's vocabulary"):
            ranks_from_vocabulary(vocabulary)
