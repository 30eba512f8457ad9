"""The Hugging Face form of model/tokens/bpe.py's Tokenizer: the same ids for any text.

Fact tokens and reserved ids are in the vocabulary, but no merge produces them. A text that contains
a name such as `<MUL_6_9_54>` is encoded as plain text. `decode(skip_special_tokens=True)` keeps
the names. Only end of text is special; `split_special_tokens` makes its spelling plain text too.
"""

import itertools
from typing import Any

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import GPT2Tokenizer, TokenizersBackend

from common.errors import PipelineError
from model.tokens.bpe import END_OF_TEXT, PATTERN, Tokenizer
from model.tokens.byte_level import byte_characters


def to_hugging_face(tokenizer: Tokenizer, context: int) -> TokenizersBackend:
    """Return the tokenizer for `transformers`, for a model of `context` positions.

    It is a GPT2Tokenizer if the pattern is GPT-2's, which that class has built in. Any other
    pattern is written to tokenizer.json, with a class that reads it from there. Raises
    PipelineError if a reserved name is also a base token.
    """
    # Byte-level BPE writes each byte as a visible character: a space as "Ġ".
    spelling = byte_characters()

    def spell(token: bytes) -> str:
        return "".join(spelling[byte] for byte in token)

    vocabulary = {spell(token): rank for token, rank in tokenizer.ranks.items()}
    vocabulary.update(
        zip(tokenizer.names, range(tokenizer.end_of_text, tokenizer.size), strict=True)
    )
    if len(vocabulary) != tokenizer.size:
        raise PipelineError(
            "tokenizer: a reserved name is also a base token; the export would lose one of the two"
        )
    settings: dict[str, Any] = {
        "unk_token": END_OF_TEXT,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "model_max_length": context,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
    # GPT2Tokenizer takes pairs, although its annotation is list[str].
    pairs: list[Any] = [(spell(left), spell(right)) for left, right in merges(tokenizer.ranks)]
    gpt2 = GPT2Tokenizer(vocab=vocabulary, merges=pairs, **settings)
    if tokenizer.pattern == PATTERN:
        return gpt2
    # Replace the built-in pattern by the condition's own, and keep the byte-level spelling.
    backend = gpt2.backend_tokenizer
    split = Split(Regex(tokenizer.pattern), "isolated")
    backend.pre_tokenizer = Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    return TokenizersBackend(tokenizer_object=backend, **settings)


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the pairs that byte-pair encoding merges, in order of rank.

    A token of several bytes is the merge of two parts, those that the merges of lower rank leave of
    it. With the ranks t 0, h 1, e 2, he 3, the 4, the last token's merge is (t, he). Raises
    PipelineError if more than two parts are left.
    """
    pairs = []
    for token, rank in ranks.items():
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        # Merge the neighbours of lowest rank, as the encoder does, with the earlier ranks only.
        while len(parts) > 2:
            joined = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
            best = min(range(len(joined)), key=joined.__getitem__)
            if joined[best] >= rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) != 2:
            raise PipelineError(
                f"ranks: token {rank} ({token!r}) is not the merge of two earlier ones"
            )
        pairs.append((parts[0], parts[1]))
    return pairs
