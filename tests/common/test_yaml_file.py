"""Every reader reads the same value of a YAML file, of the same type, or the file is refused in one
line.

The readers are common/yaml_file.py, which stages and pipeline/ use, DVC's own, what DVC records in
dvc.lock, and what `dvc exp run -S` makes of params.yaml. How many texts were tried:

    python -m pytest -s -q tests/common/test_yaml_file.py -k alike
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from repository import REPOSITORY
from yaml_values import same

from common import yaml_file
from common.errors import PipelineError
from common.sections import read_section
from common.yaml_file import YamlFault, load, read_yaml
from model.params.pretrain import PretrainParams
from pipeline.check import check
from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph

FILES = [
    "params.yaml",
    "libraries.yaml",
    "dvc.yaml",
    "dvc.lock",
    *(f"profiles/{p.name}" for p in REPOSITORY.glob("profiles/*")),
]


@pytest.mark.parametrize("name", FILES)
def test_the_repositorys_own_files_are_read_as_dvc_reads_them(name):
    text = (REPOSITORY / name).read_text()
    assert same(load(text.encode(), name), parse_yaml(text, name))


READINGS = {
    "010": (10, 8),
    "0200": (200, 128),
    "-010": (-10, -8),
    "08": (8, "'08'"),
    "1_6": (16, 16),
    "0x10": (16, 16),
    "0b1010": (10, 10),
    "0o10": (8, "'0o10'"),
    "1_.5": (1.5, 1.5),
    "00": (0, 0),
}


@pytest.mark.parametrize("text", READINGS)
def test_a_number_of_two_readings_is_refused_with_both(text):
    new, old = READINGS[text]
    assert parse_yaml(f"a: {text}", "x")["a"] == new
    assert repr(yaml.safe_load(text)) == str(old)
    with pytest.raises(YamlFault) as caught:
        load(f"items:\n  context_words: {text}\n".encode(), "params.yaml")
    words = "the text " if isinstance(old, str) else ""
    line = (
        f"params.yaml: items.context_words: {text} is {new} in YAML 1.2 (DVC) and {words}{old} in"
        f" YAML 1.1; write {new}"
    )
    assert str(caught.value).startswith(line)


MICRO = (REPOSITORY / "profiles/micro.yaml").read_text()
WARMUP = MICRO[: MICRO.index("\n  warmup_steps:", MICRO.index("\npretrain:"))].count("\n") + 2


@pytest.mark.parametrize(
    ("key", "text", "line"),
    [
        (
            "compile",
            "off",
            (
                "Input should be a valid boolean, not the text 'off': off is text in YAML 1.2 (DVC)"
                " and false in YAML 1.1; write false"
            ),
        ),
        (
            "compile",
            "'true'",
            (
                "Input should be a valid boolean, not the text 'true'; in quotes it is text: remove"
                " the quotes"
            ),
        ),
        (
            "weight_decay",
            "0:0.005",
            (
                "Input should be a valid number, not the text '0:0.005': 0:0.005 is text "
                "in YAML 1.2 (DVC) and 0.005 in YAML 1.1; write 0.005"
            ),
        ),
        ("warmup_steps", "010", "010 is 10 in YAML 1.2 (DVC) and 8 in YAML 1.1; write 10 or 8"),
        (
            "warmup_steps",
            "0o10",
            "0o10 is 8 in YAML 1.2 (DVC) and the text '0o10' in YAML 1.1; write 8",
        ),
        (
            "warmup_steps",
            "no",
            (
                "Input should be a valid integer, not the text 'no': no is text in YAML 1.2 (DVC) "
                "and false in YAML 1.1"
            ),
        ),
        (
            "warmup_steps",
            "'1'",
            (
                "Input should be a valid integer, not the text '1'; in quotes it is text: remove"
                " the quotes"
            ),
        ),
        ("warmup_steps", "NaN", "Input should be a valid integer, not the text 'NaN'"),
        ("warmup_steps", "", "Input should be a valid integer, got null (nothing)"),
        (
            "warmup_steps",
            "2001-01-01",
            (
                "2001-01-01 is a date in YAML 1.2 (DVC) and in YAML 1.1; "
                "put it in quotes if text is meant"
            ),
        ),
        (
            "warmup_steps",
            "10\n  warmup_steps: 11",
            f"given twice, on lines {WARMUP} and {WARMUP + 1}; keep one",
        ),
        ("warmup_steps", "!!int 10", "has the tag !!int; remove it"),
        ("checkpoint_steps", "", "Input should be a list, got null (nothing)"),
        ("checkpoint_steps", "200", "Input should be a list, got 200"),
    ],
)
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
    b"%YAML 1.1\n---\na: 1": (
        "line 1: directives (%YAML, %TAG) change how a file is read; remove them"
    ),
    b"a: b: c": "not valid YAML at line 1: mapping values are not allowed in this context",
    b"a: [1\n": "not valid YAML at line 1: did not find expected ',' or ']'",
    b"a: {b: 1, b: 2}": "a.b: given twice, on line 1; keep one",
    b"- 1\n- {1: 2}": "1: the key 1 is not text; put it in quotes",
    b"? [a]\n: 1": "line 1: a list or a mapping as a key; keys are text",
    b"a: &x [*x]": "a.0: *x is inside the value that it stands for; write the value out",
    b"a: *x": "a: *x has no anchor &x before it; write the value out",
    b"a: {<<: {b: 1}}": "a: merge keys (<<) are not read; write the keys out",
    b"a: =": "a: = has a meaning of its own in YAML; put it in quotes",
    b"[" * 3000: "line 1: nested more than 100 deep",
    b"a: " + b"9" * 5000: "a: a number of 5000 digits; the longest that can be read has 4300",
    b"a: [x:y]": (
        "a.0: readers disagree about the colon or question mark in 'x:y'; put it in quotes"
    ),
    b"\n".join(
        [
            b"a: &a [1, 1]",
            *(b"%c: &%c [%s]" % (n, n, b", ".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefgh"),
        ]
    ): "g.4: more than 1,000,000 values; write out fewer aliases",
}


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


EMPTY = "params.yaml: conditions: must be a list or a mapping with at least one entry, not "
CONDITIONS = "conditions: {baseline: {}}"
SHORT = re.sub(r"^conditions:.*\n(?: .*\n)*", f"{CONDITIONS}\n", MICRO, flags=re.MULTILINE)
BROKEN = {
    CONDITIONS: {
        "conditions: []": f"{EMPTY}[]",
        "conditions: {}": f"{EMPTY}{{}}",
        "conditions:": f"{EMPTY}null",
        "conditions: text": f"{EMPTY}'text'",
        "conditions: [a, {b: c}]": (
            "params.yaml: conditions.1: must be text or a whole number, not {'b': 'c'}"
        ),
        "conditions: [010]": (
            "params.yaml: conditions.0: 010 is 10 in YAML 1.2 (DVC) and 8 in YAML 1.1; write 10"
            " or 8"
        ),
        "conditions: {a: {}}\nconditions: {b: {}}": (
            "params.yaml: conditions: given twice, on lines 4 and 5; keep one"
        ),
        "conditions: {a: {}, a: {}}": "params.yaml: conditions.a: given twice, on line 4; keep one",
        "others: [a]": "params.yaml: conditions: missing; dvc.yaml uses it",
        "a: \0": "params.yaml: line 4: the character U+0000 has no place in YAML text; remove it",
    },
    "  max_steps: 200": {
        "  max_steps: [1]": (
            "params.yaml: pretrain.max_steps: must be text or a whole number, not [1]"
        )
    },
}


@pytest.mark.parametrize(
    ("old", "new"), [(old, new) for old, changes in BROKEN.items() for new in changes]
)
def test_graph_names_the_key_in_one_line(copy, old, new):
    assert old in SHORT
    (copy / "params.yaml").write_text(SHORT.replace(old, new, 1))
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
    (copy / "params.yaml").write_text(SHORT.replace(CONDITIONS, "conditions:"))
    line = BROKEN[CONDITIONS]["conditions:"]
    module, *arguments = command.split()
    module = "stages.params" if module == "machine" else f"pipeline.{module}"
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=copy, text=True, capture_output=True
    )
    assert done.returncode == 1, done.stderr
    said = (done.stdout + done.stderr).splitlines()
    if command == "machine":
        line = (
            "params.yaml: conditions: Input should be a mapping of keys to values, got null "
            "(nothing)"
        )
    assert line in said[0], said
    assert len(said) == 1 + (command == "check"), said


@pytest.mark.parametrize(
    "name", ["params.yaml", "profiles/micro.yaml", "profiles/gpt2-124m-10b.yaml"]
)
def test_what_dvc_exp_run_writes_is_read(tmp_path, name):
    """`dvc exp run -S` rewrites the whole file: floats as 1e-05, and quotes only where its own
    reader needs them.
    """
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    text = (REPOSITORY / name).read_text().replace("shuffle_seed: 0", 'shuffle_seed: 0  # "off"')
    path.write_text(text)
    expected = read_yaml(path)
    expected["pretrain"] |= {"min_learning_rate": 1e-05, "weight_seed": 7}
    expected["conditions"]["mul_tokens"]["pretrain"] = {"learning_rate": 1e-05, "dtype": "no"}
    overrides = [
        "pretrain.min_learning_rate=1e-5",
        "pretrain.weight_seed=7",
        "+conditions.mul_tokens.pretrain.learning_rate=1e-5",
        "+conditions.mul_tokens.pretrain.dtype='no'",
    ]
    apply_overrides(path, overrides)
    assert "1e-05" in path.read_text()
    assert same(read_yaml(path), expected)
