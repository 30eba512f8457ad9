"""Read tqdm's progress bars back from the text that tqdm prints."""

import re
from typing import NamedTuple

from pipeline.driver.place import Progress

LONGEST = 2000  # characters; tqdm cuts a bar at the terminal's width

_CLOCK = r"-?(?:\d+:)?\d\d:\d\d"
# " [00:40<00:50, 32.10step/s, loss 4.123]"; tqdm cuts the end if it is wider than the terminal.
_BRACKET = re.compile(
    rf" \[(?P<elapsed>{_CLOCK})(?:<(?P<left>{_CLOCK}|\?))?, *(?P<rate>[^,\[\]]*)"
    r"(?:, (?P<said>(?:[^\[\]]|\[[^\[\]]*\])*))?(?:\]|$)"
)
_NUMBER = r"-?\d+(?:\.\d*)?(?:e[+-]?\d+)?"
_SCALES = "kMGTPEZY"
# "pretrain baseline:  45%|███▌      | 1440/3200"
_OF_TOTAL = re.compile(
    r"(?P<label>.*?):? *(?:\d+%(?:\|[^|]*\|)?)? *"
    rf"(?P<done>{_NUMBER})(?P<scale>[{_SCALES}]?)/(?P<total>{_NUMBER}|\?)(?P<of>[{_SCALES}]?)"
)
# "pretrain baseline: 1440step"
_COUNTED = re.compile(rf"(?:(?P<label>.*): )?(?P<done>{_NUMBER})(?P<unit>[^\d\s.].*)?")
# "32.10step/s", " 1.44s/step", "?step/s", "1.20MB/s"
_RATE = re.compile(
    rf" *(?:{_NUMBER}s/(?P<seconds_each>.*)"
    rf"|(?:\?|{_NUMBER})(?P<scale>[{_SCALES}]?)(?P<each_second>.*)/s) *"
)


class Bar(NamedTuple):
    """A bar, and other text that was printed after it in the same line."""

    progress: Progress
    behind: str


def read_bar(line: str) -> Bar | None:
    """Return the bar at the beginning of a line; None if there is none.

    A count that tqdm has rounded stays rounded: `1.44k` is 1440.
    """
    if len(line) > LONGEST or not (bracket := _BRACKET.search(line)):
        return None
    if not (rate := _RATE.fullmatch(bracket["rate"])):
        return None
    head, left = line[: bracket.start()], bracket["left"]
    counts = _of_total(head, rate) or _counted(head, rate)
    if not counts:
        return None
    progress = Progress(
        *counts,
        said=(bracket["said"] or "").strip(),
        seconds_left=None if left in (None, "?") else max(0.0, _seconds(left)),
    )
    return Bar(progress, line[bracket.end() :].lstrip(" "))


def _of_total(head: str, rate: re.Match[str]) -> tuple[str, int, int | None, str] | None:
    """Return label, done, total and unit of a bar that has a total."""
    if not (found := _OF_TOTAL.fullmatch(head)):
        return None
    total = None if found["total"] == "?" else _number(found["total"], found["of"])
    unit = _unit(rate, scaled=bool(found["scale"] or found["of"]))
    return found["label"].strip(), _number(found["done"], found["scale"]), total, unit


def _counted(head: str, rate: re.Match[str]) -> tuple[str, int, None, str] | None:
    """Return label, done, None and unit of a bar without a total.

    Its count has a point only if tqdm has scaled it; then k or M may stand before the unit.
    """
    if not (found := _COUNTED.fullmatch(head)):
        return None
    unit = _unit(rate, scaled="." in found["done"])
    if not (found["unit"] or "").endswith(unit):
        return None
    scale = (found["unit"] or "").removesuffix(unit).strip()
    if scale and scale not in _SCALES:
        return None
    return (found["label"] or "").strip(), _number(found["done"], scale), None, unit


def _number(digits: str, scale: str) -> int:
    thousands = _SCALES.index(scale) + 1 if scale else 0
    return round(float(digits) * 10.0 ** (3 * thousands))


def _unit(rate: re.Match[str], scaled: bool) -> str:
    unit: str = rate["seconds_each"] or rate["each_second"] or ""
    return (unit if scaled else (rate["scale"] or "") + unit).strip()


def _seconds(clock: str) -> float:
    """Return the seconds of `1:02:03` or `02:03`."""
    total = 0
    for part in clock.lstrip("-").split(":"):
        total = total * 60 + int(part)
    return -total if clock.startswith("-") else total
