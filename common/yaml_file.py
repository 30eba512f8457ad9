"""Read YAML files as DVC reads them, and raise an error where other readers would differ.

DVC reads YAML 1.2, most other programs YAML 1.1. A few plain scalars differ:

    text     YAML 1.2    YAML 1.1    here
    010      10          8           error
    1_000    1000        1000        error
    off      text        false       text, as for DVC

All code of this project uses `load`, which returns what DVC reads. It raises an error for numbers
that are not plain decimals, dates, duplicate keys, tags, directives and merge keys.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from common.errors import PipelineError, printable

# CSafeLoader needs libyaml. SafeLoader gives the same events and takes ten times as long.
_Parser: type[yaml.CSafeLoader | yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Nested collections; the deepest of this project's files has 8.
_DEEPEST = 100
# Values after aliases are replaced. Aliases of aliases could make a small file grow without limit.
_MOST_NODES = 1_000_000
# Digits of a number; Python converts no more.
_LONGEST_NUMBER = 4300
# Characters of a value, and of a dotted key, that a message shows. For a longer key it names the
# line.
_LONGEST_SHOWN = 80
_LONGEST_PLACE = 120

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# Numbers with the same value for all readers.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[-+]?[0-9]+(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|[-+]?\.[0-9]+([eE][-+][0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
# Other texts that DVC reads as a number (0x1F, 1_000, 010), and those that it reads as a date.
_ODD_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)|[-+][0-9_]+")
_ODD_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.[0-9_]+([eE][-+][0-9]+)?)"
)
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?([ "
    r"\t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?"
)
_FIRST_OF_NUMBER = frozenset("-+.0123456789")
# Tabs and line breaks that only some readers accept, byte-order marks, lone surrogates, control
# characters.
_NO_TEXT = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]"
)


class YamlFault(PipelineError, yaml.YAMLError):
    """A YAML file that readers could read differently, or not at all.

    The message names the file and the key or line.
    """


def read_yaml(path: Path) -> Any:
    """Return the value in the YAML file `path`.

    Raises YamlFault if `load` does, or if the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise YamlFault(f"{path}: cannot be read ({error.strerror or error})") from None
    return load(content, str(path))


def load(content: bytes, name: str) -> Any:
    """Return the value of one YAML document.

    It consists of dicts with text keys, lists, text, int, float, bool and None. Raises YamlFault
    with one line: the file's `name`, the key or line, and what is wrong there.
    """
    text = _decoded(content, name)
    try:
        return _Composer(text, name).document()
    except YamlFault:
        raise
    except yaml.YAMLError as error:
        raise YamlFault(_syntax_fault(error, text, name)) from None


def plain_value(text: str) -> Any:
    """Return the value of the plain scalar `text`: None, a bool, an int, a float, or text.

    Raises ValueError with the reason if readers disagree about its meaning.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text == "<<":
        raise ValueError("merge keys (<<) are not read; write the keys out")
    if text == "=":
        raise ValueError("= has a meaning of its own in YAML; put it in quotes")
    if text[0] not in _FIRST_OF_NUMBER:
        return text
    if len(text) > _LONGEST_NUMBER and (_INTEGER.fullmatch(text) or _ODD_INTEGER.fullmatch(text)):
        raise ValueError(
            f"a number of {len(text)} digits; the longest that can be read has {_LONGEST_NUMBER}"
        )
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        # Python writes "inf" and "nan", YAML ".inf" and ".nan".
        return float(text if text[-1] not in "fFnN" else text.replace(".", ""))
    if _ODD_INTEGER.fullmatch(text) or _ODD_FLOAT.fullmatch(text):
        raise ValueError(_two_readings(text))
    if _DATE.fullmatch(text):
        raise ValueError(
            f"{text} is a date in YAML 1.2 (DVC) and in YAML 1.1; put it in quotes if text is meant"
        )
    return text


def old_reading(text: str) -> Any:
    """Return the value of the plain scalar `text` in YAML 1.1, `text` itself if it is text."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return text


