"""tiktoken, tokenizers and AutoTokenizer encode thousands of hostile documents as we do."""

import random

import pytest
from tokenizer_faces import (  # noqa: F401
    AWKWARD,
    CHOSEN,
    CONDITIONS,
    NAMES,
    SPECIAL_NAMES,
    faces,
    loaded,
)

pytestmark = pytest.mark.slow("three libraries encode megabytes", minutes=0.5)

WHITE_SPACE = " \t\n\r\v\f\x85\u00a0\u1680\u2000\u2009\u2028\u2029\u202f\u205f\u3000"
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "6️⃣", "❤️"]


def fuzzed_documents(seed: int, count: int) -> list[str]:
    """Return `count` short documents of pieces of every kind in random order; some are empty."""
    generator = random.Random(seed)
    return [
        "".join(_piece(generator) for _ in range(generator.choice((0, 1, 2, 5, 12))))
        for _ in range(count)
    ]


def _piece(generator: random.Random) -> str:
    length = generator.randint(1, 8)
    ranges = [
        (0, 0x20),
        (0x20, 0x7F),
        (0x7F, 0x100),
        (0x100, 0x300),
        (0x300, 0x370),
        (0x590, 0x700),
        (0x900, 0xE00),
        (0x200B, 0x2070),
        (0x2070, 0x2C00),
        (0x4E00, 0x9FFF),
        (0xAC00, 0xD7A4),
        (0xE000, 0xF900),
        (0xFE00, 0x10000),
        (0x10000, 0x20000),
        (0x1F300, 0x1FB00),
        (0x20000, 0x30000),
        (0x30000, 0xE0000),
        (0xE0000, 0xF0000),
        (0xF0000, 0x110000),
    ]
    kinds = [
        lambda: "".join(chr(generator.randrange(*generator.choice(ranges))) for _ in range(length)),
        lambda: "".join(
            chr(generator.randrange(*ranges[number]))
            for number in [generator.randrange(len(ranges))] * length
        ),
        lambda: "".join(generator.choice(WHITE_SPACE) for _ in range(length)),
        lambda: generator.choice(WHITE_SPACE) * generator.randint(1, 40),
        lambda: generator.choice(
            [
                "'s",
                "'LL",
                "don't",
                "we'll",
                "'ve",
                "’re",
                "''d",
                " the",
                "The",
                " of",
                "information",
            ]
        ),
        lambda: str(generator.randrange(10**length)),
        lambda: generator.choice(["²", "٣", "Ⅻ", "६", "½"]) * length,
        lambda: generator.choice(SPECIAL_NAMES),
        lambda: generator.choice(EMOJI),
        lambda: "e" + "\u0301\u0323" * length,
        lambda: "\ufeff\u200d\u202e\u2028"[: length % 4 + 1],
        lambda: generator.randbytes(length).decode(errors="replace"),
    ]
    return generator.choice(kinds)()


def megabyte_documents() -> dict[str, str]:
    generator = random.Random(0)
    words = [
        "".join(generator.choices("etaoinshrdlu", k=generator.randint(1, 9))) for _ in range(5000)
    ]
    return {
        "words": " ".join(generator.choices(words, k=170_000)),
        "one letter": "a" * 1_000_000,
        "white space": "".join(generator.choices(WHITE_SPACE, k=400_000)),
        "white space, then a word": " " * 1_000_000 + "word",
        "digits": "".join(generator.choices("0123456789", k=1_000_000)),
        "emoji": "🎉" * 250_000,
        "bytes": generator.randbytes(400_000).decode(errors="replace"),
    }


@pytest.mark.parametrize("condition", CONDITIONS)
def test_all_faces_encode_thousands_of_fuzzed_documents_alike(faces, condition):
    ours, loaded, raw = faces[condition]
    texts = [*AWKWARD, *fuzzed_documents(seed=CONDITIONS.index(condition), count=2500)]
    expected = [ours.encode_text(text) for text in texts]
    assert [encoding.ids for encoding in raw.encode_batch(texts)] == expected
    assert loaded(texts, verbose=False)["input_ids"] == expected
    assert [loaded.encode(text) for text in texts[:500]] == expected[:500]
    assert all(token < ours.end_of_text for tokens in expected for token in tokens)
    assert [ours.decode(tokens) for tokens in expected] == texts


@pytest.mark.parametrize("name", megabyte_documents())
def test_all_faces_encode_a_megabyte_of_one_kind_alike(faces, name):
    text = megabyte_documents()[name]
    for condition, face in (
        ((512, "mul_tokens"), 2),
        ((50256, "baseline"), 1),
        ((512, "digits"), 2),
    ):
        encoding = faces[condition][face].encode(text)
        assert (encoding if face == 1 else encoding.ids) == faces[condition][0].encode_text(text)
