"""The Hugging Face face of `model.tokenizer.Tokenizer`: the same ids for any text, in files AutoTokenizer loads.

The facts and the reserved ids are entries of the vocabulary that no merge leads to: their names in a text stay text, and
`decode(skip_special_tokens=True)` keeps them. Only end of text is special, and `split_special_tokens` keeps its spelling in
a text from becoming the token.
"""

import itertools
from pathlib import Path

from transformers import AutoTokenizer, GPT2Tokenizer

from model.byte_level import byte_characters
from model.errors import PipelineError
from model.tokenizer import END_OF_TEXT, Tokenizer


def to_hugging_face(tokenizer: Tokenizer, context: int) -> GPT2Tokenizer:
    """Return the tokenizer for `transformers`, for a model of `context` positions."""
    spelling = byte_characters()

    def spell(token: bytes) -> str:
        return "".join(spelling[byte] for byte in token)

    vocabulary = {spell(token): rank for token, rank in tokenizer.ranks.items()}
    vocabulary.update(zip(tokenizer.names, range(tokenizer.end_of_text, tokenizer.size), strict=True))
    if len(vocabulary) != tokenizer.size:
        raise PipelineError("tokenizer: a reserved name is also a base token; the export would lose one of the two")
    return GPT2Tokenizer(
        vocab=vocabulary,
        merges=[(spell(left), spell(right)) for left, right in merges(tokenizer.ranks)],
        unk_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=context,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def verify_tokenizer(directory: Path, tokenizer: Tokenizer, texts: list[str]) -> None:
    """Load the tokenizer as anybody would and require that it encodes `texts` and the names of special ids as ours does."""
    loaded = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    for text in [*texts, *tokenizer.names]:
        ours, theirs = tokenizer.encode_text(text), loaded.encode(text, verbose=False)
        if ours != theirs:
            place = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
            raise PipelineError(f"export: the exported tokenizer differs from ours at token {place} of {text[:40]!r}")
    if (len(loaded), loaded.eos_token_id) != (tokenizer.size, tokenizer.end_of_text):
        raise PipelineError(
            f"export: the exported tokenizer has {len(loaded)} ids, ours {tokenizer.size}, or another end of text"
        )


def merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the pairs that byte-pair encoding merges, in order of rank.

    Each token beyond the single bytes is the merge of the two parts that the merges before it leave of its bytes.
    """
    pairs = []
    for token, rank in ranks.items():
        if len(token) == 1:
            continue
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            joined = [ranks.get(left + right, rank) for left, right in itertools.pairwise(parts)]
            best = min(range(len(joined)), key=joined.__getitem__)
            if joined[best] >= rank:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) != 2:
            raise PipelineError(f"ranks: token {rank} ({token!r}) is not the merge of two earlier ones")
        pairs.append((parts[0], parts[1]))
    return pairs