def shown(value: Any) -> str:
    """Return `value` for a message, as YAML writes it, cut to 80 characters: 'text', null, true."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # Python does not write numbers of more than 4300 digits
        text = "a very long number"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _two_readings(text: str) -> str:
    """Return the message for a number such as 010: both readings, and what to write instead."""
    new, old = _dvc_number(text), old_reading(text)
    readings = [
        f"{shown(new)} in YAML 1.2 (DVC)",
        f"{'the text ' if isinstance(old, str) else ''}{shown(old)} in YAML 1.1",
    ]
    choices = [
        shown(each)
        for each in dict.fromkeys([new, old])
        if each is not None and not isinstance(each, str)
    ]
    advice = f"write {' or '.join(choices)}" if choices else "write a decimal number"
    quoted = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
    return f"{quoted} is {' and '.join(readings)}; {advice}"


def _dvc_number(text: str) -> int | float | None:
    """Return the number that DVC reads in a plain scalar that is not a plain decimal number.

    0x1F is 31, 1_000 is 1000, 010 is 10. None if DVC reads no number.
    """
    digits = text.replace("_", "")
    try:
        if not _ODD_INTEGER.fullmatch(text):
            return float(digits)
        sign = -1 if digits[0] == "-" else 1
        digits = digits.lstrip("+-")
        base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2])
        return sign * (int(digits[2:], base) if base else int(digits))
    except ValueError:
        return None


class _Composer:
    """Builds a value from the parser's events, and keeps the key at which it is, for messages.

    `a: [1, 2]` has the events stream start, document start, mapping start, scalar a, sequence
    start, scalar 1, scalar 2, sequence end, mapping end, document end, stream end. Building from
    events, not with PyYAML's constructors, finds duplicate keys and creates no objects.
    """

    def __init__(self, text: str, name: str):
        self._name = name
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Parser)
        # The keys and indices that lead to the value being read.
        self._place: list[str] = []
        # By anchor: its value and its number of nodes.
        self._anchors: dict[str, tuple[Any, int]] = {}
        # Anchors of the collections that are being read: an alias to one would be a cycle.
        self._open: set[str] = set()
        # Values so far, those of aliases included.
        self._nodes = 0
        # Collections in brackets, [] or {}, around the value being read.
        self._flows = 0

    def document(self) -> Any:
        """Return the file's only document, None if it is empty."""
        next(self._events)  # the stream's start
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            return None
        assert isinstance(start, yaml.DocumentStartEvent)  # nothing else begins a document
        if start.version or start.tags:
            self._refuse("directives (%YAML, %TAG) change how a file is read; remove them", start)
        value = self._node(next(self._events))
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse("a second document begins (---); keep one", after)
        return value

    def _node(self, event: yaml.Event) -> Any:
        """Return the value that begins with `event`, and consume its events."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        # Nothing else begins a value.
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            self._refuse(
                f"has the tag {event.tag.replace('tag:yaml.org,2002:', '!!')}; remove it", event
            )
        anchor = event.anchor
        if anchor is not None:
            if anchor in self._anchors or anchor in self._open:
                self._refuse(f"the anchor &{anchor} is defined twice; rename one", event)
            self._open.add(anchor)
        before = self._nodes
        self._count(1, event)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            if len(self._place) >= _DEEPEST:
                self._refuse(f"nested more than {_DEEPEST} deep", event)
            self._flows += bool(event.flow_style)
            value = (
                self._mapping() if isinstance(event, yaml.MappingStartEvent) else self._sequence()
            )
            self._flows -= bool(event.flow_style)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = value, self._nodes - before
        return value

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        """Return a scalar's value; raise YamlFault if readers disagree about it."""
        if not event.implicit[0]:  # in quotes, or a block
            return event.value
        # `{a:b}` is the text "a:b" for some readers and a mapping for others.
        if {":", "?"} & set(
            event.value if self._flows else event.value[:1] if event.anchor else ""
        ):
            self._refuse(
                f"readers disagree about the colon or question mark in {shown(event.value)}; put "
                "it in quotes",
                event,
            )
        try:
            return plain_value(event.value)
        except ValueError as error:
            self._refuse(str(error), event)

    def _alias(self, event: yaml.AliasEvent) -> Any:
        """Return the value of `*anchor`; raise YamlFault if it is missing or contains the alias."""
        assert event.anchor is not None  # an alias is the name of an anchor
        if event.anchor in self._open:
            self._refuse(
                f"*{event.anchor} is inside the value that it stands for; write the value out",
                event,
            )
        if event.anchor not in self._anchors:
            self._refuse(
                f"*{event.anchor} has no anchor &{event.anchor} before it; write the value out",
                event,
            )
        value, nodes = self._anchors[event.anchor]
        self._count(nodes, event)
        return value

    def _count(self, nodes: int, event: yaml.Event) -> None:
        # An alias counts as many values as its anchor has.
        self._nodes += nodes
        if self._nodes > _MOST_NODES:
            self._refuse(f"more than {_MOST_NODES:,} values; write out fewer aliases", event)

    def _sequence(self) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._place.append(str(len(values)))
            values.append(self._node(event))
            self._place.pop()
        return values

    def _mapping(self) -> dict[str, Any]:
        """Return a mapping; raise YamlFault for a duplicate key or a key that is not text."""
        values: dict[str, Any] = {}
        # The line of each key so far, for the message about a duplicate.
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            self._place.append(key)
            line = _line_of(event)
            if key in lines:
                where = f"lines {lines[key]} and {line}" if line != lines[key] else f"line {line}"
                self._refuse(f"given twice, on {where}; keep one", event)
            lines[key] = line
            values[key] = self._node(next(self._events))
            self._place.pop()
        return values

    def _key(self, event: yaml.Event) -> str:
        key = self._node(event)
        if isinstance(key, dict | list):
            self._refuse("a list or a mapping as a key; keys are text", event)
        if not isinstance(key, str):
            self._refuse(f"the key {shown(key)} is not text; put it in quotes", event)
        return key

    def _refuse(self, reason: str, event: yaml.Event) -> NoReturn:
        """Raise YamlFault with `reason` and the dotted key, or the line if the key is too long."""
        where = ".".join(map(printable, self._place))
        if not 0 < len(where) <= _LONGEST_PLACE:
            where = f"line {_line_of(event)}"
        raise YamlFault(f"{self._name}: {where}: {printable(reason)}")


