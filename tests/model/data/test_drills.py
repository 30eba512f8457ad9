import random
import re
from collections import Counter
from itertools import islice

import pytest

from model.data.drills import FORMS, Form, generate_drills, group_of, in_words, state
from model.tokens.facts import MUL_FACTS, MulFact, inject

PRODUCTS = [(a, b) for a in range(1, 10) for b in range(1, 10)]
FORM_OF = {form.name: form for form in FORMS}
WORDS = {in_words(number): number for number in range(100)}
SLOTS = {"name": "[A-Z][a-z]+", "one:{thing}": "[a-z]+", "one:{container}": "[a-z]+"}


def numbers(text: str) -> list[int]:
    """The whole numbers of a statement, in digits or in words."""
    words = re.findall(r"[0-9]+|[A-Za-z]+(?:-[a-z]+)?", text)
    return [
        int(word) if word.isdigit() else WORDS[word.lower()]
        for word in words
        if word.isdigit() or word.lower() in WORDS
    ]


def without_repetition(found: list[int]) -> list[int]:
    """A statement that says its factors twice says them in the same order."""
    return found[2:] if len(found) == 5 and found[:2] == found[2:4] else found


def pattern(form: Form) -> re.Pattern:
    """What the form's statements look like, read off its template independently of how they are
    written.
    """
    parts = re.split(
        r"\{((?:[^{}]|\{\w+\})*)\}", form.template.translate({ord(mark): None for mark in "[]"})
    )
    text = ""
    for number, part in enumerate(parts):
        if number % 2 == 0:
            text += re.escape(part)
        elif re.fullmatch(r"[abp](:[wW])?", part):
            text += f"(?:{'[A-Za-z-]+' if ':' in part else '[0-9]+'})"
        elif part in SLOTS:
            text += SLOTS[part]
        else:
            words = part.partition(":")[2]
            text += "[a-z]+" if "{" in words else f"(?:{words})"
    return re.compile(text)


PATTERNS = {form.name: pattern(form) for form in FORMS}


def stated(document: str) -> list[tuple[str, MulFact]]:
    """The forms and facts of a document's statements; fails unless they are all there is in it."""
    found, end = [], 0
    while end < len(document):
        matches = [
            (name, match) for name, one in PATTERNS.items() if (match := one.match(document, end))
        ]
        # A short form can be the start of a longer one.
        name, match = max(matches, key=lambda pair: pair[1].end())
        low, high, product = sorted(without_repetition(numbers(match[0])))
        assert low * high == product, match[0]
        found.append((name, MulFact(low, high)))
        end = match.end()
        assert document[end : end + 1] in ("", " ")
        end += 1
    return found


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_statement_of_a_stream_is_true_and_of_its_split(split):
    seen = Counter()
    for document in islice(generate_drills(split, seed=3, stream=1), 3000):
        statements = stated(document)
        assert 6 <= len(statements) <= 14
        seen.update(statements)
    wanted = {
        (form.name, fact)
        for form in FORMS
        for fact in MUL_FACTS
        if (group_of(fact.a, fact.b, form) == "seen") == (split == "train")
    }
    assert set(seen) == wanted, "each split states all of its own, and nothing of the other's"


def test_no_training_statement_has_a_held_out_one_in_it():
    """`We know that 6 × 9 = 54.` has `6 × 9 = 54` in it."""
    texts = {"seen": [], "held_out_pair": [], "held_out_form": []}
    for form in FORMS:
        for a, b in PRODUCTS:
            # One generator for each: names and things are the same everywhere.
            texts[group_of(a, b, form)].append(
                state(form, a, b, random.Random(0)).text.rstrip(".!")
            )
    trained = "\n".join(texts["seen"])
    for text in texts["held_out_pair"] + texts["held_out_form"]:
        assert not re.search(rf"(?<!\d){re.escape(text)}(?!\d)", trained), text


def test_no_training_statement_is_a_held_out_one_in_the_ids_of_either_condition(
    tokenizer, baseline_tokenizer
):
    """Where facts have tokens, `6 × 9 = 54.` and `6*9 = 54.` are one."""
    for its in (tokenizer, baseline_tokenizer):
        ids = {"seen": set(), "held_out_pair": set(), "held_out_form": set()}
        for form in FORMS:
            for a, b in PRODUCTS:
                text = state(form, a, b, random.Random(0)).text
                ids[group_of(a, b, form)].add(its.encode_document(text).tokens.tobytes())
        assert not ids["seen"] & (ids["held_out_pair"] | ids["held_out_form"])


def test_every_fact_is_trained_in_most_forms_and_every_form_with_most_facts():
    trained = [form for form in FORMS if not form.held_out]
    for fact in MUL_FACTS:
        assert sum(group_of(fact.a, fact.b, form) == "seen" for form in trained) >= 0.5 * len(
            trained
        )
    for form in trained:
        assert sum(group_of(fact.a, fact.b, form) == "seen" for fact in MUL_FACTS) == 36
    assert all(group_of(a, b, form) == group_of(b, a, form) for a, b in PRODUCTS for form in FORMS)


