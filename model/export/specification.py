"""The required content of an export's files, derived from its checkpoint and tokenizer.

Nothing here comes from the exporter (model/export/weight_map.py, model/export/hf_tokenizer.py,
model/tokens/byte_level.py), so a fault there cannot confirm itself. A file with a key that is not
listed here fails the gate. This happens when a new version of transformers writes a new key: learn
what it changes, then add it here.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import transformers
from tokenizers.pre_tokenizers import ByteLevel

from common.errors import printable
from model.network.gpt import GPT
from model.tokens.bpe import END_OF_TEXT, PATTERN, Tokenizer

WEIGHTS, CARD = "model.safetensors", "README.md"
# Characters of a value that a message shows.
_LONGEST_SHOWN = 60


def expected_json(model: GPT, tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """Return the content of every JSON file of an export of `model` with `tokenizer`."""
    context, end_of_text = model.config.context, tokenizer.end_of_text
    return {
        "config.json": _config(model, end_of_text),
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            "output_attentions": False,
            "output_hidden_states": False,
            "transformers_version": transformers.__version__,
            "use_cache": True,
        },
        "tokenizer.json": _tokenizer(tokenizer),
        "tokenizer_config.json": _tokenizer_config(tokenizer, context),
    }


def _config(model: GPT, end_of_text: int) -> dict[str, Any]:
    """Return config.json: the sizes, and the constants of the network in model/network/gpt.py."""
    size = model.config
    return {
        "activation_function": "gelu_new",  # the tanh approximation
        "add_cross_attention": False,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": end_of_text,
        "dtype": "float32",
        "embd_pdrop": 0.0,
        "eos_token_id": end_of_text,
        "initializer_range": 0.02,
        "layer_norm_epsilon": model.transformer.ln_f.eps,
        "model_type": "gpt2",
        "n_embd": size.width,
        "n_head": size.heads,
        "n_inner": None,  # four times the width
        "n_layer": size.layers,
        "n_positions": size.context,
        "pad_token_id": None,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        # The summary is a head of GPT2DoubleHeadsModel; exports are GPT2LMHeadModel.
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "tie_word_embeddings": True,
        "transformers_version": transformers.__version__,
        "use_cache": True,
        "vocab_size": size.vocab_size,
    }


def _tokenizer_config(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """Return tokenizer_config.json for a model of `context` positions."""
    common = {
        "backend": "tokenizers",
        "bos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
        "model_max_length": context,
        "split_special_tokens": True,
        "unk_token": END_OF_TEXT,
    }
    if tokenizer.pattern != PATTERN:  # GPT2Tokenizer has GPT-2's pattern built in
        return {**common, "tokenizer_class": "TokenizersBackend"}
    return {
        **common,
        "add_prefix_space": False,
        "errors": "replace",
        "pad_token": None,
        "tokenizer_class": "GPT2Tokenizer",
    }


def _tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return tokenizer.json in the format of the tokenizers library."""
    spelling = _spelling()

    def spell(token: bytes) -> str:
        return "".join(spelling[byte] for byte in token)

    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": tokenizer.pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    # Another pattern than GPT-2's: split by it first, then spell bytes without the built-in one.
    by_pattern = {"type": "Sequence", "pretokenizers": [split, {**byte_level, "use_regex": False}]}
    first = {"Sequence": {"id": "A", "type_id": 0}}
    added = {"id": tokenizer.end_of_text, "content": END_OF_TEXT, "special": True}
    vocabulary = {spell(token): rank for token, rank in tokenizer.ranks.items()}
    # Ids after the base tokens: end of text, then facts or reserved names.
    vocabulary |= {
        name: tokenizer.end_of_text + place for place, name in enumerate(tokenizer.names)
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {**added, **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)}
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level if tokenizer.pattern == PATTERN else by_pattern,
        # A template of the text alone: it adds no token.
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first],
            "pair": [first, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {},
        },
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [[spell(left), spell(right)] for left, right in _merges(tokenizer.ranks)],
        },
    }


def _spelling() -> dict[int, str]:
    """Return each byte's character as the tokenizers library spells it.

    Its alphabet has 256 characters. Those below U+0100 spell the byte of their own number: "A" is
    65. The others, in order, spell the remaining bytes: "Ā" (U+0100) is byte 0, "Ġ" is 32, a space.
    """
    alphabet = sorted(ByteLevel.alphabet())
    own = {ord(character): character for character in alphabet if ord(character) < 256}
    others = [character for character in alphabet if ord(character) >= 256]
    return own | dict(zip((byte for byte in range(256) if byte not in own), others, strict=True))


def _merges(ranks: dict[bytes, int]) -> list[list[bytes]]:
    """Return for each token of several bytes, in order of rank, the parts that earlier ranks leave.

    Byte-pair encoding joins the neighbours whose pair has the lowest rank, as long as some pair has
    a rank. With `he` of rank 3 and `the` of rank 9, the parts of `the` are [t, he]. Merges reach a
    token only if exactly two parts are left; tokenizer.json cannot express any other.
    """
    merges = []
    for token, limit in ranks.items():
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 1:
            # `limit` stands for a pair without a rank, and for the token itself.
            rank, place = min(
                (ranks.get(left + right, limit), place)
                for place, (left, right) in enumerate(pairwise(parts))
            )
            if rank >= limit:
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        if len(token) > 1:
            merges.append(parts)
    return merges


def read_exactly(path: Path) -> Any:
    """Return the JSON of `path`; raise ValueError for a repeated key, NaN or Infinity.

    Readers of JSON treat these differently, so two readers could load two configurations.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(
                f"{next(name for name in names if names.count(name) > 1)} appears twice"
            )
        return found

    def no_constant(text: str) -> None:
        raise ValueError(f"{text} is not a JSON number")

    return json.loads(
        path.read_bytes().decode("utf-8"), object_pairs_hook=once, parse_constant=no_constant
    )


def first_difference(found: Any, expected: Any, key: str = "") -> str | None:
    """Describe the first key at which two JSON values differ, or return None if they are equal.

    Example: "model.dropout is 0.1, expected null".
    """
    if isinstance(found, dict) and isinstance(expected, dict):
        names = sorted(found.keys() | expected.keys())
        pairs = {name: (found.get(name, _ABSENT), expected.get(name, _ABSENT)) for name in names}
    elif isinstance(found, list) and isinstance(expected, list):
        pairs = {
            place: (
                found[place] if place < len(found) else _ABSENT,
                expected[place] if place < len(expected) else _ABSENT,
            )
            for place in range(max(len(found), len(expected)))
        }
    elif type(found) is type(expected) and found == expected:  # in Python 1 == True == 1.0
        return None
    else:
        return f"{key or 'the whole'} is {_shown(found)}, expected {_shown(expected)}"
    for name, (one, other) in pairs.items():
        place = f"{key}.{name}" if key else str(name)
        if one is _ABSENT:
            return f"{place} is missing, expected {_shown(other)}"
        if other is _ABSENT:
            return f"{place} is {_shown(one)}, expected no such entry"
        if difference := first_difference(one, other, place):
            return difference
    return None


_ABSENT = object()


def _shown(value: Any) -> str:
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