def _line_of(event: yaml.Event) -> int:
    """Return the line of `event`, counted from 1."""
    assert event.start_mark is not None  # the parser gives each event its place
    return event.start_mark.line + 1


def _decoded(content: bytes, name: str) -> str:
    """Return the text of a file; raise YamlFault if it is not UTF-8 or has odd characters."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlFault(f"{name}: is UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"the byte 0x{content[error.start]:02x}"
        raise YamlFault(
            f"{name}: line {line}: {byte} is not UTF-8 text; save the file as UTF-8"
        ) from None
    # DVC opens the file as text, which converts line ends.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = _NO_TEXT.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        problem = f"the character U+{ord(found[0]):04X} has no place in YAML text; remove it"
        if found[0] == "\t":
            problem = 'a tab, which not every reader takes; write spaces, and "\\t" in text'
        raise YamlFault(f"{name}: line {line}: {problem}")
    return text


def _syntax_fault(error: yaml.YAMLError, text: str, name: str) -> str:
    """Return the parser's error as one line that names the file and the line."""
    mark = getattr(error, "problem_mark", None)
    problem = printable(getattr(error, "problem", None) or " ".join(str(error).split()))
    last = text.rstrip("\n").count("\n")  # the end of a file is on no line
    place = f" at line {min(mark.line, last) + 1}" if mark else ""
    return f"{name}: not valid YAML{place}: {problem}"
