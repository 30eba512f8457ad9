"""Arithmetic drills: true statements of 45 products in many forms, some held out from training.

A form is a way to state a product. `group_of` alone decides what is held out: a fifth of the facts
in every form (the same fifth in all forms with an equation), and a few forms entirely. Training
drills state only what is not held out, validation drills only what is. The probes ask for both.
"""

import random
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

GROUPS = ("seen", "held_out_pair", "held_out_form")

# At least and at most.
_STATEMENTS_PER_DOCUMENT = (6, 14)
_DIGITS = range(1, 10)
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


class Form(NamedTuple):
    """One way to state a × b = p.

    In `template`, {a} is a number in digits, {a:w} and {a:W} in words (`six`, `Six`), and
    {a:row|rows} the word that agrees with it. The answer is {p}, or the text in brackets. With
    a = 6 and b = 9, `{a:W} times {b:w}, in figures: [{a} × {b} = {p}].` becomes

        prompt `Six times nine, in figures:`   answer ` 6 × 9 = 54`   rest `.`
    """

    name: str
    template: str
    held_out: bool = False

    @property
    def asks(self) -> bool:
        """Return whether both factors stand before the answer, so that the prompt determines it."""
        prompt = self.template[: _answer(self).start()]
        return "{a" in prompt and "{b" in prompt


# A form's place decides what is held out, so add new forms at the end. model/tokens/facts.py
# recognizes these signs as expressions.
FORMS = (
    # The product is part of what becomes a token.
    Form("times_sign", "{a} × {b} = {p}."),
    Form("times_sign_close", "{a}×{b}={p}."),
    Form("star", "{a} * {b} = {p}."),
    Form("star_close", "{a}*{b}={p}."),
    Form("letter", "{a} x {b} = {p}."),
    Form("dot", "{a} · {b} = {p}."),
    Form("dot_close", "{a}·{b} = {p}."),
    Form("we_know", "We know that {a} × {b} = {p}."),
    Form("it_is_true", "It is true that {a} x {b} = {p}, and easy to check."),
    Form("remember", "Remember: {a}*{b} = {p}!"),
    Form("on_the_board", "{name} wrote {a} · {b} = {p} on the board."),
    Form("from_the_table", "From the table we take {a} * {b} = {p}.", held_out=True),
    # The factors become a token, the product stays text.
    Form("what_is", "What is {a} × {b}? It is {p}."),
    Form("star_is", "{a} * {b} is {p}."),
    Form("how_much", "How much is {a} x {b}? The answer is {p}."),
    Form("dot_equals", "{a} · {b} equals {p}."),
    Form("works_out", "{name} works out {a}×{b} and gets {p}."),
    Form("value_of", "The value of {a}·{b} is {p}."),
    Form("question_answer", "Q: {a}*{b}? A: {p}."),
    Form("is_expression", "{p} is {a} × {b}."),
    Form("counting", "Counting {a} × {b} gives {p}.", held_out=True),
    # Words, and the equation that says the same: the answer can be a token.
    Form("in_figures", "{a:W} times {b:w}, in figures: [{a} × {b} = {p}]."),
    Form("is_written", "The product of {a:w} and {b:w} is written [{a} * {b} = {p}]."),
    Form("rows_counted",
         "To count {a} {a:row|rows} of {b} {b:{seat}}, we write [{a} x {b} = {p}]."),
    Form("in_signs", "In signs, {a:w} times {b:w} reads [{a} · {b} = {p}].", held_out=True),
    # Words.
    Form("words_times_is", "{a:W} times {b:w} is {p:w}."),
    Form("words_times_equals", "{a:W} times {b:w} equals {p:w}.", held_out=True),
    Form("times_is", "{a} times {b} is {p}."),
    Form("words_multiplied_by", "{a:W} multiplied by {b:w} gives {p}."),
    Form("if_you_multiply", "If you multiply {a} by {b}, you get {p}."),
    Form("product_of", "The product of {a} and {b} is {p}."),
    Form("words_product_of", "The product of {a:w} and {b:w} is {p:w}."),
    Form("words_multiplying", "Multiplying {a:w} by {b:w} makes {p:w}.", held_out=True),
    Form("words_groups", "{a:W} {a:group|groups} of {b:w} {a:makes|make} {p:w}."),
    Form("words_taken", "{b:W}, taken {a:w} {a:time|times}, is {p:w}."),
    Form("is_product_of", "{p} is the product of {a} and {b}."),
    # Word problems.
    Form("rows", "{a} {a:row|rows} of {b} {b:{seat}} {a:makes|make} {p} {p:{seat}}."),
    Form("container",
         "A {one:{container}} holds {b} {b:{thing}}, so {a} {a:{container}} {a:holds|hold} {p} "
         "{p:{thing}}."),
    Form("price",
         "A {one:{thing}} costs {b} {b:dollar|dollars}, so {a} {a:{thing}} {a:costs|cost} {p} "
         "{p:dollar|dollars}."),
    Form("pages_a_day",
         "{name} reads {b} {b:page|pages} a day. In {a} {a:day|days} that is {p} {p:page|pages}."),
    Form("teams",
         "A team has {b} {b:player|players}, so {a} {a:team|teams} {a:has|have} {p} "
         "{p:player|players}."),
    Form("weeks",
         "With {b} {b:lesson|lessons} a week, {a} {a:week|weeks} {a:brings|bring} {p} "
         "{p:lesson|lessons}."),
    Form("words_shelves",
         "{a:W} {a:shelf|shelves} with {b:w} {b:book|books}{a:| each} {a:carries|carry} {p:w} "
         "{p:book|books}."),
    Form("pays",
         "A ticket is {b} {b:dollar|dollars}. For {a} {a:ticket|tickets} {name} pays {p} "
         "{p:dollar|dollars}."),
    Form("hours_a_week",
         "{name} trains {b} {b:hour|hours} a week, which is {p} {p:hour|hours} in {a} "
         "{a:week|weeks}."),
    Form("fill", "{p} {p:{thing}} {p:fills|fill} {a} {a:{container}} of {b}."),
    Form("beds",
         "A garden with {a} {a:bed|beds} of {b} {b:{flower}} has {p} {p:{flower}}.", held_out=True),
    Form("words_tables",
         "{a:W} {a:table|tables} for {b:w} {b:guest|guests}{a:| each} {a:seats|seat} "
         "{p:w}.", held_out=True),
)  # fmt: skip
# Forms with a × b = p in signs, and where a form's answer stands.
_EQUATION = re.compile(r"\{a\}[^{]*\{b\}[^{]*=[^{]*\{p\}")
_ANSWER = re.compile(r"\[(?P<enclosed>.*)\]|\{p(?::w)?\}")
_WORDS = {
    "name": (
        "Anna",
        "Ben",
        "Clara",
        "David",
        "Emma",
        "Frank",
        "Grace",
        "Jack",
        "Mary",
        "Paul",
        "Rosa",
        "Tom",
    ),
    "thing": (
        "ball|balls",
        "book|books",
        "card|cards",
        "cup|cups",
        "pen|pens",
        "plum|plums",
        "shell|shells",
        "toy|toys",
    ),
    "container": ("bag|bags", "basket|baskets", "box|boxes", "crate|crates", "jar|jars"),
    "seat": ("bench|benches", "chair|chairs", "desk|desks", "seat|seats", "stool|stools"),
    "flower": ("daisy|daisies", "lily|lilies", "rose|roses", "tulip|tulips"),
}