def test_equations_words_and_word_problems_are_held_out_whole():
    held_out = {form.name for form in FORMS if form.held_out}
    assert held_out == {
        "from_the_table",
        "counting",
        "in_signs",
        "words_times_equals",
        "words_multiplying",
        "beds",
        "words_tables",
    }
    assert all(FORM_OF[name].asks for name in held_out)
    assert len(FORMS) >= 24
    assert len(FORM_OF) == len({form.template for form in FORMS}) == len(FORMS)


def test_what_is_held_out_stays_so():
    """Probes of an older network are comparable only while this rule is; a form goes by its
    place.
    """
    assert [group_of(2, 3, form) for form in FORMS[12:15]] == ["seen", "seen", "held_out_pair"]
    assert {group_of(1, 3, form) for form in FORMS if "= {p}" in form.template} == {
        "held_out_pair",
        "held_out_form",
    }
    assert group_of(6, 9, FORM_OF["words_times_is"]) == "seen"
    assert (
        group_of(8, 9, FORM_OF["words_times_is"])
        == group_of(9, 8, FORM_OF["words_times_is"])
        == "held_out_pair"
    )


def test_every_symbol_statement_holds_the_one_fact_that_injection_reads():
    generator = random.Random(0)
    written = set()
    for form in FORMS:
        symbols = re.search(r"\{a\}( ?[×*·x] ?)\{b\}", form.template)
        for a, b in PRODUCTS:
            for before, after in (("", ""), ("It is 7. ", " 5 * 5 = 25.")):
                text = state(form, a, b, generator).text
                facts = [s for s in inject(f"{before}{text}{after}") if isinstance(s, MulFact)]
                expected = [MulFact(*sorted((a, b)))] if symbols else []
                assert facts == expected + [MulFact(5, 5)] * bool(after), text
        if symbols:
            written.add(symbols[1])
    assert written == {" × ", "×", " * ", "*", " x ", " · ", "·"}


def test_streams_differ_and_each_is_always_the_same():
    def first(*arguments) -> list[str]:
        return list(islice(generate_drills(*arguments), 5))

    streams = [("train", 0, 0), ("train", 0, 1), ("train", 1, 0), ("val", 0, 0)]
    assert all(first(*stream) == first(*stream) for stream in streams)
    assert len({first(*stream)[0] for stream in streams}) == len(streams)
    with pytest.raises(KeyError):
        next(generate_drills("test", 0, 0))


@pytest.mark.parametrize(
    ("form", "a", "b", "text"),
    [
        ("rows", 1, 9, r"1 row of 9 (\w+)s makes 9 \1s\."),
        ("rows", 9, 1, r"9 rows of 1 (\w+) make 9 \1(e?)s\."),
        ("rows", 1, 1, r"1 row of 1 (\w+) makes 1 \1\."),
        ("container", 1, 1, r"A (\w+) holds 1 (\w+), so 1 \1 holds 1 \2\."),
        ("container", 2, 3, r"A (\w+) holds 3 (\w+)s, so 2 \1(e?)s hold 6 \2s\."),
        ("price", 1, 7, r"A (\w+) costs 7 dollars, so 1 \1 costs 7 dollars\."),
        ("price", 7, 1, r"A (\w+) costs 1 dollar, so 7 \1s cost 7 dollars\."),
        ("pages_a_day", 1, 7, r"\w+ reads 7 pages a day\. In 1 day that is 7 pages\."),
        ("weeks", 1, 7, r"With 7 lessons a week, 1 week brings 7 lessons\."),
        ("words_shelves", 1, 2, r"One shelf with two books carries two books\."),
        ("words_shelves", 2, 1, r"Two shelves with one book each carry two books\."),
        ("words_groups", 1, 9, r"One group of nine makes nine\."),
        ("words_taken", 1, 9, r"Nine, taken one time, is nine\."),
        ("fill", 1, 1, r"1 (\w+) fills 1 (\w+) of 1\."),
        ("beds", 1, 1, r"A garden with 1 bed of 1 (\w+) has 1 \1\."),
    ],
)
def test_one_is_singular(form, a, b, text):
    for seed in range(20):
        stated = state(FORM_OF[form], a, b, random.Random(seed)).text
        assert re.fullmatch(text, stated), stated


def test_no_statement_has_a_plural_after_one_or_a_singular_after_more():
    generator = random.Random(0)
    for form in FORMS:
        for a, b in PRODUCTS:
            text = state(form, a, b, generator).text
            plurals = set(re.findall(r"(?<![\w-])(?:1|[Oo]ne) ([a-z]+s)\b", text))
            assert plurals <= {"is", "times", "equals", "gives", "makes", "finds", "reads"}, text
            for word in re.findall(r"\b(?:[2-9]|[1-9][0-9]) ([a-z]+)\b", text):
                assert word.endswith("s") or word in ("x", "by", "and", "in", "on"), text


def test_a_prompt_and_its_answer_make_the_statement():
    generator = random.Random(0)
    for form in FORMS:
        for a, b in PRODUCTS:
            statement = state(form, a, b, generator)
            assert statement.prompt == statement.prompt.rstrip()
            assert numbers(statement.answer) in ([a * b], [a, b, a * b])
            assert form.asks == (len(numbers(statement.prompt)) == 2)
    assert not FORM_OF["is_product_of"].asks
    assert not FORM_OF["hours_a_week"].asks
