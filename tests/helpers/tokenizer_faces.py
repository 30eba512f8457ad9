"""One vocabulary in four readers (ours, tiktoken, tokenizers, AutoTokenizer); hard documents."""

from pathlib import Path

import pytest
import tokenizers
from conditions import OWN
from transformers import AutoTokenizer, GPT2Config

from model.export.hf_tokenizer import to_hugging_face
from model.params.tokenize import TokenizeParams
from model.tokens.bpe import END_OF_TEXT, PATTERN, Tokenizer, read_ranks

BASE = {"base_ranks": 512, "pattern": None, "mul_facts": False}
CHOSEN = {name: TokenizeParams(**{**BASE, **own.get("tokenize", {})}) for name, own in OWN.items()}
NAMES = sorted(CHOSEN)
AWKWARD = [
    "",
    " ",
    "  a\n\n b \t",
    "naïve 你好 🎉 don't",
    "\x00\x1f\x7f",
    "a\u00a0b\u3000c",
    "x" * 1000,
    "<|endoftext|> hi",
    "<MUL_6_9_54>",
    "<|reserved_520|>",
    "\ud7ff\ue000",
    "I'LL we'll",
    "1234567890",
    "\r\n\r\n",
]


@pytest.fixture(scope="session")
def loaded(tokenizer, tmp_path_factory):
    """Return the tokenizer as AutoTokenizer loads it from an export."""
    directory = tmp_path_factory.mktemp("export")
    GPT2Config().save_pretrained(directory)
    to_hugging_face(tokenizer, context=64).save_pretrained(directory)
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="session")
def faces(ranks_file, tmp_path_factory):
    """Return, for each size and condition, our tokenizer and both loaded from its export."""
    result = {}
    for count in (512, 50256):
        ranks = read_ranks(ranks_file, count)
        for name in NAMES:
            chosen = CHOSEN[name]
            ours = Tokenizer(ranks, chosen.mul_facts, chosen.pattern or PATTERN)
            directory = tmp_path_factory.mktemp("face")
            GPT2Config().save_pretrained(directory)
            to_hugging_face(ours, context=64).save_pretrained(directory)
            result[count, name] = (
                ours,
                AutoTokenizer.from_pretrained(directory),
                tokenizers_face(directory),
            )
    return result


def tokenizers_face(directory: Path) -> tokenizers.Tokenizer:
    face = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    face.encode_special_tokens = (
        True  # transformers sets it from split_special_tokens; the file cannot hold it
    )
    return face


CONDITIONS = [(count, name) for count in (512, 50256) for name in NAMES]
SPECIAL_NAMES = [
    END_OF_TEXT,
    "<MUL_6_9_54>",
    "<MUL_1_1_1>",
    "<|reserved_513|>",
    "<|reserved_575|>",
    "<|reserved_50303|>",
    "<|endoftext",
]
