"""Every reader reads the same value of a generated YAML file, or the file is refused."""

import warnings
from collections import Counter
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, parse_yaml, parse_yaml_for_update
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz
from yaml_values import same

from common import yaml_file
from common.yaml_file import YamlFault, load
from pipeline.declared.dvc_yaml import load_yaml

pytestmark = pytest.mark.slow("five parsers read thousands of generated files", minutes=0.3)

LISTED = (
    "010", "0200", "-010", "+010", "08", "00", "0", "-0", "+1", "off", "on", "yes", "no", "Yes",
    "OFF", "y", "n", "0:0.005", "1:30", "-1:30", "190:20:30", "1_6", "1__0", "1_", "_1", "1_.5",
    "1.5_0", "0_", "0x10", "-0x10", "0X10", "0x_", "0b1010", "0b_", "0B1", "0o10", "-0o17", "0o8",
    "1e-4", "1E4", "1e4", "1.e5", "1.0e5", "1e+5", "1e999", "1e-400", ".5", "5.", ".5e3", ".5e+3",
    "-.5", ".", "-.", "~", "null", "Null", "nULL", "", "true", "True", "tRUE", ".inf", "-.inf",
    "+.Inf", ".nan", "-.nan", "NaN", "nan", "inf", "2001-01-01", "2001-1-1", "2001-99-99",
    "2001-01-01 10:00:00", "2001-01-01T10:00:00Z", "=", "<<", "!!int 3", "!!str 3", "! 3",
    "!foo 3", "!!timestamp x", "!!binary x", "'1'", '"1e-4"', "'off'", '"\\x41"', "9" * 30,
    "9" * 5000, "0x" + "f" * 5000, "1,000", "1.2.3", "१", "1٣", "[1, 1.0]", "[a:b]", "[a?]",
    "{a: 1, a: 2}", "{1: 2}", "{[1]: 2}", "{a: }", "&x 1", "[&x 1, *x]", "&x [*x]", "*x",
    "[&x 1, &x 2]", "{<<: {b: 1}}", "|\n  010", ">\n  1\n  2", "1\n  2", "1 # 2", "1#2", "a b",
    "- 1", "\t1", "1\t# 2", "\u00a0", "\x85", "\u2028", "\ufeff", "\0", "é",
)  # fmt: skip
NUMBERLIKE = st.text("0123456789+-._eEobxXOaf:TZ ", min_size=1, max_size=8)
SCALARS = (
    NUMBERLIKE
    | st.from_regex(r"[-+]?0[xob]?[0-9a-f_]{1,6}", fullmatch=True)
    | st.from_regex(r"[-+]?[0-9_]{0,4}\.?[0-9_]{0,4}([eE][-+]?[0-9]{1,3})?", fullmatch=True)
    | st.from_regex(r"[-+]?[0-9]{1,3}(:[0-5]?[0-9]){1,2}(\.[0-9]*)?", fullmatch=True)
    | st.from_regex(
        r"[12][0-9]{3}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z?)?",
        fullmatch=True,
    )
    | st.sampled_from(
        ("true", "false", "null", "yes", "no", "on", "off", "nan", "inf", ".nan", ".inf")
    ).flatmap(
        lambda word: st.sampled_from(
            (word, word.upper(), word.capitalize(), f"-{word}", f"{word}_")
        )
    )
    | st.text("0aoxy~=<>'\"!&*#%@,[]{}|?:- \t\n\\é\u2028\x85\ufeff\0", min_size=1, max_size=6)
    | st.sampled_from(LISTED)
)
_LONGEST_KEY = (
    64  # characters; DVC breaks a longer one over two lines, and cannot read its own file
)
PARTS = (
    "a", "b", "a: ", "b: ", "key: ", "- ", "? ", ": ", "\n", "\n  ", "\n    ", "  ", " # c", "[",
    "]", "{", "}", ", ", "---\n", "...\n", "%YAML 1.1\n", "&x ", "*x", "<<: ", "!!str ", "'", '"',
    "|\n  ", ">-\n  ", "\r\n", "\t", "\ufeff", "é", "1", "010", "1e-4", "off", "null", "1:30",
    "a: 1\n", "a:\n  b: ",
)  # fmt: skip
DOCUMENTS = st.lists(st.sampled_from(PARTS) | SCALARS, min_size=1, max_size=10).map("".join)


def keys(value: Any) -> list[str]:
    """Return all keys inside a value."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [
        *(value if isinstance(value, dict) else ()),
        *(key for each in below for key in keys(each)),
    ]


def tried(text: str) -> str:
    """Return "refused" or "equal", having asserted that every reader reads `text` alike if it is
    not refused.
    """
    content = text.encode("utf-8", "surrogatepass")
    fault, ours = None, None
    try:
        ours = load(content, "params.yaml")
    except YamlFault as error:
        fault = str(error)
    if fault is not None:
        assert fault.startswith("params.yaml: ")
        assert fault.isprintable()
        with pytest.raises(YamlFault):
            load_yaml(content, "params.yaml")
        return "refused"
    assert same(load_yaml(content), ours)
    seen = text.replace("\r\n", "\n").replace("\r", "\n")  # DVC opens it as text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(parse_yaml(seen, "params.yaml"), ours or {})
        # DVC reads an empty file, and any other empty value, as a mapping.
        document = ours if isinstance(ours, dict) else {"value": ours}
        if any(len(key) > _LONGEST_KEY for key in keys(document)):
            return "equal"
        recorded = dumps_yaml(document)
        assert same(parse_yaml(recorded, "dvc.lock") or {}, document)
        assert same(load(recorded.encode(), "dvc.lock") or {}, document)
        if isinstance(ours, dict):
            try:
                rewritten = dumps_yaml(parse_yaml_for_update(seen, "params.yaml"))
            except (
                IndexError,
                ValueError,
            ):  # ruamel.yaml rewrites no -0E0 and 0.E0: `dvc exp run -S` stops
                return "equal"
            assert same(load(rewritten.encode(), "params.yaml") or {}, ours)
    return "equal"


def count(strategy: st.SearchStrategy, form: str, listed: tuple[str, ...] = ()) -> Counter:
    results: dict[str, str] = {text: tried(form.format(text)) for text in listed}

    @fuzz(1000)
    @given(text=strategy)
    def run(text: str) -> None:
        if text not in results:
            results[text] = tried(form.format(text))

    run()
    return Counter(results.values())


@pytest.mark.parametrize("name", ["scalars", "documents"])
def test_all_readers_read_alike_or_the_text_is_refused(name):
    found = count(SCALARS, "a: {}\n", LISTED) if name == "scalars" else count(DOCUMENTS, "{}")
    print(
        f"\n{name}: {found.total()} generated, {found['refused']} refused, {found['equal']} read"
        " alike by all readers"
    )
    assert found["refused"] > 100
    assert found["equal"] > 100


def test_a_reader_that_guesses_is_seen(monkeypatch):
    """The mutation: what the loader refuses, read as the first digit has it."""
    monkeypatch.setattr(yaml_file, "plain_value", yaml.safe_load)
    for text in ("010", "off", "1:30", "1e-4"):
        with pytest.raises(AssertionError):
            tried(f"a: {text}\n")


def test_duplicate_keys_that_pass_are_seen(monkeypatch):
    monkeypatch.setattr(yaml_file, "_FIRST_OF_NUMBER", frozenset())  # every number is text
    with pytest.raises(AssertionError):
        tried("a: 1\n")
