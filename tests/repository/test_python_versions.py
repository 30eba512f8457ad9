"""What differs between versions of Python does not reach a result: Unicode's tables, and sum."""

import ast
import hashlib
import re
from pathlib import Path

import pytest
from repository import REPOSITORY

from model.text.characters import capitalized, composed, is_control, settled

CODE = ("common", "model", "stages")
# Methods of text that follow Unicode's tables. White space is the same in all of them.
METHODS = {
    *("capitalize", "casefold", "lower", "swapcase", "title", "upper"),
    *("isalnum", "isalpha", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric"),
    *("isprintable", "istitle", "isupper"),
}
CLASSES = re.compile(r"\\[wWdDbB]")
NAMES = "names of this repository's own, in ASCII"
SETTLED = "of settled text"
COUNTS = "adds whole numbers"
FIXED = {
    "common/errors.py": {"isprintable": "messages"},
    "model/comparison/difference_tables.py": {"lower": NAMES},
    "model/comparison/verdict.py": {"sum": COUNTS},
    "model/curves/all_figures.py": {"sum": "adds inches, and a picture has whole pixels"},
    "model/curves/fact_usage.py": {"sum": COUNTS},
    "model/curves/panels.py": {"sum": COUNTS},
    "model/data/contamination.py": {"lower": SETTLED, r"\w": SETTLED},
    "model/data/corpus_shards.py": {"sum": COUNTS},
    "model/data/documents.py": {"sum": COUNTS},
    "model/data/drills.py": {"capitalize": NAMES},
    "model/data/record_text.py": {"isprintable": "of ASCII"},
    "model/data/reference_answers.py": {"isdigit": "of [0-9]", "sum": COUNTS},
    "model/export/gate.py": {"sum": COUNTS},
    "model/hugging_face/directory.py": {"sum": COUNTS},
    "model/params/fetch.py": {
        "isprintable": SETTLED,
        r"\w": "pydantic's engine, whose tables come with its version",
    },
    "model/params/mixture.py": {"sum": "adds fractions and whole numbers"},
    "model/post_training/answer_reading.py": {"sum": COUNTS},
    "model/post_training/arithmetic_probes.py": {
        "isdecimal": SETTLED,
        "lower": SETTLED,
        r"\d": SETTLED,
        r"\w": SETTLED,
    },
    "model/report/bundle.py": {"lower": "looks for a mark in ASCII"},
    "model/report/figures.py": {"isdigit": "cells of our own tables"},
    "model/report/lineage.py": {"upper": NAMES},
    "model/results/markdown_table.py": {"capitalize": NAMES},
    "model/runtime/cores.py": {"isdigit": "of ASCII"},
    "model/runtime/step_states.py": {"isdecimal": NAMES},
    "model/post_training/trainer.py": {"sum": COUNTS},
    "model/pretraining/throughput.py": {"sum": "adds seconds, which are in no output"},
    "model/report/samples.py": {"isprintable": SETTLED},
    "model/report/vega.py": {"sum": COUNTS},
    "model/scoring/network.py": {"sum": COUNTS},
    "model/scoring/packing.py": {"sum": COUNTS},
    "model/scoring/scorer.py": {"sum": COUNTS},
    "model/sources/passage_files.py": {"sum": COUNTS},
    "model/sources/task_formats.py": {"lower": SETTLED},
    "model/tasks/labels.py": {"upper": NAMES},
    "model/statistics/paired.py": {"sum": COUNTS},
    "model/text/characters.py": {
        "capitalize": "the module that knows the tables",
        "lower": "the module that knows the tables",
        "unicodedata": "the module that knows the tables",
    },
    "model/tokens/export_tokenizer.py": {"sum": COUNTS},
    "model/tokens/facts.py": {r"\W": SETTLED, r"\b": SETTLED, r"\d": SETTLED, r"\w": SETTLED},
    "model/tokens/shards.py": {"sum": COUNTS},
    "stages/corpus.py": {"sum": COUNTS},
    "stages/samples.py": {"sum": COUNTS},
    "stages/export.py": {"sum": COUNTS},
    "stages/sft.py": {"sum": COUNTS},
}


def version_dependent(text: str) -> set[str]:
    """Return what a module uses whose results differ between versions of Python."""
    tree = ast.parse(text)
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            # An attribute of another kind of object may have the name of a method of text.
            of_text = isinstance(node.value, ast.Name) and node.value.id == "str"
            found |= {node.attr} if of_text or id(node) in called else set()
        elif isinstance(node, ast.Name) and node.id in ("sum", "unicodedata"):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom) and node.module in ("unicodedata", "statistics"):
            # fmean adds as fsum does.
            found |= {node.module} - ({"statistics"} if _names(node) == {"fmean"} else set())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(CLASSES.findall(node.value)) if id(node) not in prose else set()
    return found


def _names(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def modules() -> list[Path]:
    return sorted(path for folder in CODE for path in (REPOSITORY / folder).rglob("*.py"))


def test_what_follows_the_version_of_python_is_used_where_it_makes_no_difference():
    found = {
        str(path.relative_to(REPOSITORY)): uses
        for path in modules()
        if (uses := version_dependent(path.read_text()))
    }
    assert found == {path: set(reasons) for path, reasons in FIXED.items()}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("total = sum(losses)", {"sum"}),
        ("total = losses.sum()", set()),
        ("words = map(str.casefold, words)", {"casefold"}),
        ("words = words.title()", {"title"}),
        ("axes.set_title(chart.title)", set()),
        (r're.compile(rf"\w+ {name}\b")', {r"\w", r"\b"}),
        (r're.compile(rb"\w+")', set()),
        (r'r"""Words are `\w+`."""', set()),
        ("from unicodedata import name", {"unicodedata"}),
        ("from statistics import mean", {"statistics"}),
    ],
)
def test_a_use_of_it_would_be_seen(line, found):
    assert version_dependent(line) == found


def test_modules_that_must_see_settled_text_settle_it():
    for path, reasons in FIXED.items():
        if SETTLED in reasons.values():
            assert "settled(" in (REPOSITORY / path).read_text(), path


def test_every_character_has_the_same_properties_on_every_python():
    """The digest is that of Python 3.11, 3.12, 3.13 and 3.14."""
    digest = hashlib.sha256()
    word, number = re.compile(r"\w"), re.compile(r"\d")
    for character in map(chr, (*range(0x34000), *range(0xE0000, 0xE1000))):  # no other is assigned
        alone = settled(character)
        properties = (
            bool(word.match(alone)),
            bool(number.match(alone)),
            alone.isprintable(),
            alone.isspace(),
            is_control(character),
        )
        texts = [
            alone.lower(),
            capitalized(character),
            capitalized(f"a{character}"),
            composed(character),
            composed(f"a{character}\u0301"),
            str(properties),
        ]
        digest.update("\n".join(texts).encode("utf-8", "surrogatepass"))
    assert digest.hexdigest() == (
        "2b83753b43e79266a5bc2bef67730ca7eb41b5028534fef3749f0fe52389bb77"
    )


@pytest.mark.parametrize("text", ["", "straße", "ÉTÉ ΣΑΣ", "ŉa", "ǆ B", "\u0264A", "\U0001e030A Σ"])
def test_capitalized_is_what_unicode_14_makes_of_it(text):
    of_python = text if text[:1] in ("\u0264", "\U0001e030") else text.capitalize()
    assert capitalized(text)[:1] == of_python[:1]
    assert capitalized(text)[1:] == text.capitalize()[1:]


def test_settled_text_keeps_its_places():
    text = "a\u0897b\U00010d40é"
    assert settled(text) == "a\uffffb\uffffé"
