import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.record_text import has_text, visible, whole_text

BLANK = [
    "",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\x0b\x0c",
    "\x1c",
    "\x85",
    "\xa0",
    "\u1680",
    "\u2003",
    "\u2028",
    "\u2029",
    "\u202f",
    "\u205f",
    "\u3000",
    "\u200b",
    "\u200c",
    "\u200d",
    "\u200e",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\u061c",
    "\u2066",
    "\u180e",
    "\0",
    "\x1b",
    "\x7f",
    "\u115f",
    "\u1160",
    "\u3164",
    "\uffa0",
    "\u2800",
    "\ufe0f",
    "\U000e0100",
    "\U000e0020",
    "\u034f",
    "\ud83d",
]
SEEN = [
    ".",
    "0",
    "a",
    "é",
    "e\u0301",
    "٣",
    "你",
    "👍",
    "\U0001fae8",
    "½",
    "€",
    "^",
    "\ufffd",
    "-",
    "\u200bx",
    " \u3164 _",
]


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_what_draws_nothing_is_no_text(text):
    assert not has_text(text)
    assert not has_text(f" {text}\u200b{text}\n")
    assert visible(f"{text} {text}") == ""
    assert has_text(f"{text}a{text}")


@pytest.mark.parametrize("text", SEEN, ids=ascii)
def test_whatever_draws_something_is_text(text):
    assert has_text(text)
    assert visible(text)


@given(st.text())
def test_what_is_visible_is_text_and_has_no_other_form(text):
    assert bool(visible(text)) == has_text(text)
    assert visible(visible(text)) == visible(text)
    assert visible(f" {text}\n") == visible(text)
    assert visible(unicodedata.normalize("NFD", text)) == visible(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a b", " a\xa0 b\n"),
        ("ab", "a\u200bb"),
        ("café", "cafe\u0301"),
        ("a", "a\ufeff"),
        ("a\tb", "a b"),
        ("co\u00adop", "coop"),
    ],
)
def test_texts_that_look_alike_are_the_same(one, other):
    assert visible(one) == visible(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a b", "ab"), ("A", "a"), ("x²", "x2"), ("a.", "a"), ("-5", "−5")]
)
def test_texts_that_look_different_are_not(one, other):
    assert visible(one) != visible(other)


@pytest.mark.parametrize("text", ["a \\ud83d", "\\udc00", "\\ude00\\ud83d", "x\\ud83dx"])
def test_half_a_surrogate_pair_is_no_text(text):
    with pytest.raises(
        ValueError,
        match=r"^has half a surrogate pair, \\ud[0-9a-f]{3} at character [0-9]; repair the file$",
    ):
        whole_text(json.loads(f'"{text}"'))


def test_a_whole_pair_is_text():
    assert whole_text(json.loads('"a \\ud83d\\ude00"')) == "a 😀"
