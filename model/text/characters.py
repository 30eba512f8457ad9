r"""Properties of characters by Unicode 14, the tables of Python 3.11, on every Python.

Newer Pythons have newer tables (3.12: Unicode 15.0, 3.13: 15.1, 3.14: 16.0), and `\w`, `str.lower`
and `unicodedata` follow them. Text with a character younger than Unicode 14 would then give other
results on another Python. Here such a character has no properties, as on Python 3.11. It is not a
letter or a digit, has no case, and does not combine with others.

`\s`, `str.isspace`, `str.split` and `str.strip` need no care: all tables have the same white space.
"""

import re
import unicodedata

# Ranges of code points that Unicode 15.0, 15.1 and 16.0 added.
_ADDED = """
0897 0cf3 0ece 1b4e-1b4f 1b7f 1c89-1c8a 2427-2429 2ffc-2fff 31e4-31e5 31ef a7cb-a7cd
a7da-a7dc 105c0-105f3 10d40-10d65 10d69-10d85 10d8e-10d8f 10ec2-10ec4 10efc-10eff
1123f-11241 11380-11389 1138b 1138e 11390-113b5 113b7-113c0 113c2 113c5 113c7-113ca
113cc-113d5 113d7-113d8 113e1-113e2 116d0-116e3 11b00-11b09 11bc0-11be1 11bf0-11bf9
11f00-11f10 11f12-11f3a 11f3e-11f5a 1342f 13439-13455 13460-143fa 16100-16139 16d40-16d79
18cff 1b132 1b155 1cc00-1ccf9 1cd00-1ceb3 1d2c0-1d2d3 1df25-1df2a 1e030-1e06d 1e08f
1e4d0-1e4f9 1e5d0-1e5fa 1e5ff 1f6dc 1f774-1f776 1f77b-1f77f 1f7d9 1f8b2-1f8bb 1f8c0-1f8c1
1fa75-1fa77 1fa87-1fa89 1fa8f 1faad-1faaf 1fabb-1fabf 1fac6 1face-1facf 1fada-1fadc 1fadf
1fae8-1fae9 1faf7-1faf8 1fbcb-1fbef 2b739 2ebf0-2ee5d 31350-323af
"""
_RANGES = [each.partition("-") for each in _ADDED.split()]
_YOUNGER = re.compile(
    "([{}])".format("".join(f"{chr(int(a, 16))}-{chr(int(b or a, 16))}" for a, _, b in _RANGES))
)
# U+FFFF is a noncharacter in every version: no letter, no digit, no case.
_NO_CHARACTER = "\uffff"
# These lower-case letters have an upper case only since Unicode 16.
_WITHOUT_UPPER_CASE = ("\u019b", "\u0264")


def settled(text: str) -> str:
    r"""Return `text` with U+FFFF for each character that is younger than Unicode 14.

    Its length and the places in it stay the same. On the result, `\w`, `\d`, `str.lower` and
    `str.isprintable` agree on every Python. `str.upper` does not: see `capitalized`.
    """
    return text if text.isascii() else _YOUNGER.sub(_NO_CHARACTER, text)


def capitalized(text: str) -> str:
    """Return `str.capitalize` of `text` as Python 3.11 computes it."""
    # The pattern has a group, so `split` also returns the younger characters, which stay.
    first, *others = _YOUNGER.split(text)
    head = first[:1] if first.startswith(_WITHOUT_UPPER_CASE) else first[:1].capitalize()
    return (
        head
        + first[1:].lower()
        + "".join(each if _YOUNGER.fullmatch(each) else each.lower() for each in others)
    )


def composed(text: str) -> str:
    """Return `text` in Unicode's normal form C, as Python 3.11 computes it."""
    # Younger characters split the text, so they cannot combine with their neighbours.
    return "".join(unicodedata.normalize("NFC", each) for each in _YOUNGER.split(text))


def is_control(character: str) -> bool:
    """Return whether a character is of Unicode's category Cc, Cf or Cs.

    These are controls, formats (zero width, direction, soft hyphen) and half surrogate pairs.
    """
    return unicodedata.category(settled(character)) in ("Cc", "Cf", "Cs")
