"""Text in records from outside: its visible form, and the checks of strings that are no text."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from model.text.characters import composed, is_control

# Letters, symbols and marks without a visible form: fillers of Hangul and Khmer, Braille's empty
# cell, Mongolian and other variation selectors.
_BLANKS = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def visible(text: str) -> str:
    """Return `text` as a reader sees it.

    The result is composed (NFC) and has no invisible characters, and each run of white space is one
    space. So `a\\u200bb  c` becomes `ab c`.
    """
    if not (text.isascii() and text.isprintable()):
        kept = (each for each in composed(text) if each.isspace() or not _is_invisible(each))
        text = "".join(kept)
    return " ".join(text.split())


def has_text(text: str) -> bool:
    """Return whether `text` has a visible character."""
    return any(not each.isspace() and not _is_invisible(each) for each in text)


def whole_text(text: str) -> str:
    """Return `text`; raise ValueError if it has half a surrogate pair.

    JSON can write one (`\\ud83d`), but UTF-8 cannot.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x} at character {error.start}"
        raise ValueError(f"has half a surrogate pair, {half}; repair the file") from None
    return text


def _whole(value: object) -> object:
    return whole_text(value) if isinstance(value, str) else value


def _seen(text: str) -> str:
    if not has_text(text):
        raise ValueError("has no text")
    return text


def _is_invisible(character: str) -> bool:
    return character in _BLANKS or is_control(character)


# Any text without half surrogate pairs; and text that also has a visible character.
Text = Annotated[str, BeforeValidator(_whole)]
VisibleText = Annotated[str, BeforeValidator(_whole), AfterValidator(_seen)]