class Statement(NamedTuple):
    """A statement: before the answer, the answer with its leading space, and the rest."""

    prompt: str
    answer: str
    rest: str

    @property
    def text(self) -> str:
        return self.prompt + self.answer + self.rest


class _Number(int):
    """A number for `str.format`: in digits, in words, or as a word that agrees with it.

    For 6: `{:}` is 6, `{:w}` six, `{:W}` Six, and `{:row|rows}` rows.
    """

    def __format__(self, spec: str) -> str:
        if "|" in spec:
            return spec.split("|")[self != 1]
        return {"": str(int(self)), "w": in_words(self), "W": in_words(self).capitalize()}[spec]


def in_words(number: int) -> str:
    """Return 0 to 99 in English words: `fifty-four`."""
    if number < len(_UNITS):
        return _UNITS[number]
    tens, units = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_UNITS[units]}" if units else "")


def group_of(a: int, b: int, form: Form) -> str:
    """Return which of GROUPS the fact a × b belongs to in this form; b × a has the same group."""
    if form.held_out:
        return "held_out_form"
    low, high = sorted((a, b))
    # A Latin square modulo 5: for each `high`, the held-out `low` moves by one from form to form.
    # A form of place 0 holds out 3 × 9 and 8 × 9, since 3 + 27 = 30 and 8 + 27 = 35.
    return "held_out_pair" if (low + 3 * high + _number(form)) % 5 == 0 else "seen"


@cache
def _number(form: Form) -> int:
    """Return the form's place; forms with an equation all have the place of the first of them.

    They must hold out the same facts: `We know that 6 × 9 = 54` also states `6 × 9 = 54`, and in
    conditions with fact tokens `6*9=54` is the same token.
    """
    same = (
        [other for other in FORMS if _EQUATION.search(other.template)]
        if _EQUATION.search(form.template)
        else [form]
    )
    return FORMS.index(same[0])


def state(form: Form, a: int, b: int, generator: random.Random) -> Statement:
    """Return a × b stated in `form`, with names and things drawn from `generator`."""
    values: dict[str, str | int] = {slot: generator.choice(words) for slot, words in _WORDS.items()}
    values |= {"a": _Number(a), "b": _Number(b), "p": _Number(a * b), "one": _Number(1)}
    place = _answer(form)
    parts = (
        form.template[: place.start()],
        place["enclosed"] or place[0],
        form.template[place.end() :],
    )
    prompt, answer, rest = (part.format_map(values) for part in parts)
    # The space before the answer belongs to the answer, as in GPT-2's tokens.
    stripped = prompt.rstrip()
    return Statement(stripped, prompt[len(stripped) :] + answer, rest)


def _answer(form: Form) -> re.Match[str]:
    """Return where the answer stands in the form's template, of which each has one."""
    found = _ANSWER.search(form.template)
    assert found is not None
    return found


def generate_drills(split: str, seed: int, stream: int) -> Iterator[str]:
    """Yield drill documents without end for "train" or "val", of 6 to 14 true statements each.

    The documents depend on the arguments only. Streams of different numbers differ.
    """
    is_train = {"train": True, "val": False}[split]
    generator = random.Random(f"{seed}/{split}/{stream}")
    # Every form and ordered pair of factors of the split, each equally likely.
    choices = [
        (form, a, b)
        for form in FORMS
        for a in _DIGITS
        for b in _DIGITS
        if (group_of(a, b, form) == "seen") == is_train
    ]
    while True:
        count = generator.randint(*_STATEMENTS_PER_DOCUMENT)
        yield " ".join(state(*generator.choice(choices), generator).text for _ in range(count))
