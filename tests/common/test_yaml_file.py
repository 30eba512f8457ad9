"""Every reader reads the same value of a YAML file, of the same type, or the file is refused in one line.

The readers are common/yaml_file.py, which stages and pipeline/ use, DVC's own, what DVC records in dvc.lock, and what
`dvc exp run -S` makes of params.yaml. How many texts were tried:

    python -m pytest -s -q tests/common/test_yaml_file.py -k alike
"""

import math
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, parse_yaml, parse_yaml_for_update
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz
from repository import REPOSITORY

from common import yaml_file
from common.errors import PipelineError
from common.sections import read_section
from common.yaml_file import YamlFault, load, read_yaml
from model.params.pretrain import PretrainParams
from pipeline.check import check
from pipeline.declared.dvc_yaml import load_yaml, read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph

FILES = [
    "params.yaml",
    "libraries.yaml",
    "dvc.yaml",
    "dvc.lock",
    *(f"profiles/{p.name}" for p in REPOSITORY.glob("profiles/*")),
]
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


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of equal types, all the way down; -0.0 is not 0.0, and nan is nan."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return one == other


def keys(value: Any) -> list[str]:
    """Return all keys inside a value."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [
        *(value if isinstance(value, dict) else ()),
        *(key for each in below for key in keys(each)),
    ]


def tried(text: str) -> str:
    """Return "refused" or "equal", having asserted that every reader reads `text` alike if it is not refused."""
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
        f"\n{name}: {found.total()} generated, {found['refused']} refused, {found['equal']} read alike by all readers"
    )
    assert found["refused"] > 100
    assert found["equal"] > 100


@pytest.mark.parametrize("name", FILES)
def test_the_repositorys_own_files_are_read_as_dvc_reads_them(name):
    text = (REPOSITORY / name).read_text()
    assert same(load(text.encode(), name), parse_yaml(text, name))


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


READINGS = {
    "010": (10, 8), "0200": (200, 128), "-010": (-10, -8), "08": (8, "'08'"), "1_6": (16, 16),
    "0x10": (16, 16), "0b1010": (10, 10), "0o10": (8, "'0o10'"), "1_.5": (1.5, 1.5), "00": (0, 0),
}  # fmt: skip


@pytest.mark.parametrize("text", READINGS)
def test_a_number_of_two_readings_is_refused_with_both(text):
    new, old = READINGS[text]
    assert parse_yaml(f"a: {text}", "x")["a"] == new
    assert repr(yaml.safe_load(text)) == str(old)
    with pytest.raises(YamlFault) as caught:
        load(f"items:\n  hellaswag_count: {text}\n".encode(), "params.yaml")
    words = "the text " if isinstance(old, str) else ""
    line = f"params.yaml: items.hellaswag_count: {text} is {new} in YAML 1.2 (DVC) and {words}{old} in YAML 1.1; write {new}"
    assert str(caught.value).startswith(line)


MICRO = (REPOSITORY / "profiles/micro.yaml").read_text()


@pytest.mark.parametrize(
    ("key", "text", "line"),
    [
        ("compile", "off", "Input should be a valid boolean, not the text 'off': off is text in YAML 1.2 (DVC) "
         "and false in YAML 1.1; write false"),
        ("compile", "'true'", "Input should be a valid boolean, not the text 'true'; in quotes it is text: remove the quotes"),
        ("weight_decay", "0:0.005", "Input should be a valid number, not the text '0:0.005': 0:0.005 is text "
         "in YAML 1.2 (DVC) and 0.005 in YAML 1.1; write 0.005"),
        ("warmup_steps", "010", "010 is 10 in YAML 1.2 (DVC) and 8 in YAML 1.1; write 10 or 8"),
        ("warmup_steps", "0o10", "0o10 is 8 in YAML 1.2 (DVC) and the text '0o10' in YAML 1.1; write 8"),
        ("warmup_steps", "no", "Input should be a valid integer, not the text 'no': no is text in YAML 1.2 (DVC) "
         "and false in YAML 1.1"),
        ("warmup_steps", "'1'", "Input should be a valid integer, not the text '1'; in quotes it is text: remove the quotes"),
        ("warmup_steps", "NaN", "Input should be a valid integer, not the text 'NaN'"),
        ("warmup_steps", "", "Input should be a valid integer, got null (nothing)"),
        ("warmup_steps", "2001-01-01", "2001-01-01 is a date in YAML 1.2 (DVC) and in YAML 1.1; "
         "put it in quotes if text is meant"),
        ("warmup_steps", "10\n  warmup_steps: 11", "given twice, on lines 83 and 84; keep one"),
        ("warmup_steps", "!!int 10", "has the tag !!int; remove it"),
        ("checkpoint_steps", "", "Input should be a list, got null (nothing)"),
        ("checkpoint_steps", "200", "Input should be a list, got 200"),
    ],
)  # fmt: skip
def test_a_stage_refuses_what_is_read_in_two_ways(tmp_path, key, text, line):
    """Also one that runs before `params` has: each reads its section with the same loader."""
    before, section, after = MICRO.partition("\npretrain:\n")
    path = tmp_path / "params.yaml"
    path.write_text(
        before + section + re.sub(rf"(?m)^  {key}: .*$", f"  {key}: {text}", after, count=1)
    )
    with pytest.raises(PipelineError) as caught:
        read_section("pretrain", PretrainParams, path)
    assert str(caught.value) == f"{path}: pretrain.{key}: {line}"


def test_exponents_without_a_point_are_numbers(tmp_path):
    """As `dvc exp run -S` writes them: 1e-05."""
    path = tmp_path / "params.yaml"
    path.write_text(
        MICRO.replace("learning_rate: 5.0e-3", "learning_rate: 1e-3").replace("5.0e-4", "1e-05")
    )
    params = read_section("pretrain", PretrainParams, path)
    assert (params.learning_rate, params.min_learning_rate) == (0.001, 0.00001)


FILES_REFUSED = {
    b"\xff\xfea\0": "is UTF-16 text; save it as UTF-8",
    b"a: 1\nb: \xff": "line 2: the byte 0xff is not UTF-8 text; save the file as UTF-8",
    b"a: \0": "line 1: the character U+0000 has no place in YAML text; remove it",
    b"a: 1\n\xef\xbb\xbfb: 2": "line 2: the character U+FEFF has no place in YAML text; remove it",
    b"a:\n\tb: 1": 'line 2: a tab, which not every reader takes; write spaces, and "\\t" in text',
    b"a: 1\n---\nb: 2": "line 2: a second document begins (---); keep one",
    b"%YAML 1.1\n---\na: 1": "line 1: directives (%YAML, %TAG) change how a file is read; remove them",
    b"a: b: c": "not valid YAML at line 1: mapping values are not allowed in this context",
    b"a: [1\n": "not valid YAML at line 1: did not find expected ',' or ']'",
    b"a: {b: 1, b: 2}": "a.b: given twice, on line 1; keep one",
    b"- 1\n- {1: 2}": "1: the key 1 is no text; put it in quotes",
    b"? [a]\n: 1": "line 1: a list or a mapping as a key; keys are text",
    b"a: &x [*x]": "a.0: *x stands for what it is in; write the value out",
    b"a: *x": "a: *x has no anchor &x before it; write the value out",
    b"a: {<<: {b: 1}}": "a: merge keys (<<) are not read; write the keys out",
    b"a: =": "a: = has a meaning of its own in YAML; put it in quotes",
    b"[" * 3000: "line 1: nested more than 100 deep",
    b"a: " + b"9" * 5000: "a: a number of 5000 digits; the longest that can be read has 4300",
    b"a: [x:y]": "a.0: readers disagree about the colon or question mark in 'x:y'; put it in quotes",
    b"\n".join([b"a: &a [1, 1]", *(b"%c: &%c [%s]" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefgh")]):
        "g.4: more than 1,000,000 values; write out fewer aliases",
}  # fmt: skip


@pytest.mark.parametrize("content", FILES_REFUSED, ids=lambda content: ascii(content[:16]))
def test_a_file_that_cannot_be_read_is_one_line(content):
    with pytest.raises(YamlFault) as caught:
        load(content, "params.yaml")
    assert str(caught.value) == f"params.yaml: {FILES_REFUSED[content]}"


def test_aliases_and_a_mark_at_the_start_are_read():
    assert load("\ufeffa: &x {b: 1}\nc: *x\n".encode(), "x") == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(
        YamlFault, match=r"params\.yaml: cannot be read \(No such file or directory\)"
    ):
        read_yaml(tmp_path / "params.yaml")


@pytest.mark.parametrize("accelerated", [True, False])
def test_the_parser_without_libyaml_reads_the_same(monkeypatch, accelerated):
    monkeypatch.setattr(yaml_file, "_Parser", yaml.CSafeLoader if accelerated else yaml.SafeLoader)
    for name in ("params.yaml", "dvc.yaml"):
        text = (REPOSITORY / name).read_text()
        assert same(load(text.encode(), name), parse_yaml(text, name))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for name in (
        "dvc.yaml",
        "dvc.lock",
        "libraries.yaml",
        "requirements.txt",
        "stages.yaml",
        "dvc.contents.json",
        ".dvcignore",
    ):
        shutil.copy(REPOSITORY / name, root / name)
    for name in (
        "common",
        "model",
        "stages",
        "pipeline",
        "tools",
        "metrics",
        "plots",
        "pyproject.toml",
    ):
        (root / name).symlink_to(REPOSITORY / name)
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / "params.yaml").write_text(MICRO)
    subprocess.run(["git", "-C", root, "add", "params.yaml"], check=True)
    identity = ("-c", "user.name=x", "-c", "user.email=x@y.z")
    subprocess.run(["git", "-C", root, *identity, "commit", "-qm", "x"], check=True)
    return root


BROKEN = {
    "conditions: [baseline, mul_tokens]": {
        "conditions: []": "params.yaml: conditions: must be a list with at least one entry, not []",
        "conditions:": "params.yaml: conditions: must be a list with at least one entry, not null",
        "conditions: {a: b}": "params.yaml: conditions: must be a list with at least one entry, not {'a': 'b'}",
        "conditions: text": "params.yaml: conditions: must be a list with at least one entry, not 'text'",
        "conditions: [a, {b: c}]": "params.yaml: conditions.1: must be text or a whole number, not {'b': 'c'}",
        "conditions: [010]": "params.yaml: conditions.0: 010 is 10 in YAML 1.2 (DVC) and 8 in YAML 1.1; write 10 or 8",
        "conditions: [a]\nconditions: [b]": "params.yaml: conditions: given twice, on lines 3 and 4; keep one",
        "others: [a]": "params.yaml: conditions: missing; dvc.yaml uses it",
        "a: \0": "params.yaml: line 3: the character U+0000 has no place in YAML text; remove it",
    },
    "  max_steps: 200": {
        "  max_steps: [1]": "params.yaml: pretrain.max_steps: must be text or a whole number, not [1]"
    },
}


@pytest.mark.parametrize(
    ("old", "new"), [(old, new) for old, changes in BROKEN.items() for new in changes]
)
def test_graph_names_the_key_in_one_line(copy, old, new):
    (copy / "params.yaml").write_text(MICRO.replace(old, new, 1))
    tree = WorkingTree(copy)
    assert check(tree) == [BROKEN[old][new]]
    for read in (read_instances, Graph):
        with pytest.raises(YamlFault) as caught:
            read(tree)
        assert str(caught.value) == BROKEN[old][new]


@pytest.mark.parametrize(
    "command", ["check", "impact", "dvc_support.record lock", "dvc_support.share verify", "machine"]
)
def test_commands_say_so_in_one_line(copy, command):
    (copy / "params.yaml").write_text(
        MICRO.replace("conditions: [baseline, mul_tokens]", "conditions:")
    )
    line = BROKEN["conditions: [baseline, mul_tokens]"]["conditions:"]
    module, *arguments = command.split()
    module = "stages.params" if module == "machine" else f"pipeline.{module}"
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=copy, text=True, capture_output=True
    )
    assert done.returncode == 1, done.stderr
    said = (done.stdout + done.stderr).splitlines()
    if command == "machine":
        line = "params.yaml: conditions: Input should be a list, got null (nothing)"
    assert line in said[0], said
    assert len(said) == 1 + (command == "check"), said


@pytest.mark.parametrize(
    "name", ["params.yaml", "profiles/micro.yaml", "profiles/gpt2-124m-10b.yaml"]
)
def test_what_dvc_exp_run_writes_is_read(tmp_path, name):
    """`dvc exp run -S` rewrites the whole file: floats as 1e-05, and quotes only where its own reader needs them."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    text = (REPOSITORY / name).read_text().replace("shuffle_seed: 0", 'shuffle_seed: 0  # "off"')
    path.write_text(text)
    expected = read_yaml(path)
    expected["pretrain"] |= {"min_learning_rate": 1e-05, "weight_seed": 7}
    expected["conditions"] = ["no", "yes"]
    overrides = [
        "pretrain.min_learning_rate=1e-5",
        "pretrain.weight_seed=7",
        "conditions=['no','yes']",
    ]
    apply_overrides(path, overrides)
    assert "1e-05" in path.read_text()
    assert same(read_yaml(path), expected)
