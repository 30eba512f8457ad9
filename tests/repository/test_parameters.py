"""The reference of params.yaml, docs/parameters.md: every key, with what the code enforces, and the
comments in params.yaml.
"""

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from committed import committed_text, committed_tree
from conditions import conditions
from repository import REPOSITORY

from common.errors import PipelineError
from common.sections import Section, param, validate
from common.yaml_file import load
from model.params.all_sections import Params, read_conditions
from model.params.fetch import HubFileSource
from pipeline.declared.lockfile import Graph
from stages.params import require_patterns
from tools.generated.parameter_rows import Row, about, allowed_values, first_sentence, reference
from tools.generated.parameters import REFERENCE, markdown
from tools.generated.reruns import Reruns

PARAMS = committed_text("params.yaml")
# Bounds and rules are tried on the demonstration, whatever params.yaml a branch has.
DOCUMENT = load(committed_text("profiles/seeds.yaml").encode(), "profiles/seeds.yaml")
FOUND = reference()
ROWS = {row.key: row for rows in FOUND.sections.values() for row in rows}
SOURCE_ROWS = {row.key: row for rows in FOUND.sources.values() for row in rows}
NAMED = ("conditions", "fetch.tasks", "fetch.conversations", "tasks")  # whose keys are names
# Mappings that are a value: their keys are no parameters.
VALUES = re.compile(r"conditions\.\w+\.\w+|(pretrain|problems)\.mixture")


def key_nodes(node: yaml.Node, path: str = "") -> Iterator[tuple[str, int]]:
    """Yield each key of a YAML document, dotted, and the number of its line from 0."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{path}.{key.value}".removeprefix(".")
            yield name, key.start_mark.line
            if not VALUES.fullmatch(name):
                yield from key_nodes(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from key_nodes(each, path)


def row_key(key: str) -> str:
    """Return the key of the reference's row: a name is NAME, and a source is SOURCE."""
    key = re.sub(r"^.+\.source\.", "SOURCE.", key)
    for parent in NAMED:
        key = re.sub(rf"^{re.escape(parent)}\.\w+", f"{parent}.NAME", key)
    return key


def described(key: str) -> str | None:
    """Return the description of a key of params.yaml, None for a name that a user has chosen."""
    key = row_key(key)
    if key.endswith(".NAME"):
        return None
    if "." not in key:
        return about(Params, key)
    return (ROWS.get(key) or SOURCE_ROWS[key]).about


KEYS = list(key_nodes(yaml.compose(PARAMS)))


def test_every_key_of_params_yaml_is_in_the_reference():
    keys = {row_key(key) for key, _ in KEYS}
    chosen = {f"{parent}.NAME" for parent in NAMED}
    assert keys - chosen - set(Params.model_fields) <= ROWS.keys() | SOURCE_ROWS.keys()
    assert len(keys) > 100
    assert set(FOUND.sections) == set(DOCUMENT)
    text = committed_text(REFERENCE)
    assert [key for key in [*ROWS, *SOURCE_ROWS] if f"\n| `{key}` |" not in text] == []


def comment_faults(text: str) -> list[str]:
    """Return a line for each key of params.yaml without its comment.

    The comment is the first sentence of the key's description, at the end of the line where the
    key stands first. Keys inside braces have it in lines `# KEY: …` below the section's line.
    """
    lines = text.splitlines()
    faults, seen = [], set()
    for key, number in key_nodes(yaml.compose(text)):
        wanted, row = described(key), row_key(key)
        if wanted is None or row in seen:
            continue
        seen.add(row)
        sentence = first_sentence(wanted)
        alone = f"  # {key.rpartition('.')[2]}: {sentence}"
        if not lines[number].endswith(f"  # {sentence}") and alone not in lines:
            faults.append(f"line {number + 1}: {key}  # {sentence}")
    return faults


def test_every_key_of_params_yaml_has_its_comment():
    assert comment_faults(PARAMS) == []
    assert max(map(len, PARAMS.splitlines())) <= 150
    changed = PARAMS.replace("  layers: 2  # ", "  layers: 2  # Some ")
    assert len(comment_faults(changed)) == 1


def test_the_reference_is_the_one_of_this_tree():
    assert committed_text(REFERENCE) == markdown(committed_tree()), "make tables"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tools.generated.parameters", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )


def test_a_stale_reference_fails_and_is_written_again(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text(committed_text(name))
    said = (
        "error: docs/parameters.md is not that of params.yaml, model/params and dvc.yaml; run make "
        "tables\n"
    )
    assert run(tmp_path).stdout == "tables: docs/parameters.md\n"
    assert (tmp_path / REFERENCE).read_text() == committed_text(REFERENCE)
    assert run(tmp_path, "--check").returncode == 0
    params = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params.replace("  layers: 2", "  layers: 3"))
    of_a_branch = run(tmp_path, "--check")
    assert (of_a_branch.returncode, of_a_branch.stderr) == (0, "")
    assert of_a_branch.stdout.startswith("docs/parameters.md: its defaults are not this params")
    reference_of_now = (tmp_path / REFERENCE).read_text()
    (tmp_path / REFERENCE).write_text(reference_of_now.replace("number > 0", "number > 1"))
    stale = run(tmp_path, "--check")
    assert (stale.returncode, stale.stderr) == (1, said)
    (tmp_path / REFERENCE).write_text(reference_of_now)
    for value in ("model: 5\n", "model:\n", "fetch: {tasks: null}\n"):
        (tmp_path / "params.yaml").write_text(value)
        refused = run(tmp_path, "--check")
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: docs/parameters.md cannot be made: ")
        assert len(refused.stderr.splitlines()) == 1
    (tmp_path / "params.yaml").write_text("model: [")
    broken = run(tmp_path, "--check")
    assert broken.returncode == 1
    assert broken.stderr.startswith("error: docs/parameters.md cannot be made: ")
    assert len(broken.stderr.splitlines()) == 1


def test_make_lint_checks_the_reference_and_make_tables_writes_it():
    def recipe(target: str) -> str:
        done = subprocess.run(
            ["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "python -m tools.generated.parameters\n" in recipe("tables")
    assert "python -m tools.generated.parameters --check\n" in recipe("lint")


def test_a_field_without_a_description_is_named():
    class Inner(Section):
        size: int

    class Outer(Section):
        """What it is."""

        inner: Inner

    with pytest.raises(ValueError, match=r"Outer\.inner has no description"):
        reference(Outer)
    Inner.__doc__ = "A size."
    with pytest.raises(ValueError, match=r"Inner\.size has no description"):
        reference(Outer)

    class Whole(Section):
        size: int = param("How large.", unit="tokens", rule="even", gt=0)

    assert reference(Whole).sections == {
        "size": [Row("size", "How large.", "tokens", "whole number > 0; even")]
    }


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "whole number"),
        (float | None, "number, or null"),
        (bool, "`true`, `false`"),
        (Literal["a", "b"], "`a`, `b`"),
        (list[Literal["a", "b"]], "list of: `a`, `b`"),
        (dict[str, float], "names, each with a number"),
    ],
)
def test_a_type_is_told_in_words(kind, words):
    assert allowed_values(kind, []) == words


def with_value(key: str, value: Any) -> dict[str, Any]:
    """Return the demonstration with another value; NAME is the first name that has the key."""
    document = copy.deepcopy(DOCUMENT)
    if key.startswith("fetch.conversations."):
        document["fetch"]["conversations"] = {
            "mine": copy.deepcopy(DOCUMENT["fetch"]["gsm8k"]) | {"format": "gsm8k"}
        }
    *parents, last = key.split(".")
    place: Any = document
    for parent in parents:
        place = place[next(iter(place)) if parent == "NAME" else parent]
    assert last in place
    place[last] = value
    return document


def faults(document: dict[str, Any]) -> list[str]:
    """Return the lines with which params.yaml would be refused."""
    try:
        read_conditions(document, Path("params.yaml"))
    except PipelineError as error:
        return str(error).splitlines()
    return []


BOUND = re.compile(r"([<>≤≥]) ([\d,.]+)")


def numeric_bounds() -> list[tuple[str, str, float]]:
    """Return each bound that the reference states: key, sign and number."""
    text = committed_text(REFERENCE)
    stated = re.findall(r"^\| `([\w.]+)` \| [^|]* \| [^|]* \| ([^|]*) \|", text, flags=re.MULTILINE)
    return [
        (key, sign, yaml.safe_load(number.rstrip(",.").replace(",", "")))
        for key, allowed in stated
        for sign, number in BOUND.findall(allowed)
    ]


def at(key: str, number: float) -> Any:
    """Return `number` as a value of `key`: whole where the key is, in a list or mapping."""
    allowed = ROWS[key].allowed
    value: Any = int(number) if "whole number" in allowed else number
    if allowed.startswith("list"):
        return [value]
    return {"generated": value} if allowed.startswith("names") else value


@pytest.mark.parametrize(("key", "sign", "number"), numeric_bounds())
def test_a_stated_bound_is_the_one_that_the_code_enforces(key, sign, number):
    """The value past the bound is refused by its own key, and the one inside is not."""
    whole = "whole number" in ROWS[key].allowed
    little = 1 if whole else 1e-9
    low = sign in ">≥"
    past = number if sign in "<>" else number - little if low else number + little
    inside = number if sign in "≤≥" else number + little if low else number - little
    name = re.escape(key).replace("NAME", r"\w+")
    refusal = re.compile(
        rf"params\.yaml: {name}(\.\w+)?: (Input should be (greater|less) than|must be all)"
    )
    assert [line for line in faults(with_value(key, at(key, past))) if refusal.match(line)]
    assert [line for line in faults(with_value(key, at(key, inside))) if refusal.match(line)] == []


def test_every_number_has_its_bounds_stated():
    """Seeds that draw documents, drills and items may be any whole number."""
    unbounded = {
        row.key
        for row in ROWS.values()
        if re.search(r"\bnumber\b", row.allowed) and not BOUND.search(row.allowed)
    }
    assert unbounded == {
        "tasks.NAME.asked",  # its rule has the bounds
        "corpus.drill_seed",
        "items.seed",
        "problems.seed",
        "pretrain.checkpoint_steps",  # its rule has them
    }
    assert len(numeric_bounds()) > 80


MORE = {"mine": {"asked": "all", "wordings": ["lm_eval"]}}
# For each key with a rule, a value that breaks it (and what else is set), and the refusal.
BROKEN = {
    "seeds": ([1, 1], {}, "names one of them twice"),
    "numerics.threads": (2, {}, "threads (2) must be null with portable kernels"),
    "fetch.conversations": (
        {"generated": DOCUMENT["fetch"]["gsm8k"] | {"format": "gsm8k"}},
        {},
        "fetch.conversations.generated has the name",
    ),
    "tasks": (MORE, {}, "tasks.mine: fetch.tasks has no mine"),
    "fetch.tasks": (
        DOCUMENT["fetch"]["tasks"] | {"continuation": DOCUMENT["fetch"]["tasks"]["copa"]},
        {},
        "fetch.tasks.continuation has the name of the task of held-out documents",
    ),
    "tasks.NAME.asked": (1, {}, "must be all, or a whole number of at least 2"),
    "tasks.NAME.wordings": (["lm_eval", "lm_eval"], {}, "names one of them twice"),
    "corpus.target_tokens": (256, {}, "must be above model.context (256)"),
    "tokenize.base_ranks": (50257, {}, "exceeds fetch.ranks.count (50256)"),
    "tokenize.pattern": ("a+", {}, "does not match every"),
    "model.width": (130, {}, "must be a multiple of heads (4)"),
    "model.context": (
        512,
        {"conditions": conditions(a={}, b={"model": {"context": 256}})},
        "pretrain.batch_rows × model.context",
    ),
    "pretrain.mixture": ({"wikipedia": 1.0}, {}, "names wikipedia; the sources of the corpus"),
    "pretrain.checkpoint_steps": ([0, 3200], {}, "must be positive and strictly ascending"),
    "pretrain.batch_rows": (3, {}, "must be a multiple of micro_batch_rows"),
    "pretrain.micro_batch_rows": (3, {}, "must be a multiple of micro_batch_rows"),
    "pretrain.processes": (3, {}, "must be a multiple of micro_batch_rows"),
    "pretrain.nodes": (3, {}, "must be a multiple of micro_batch_rows"),
    "pretrain.min_learning_rate": (1.0, {}, "must not exceed learning_rate"),
    "pretrain.warmup_steps": (3200, {}, "must be below max_steps"),
    "pretrain.decay_steps": (
        3200,
        {"pretrain": {"schedule": "wsd"}},
        "warmup_steps + decay_steps (100 + 3200) must not exceed max_steps",
    ),
    "pretrain.state_every": (75, {}, "must be a multiple of log_every"),
    "pretrain.device": ("cuda", {}, "needs numerics.kernels: native"),
    "pretrain.dtype": ("bfloat16", {}, "needs numerics.kernels: native"),
    "pretrain.compile": (True, {}, "needs numerics.kernels: native"),
    "evaluate.device": ("cuda", {}, "needs numerics.kernels: native"),
    "evaluate.dtype": ("bfloat16", {}, "needs numerics.kernels: native"),
    "samples.prompts": (["a", "a"], {}, "names 'a' twice"),
    "samples.device": ("cuda", {}, "needs numerics.kernels: native"),
    "samples.new_tokens": (256, {}, "must be below model.context (256)"),
    "problems.mixture": (
        {"generated": 1.0, "tulu": 1e-9},
        {},
        "its weight gives it none of the 7200 conversations",
    ),
    "problems.gsm8k_test": (1320, {}, "exceeds fetch.gsm8k.count (1319)"),
    "sft.max_steps": (901, {}, "must be a multiple of"),
    "sft.batch_rows": (7, {}, "must be a multiple of problems.conversations"),
    "sft.warmup_steps": (900, {}, "must be below max_steps"),
    "sft.state_every": (15, {}, "must be a multiple of log_every"),
    "sft.device": ("cuda", {}, "needs numerics.kernels: native"),
    "sft.dtype": ("bfloat16", {}, "needs numerics.kernels: native"),
    "generate.device": ("cuda", {}, "needs numerics.kernels: native"),
    "generate.new_tokens": (256, {}, "must be below model.context (256)"),
    "probes.device": ("cuda", {}, "needs numerics.kernels: native"),
    "probes.new_tokens": (256, {}, "must be below model.context (256)"),
    **{
        f"fetch.{key}.source": (
            {
                "kind": "files",
                "files": [{"path": "a.jsonl", "sha256": "0" * 64}] * 2,
            },
            {},
            "source.files must name one file, not 2",
        )
        for key in ("tasks.NAME", "ranks", "gsm8k")
    },
}


def ruled_keys() -> set[str]:
    def of(kind: type[Section]) -> set[str]:
        return {
            name
            for name, field in kind.model_fields.items()
            if (field.json_schema_extra or {}).get("rule")
        }

    plain = reference_without_rules()
    found = {key for key, row in ROWS.items() if row.allowed != plain[key]} | of(Params)
    assert of(HubFileSource) == {"filename"}, "whose rule tests/model/params/test_paths.py holds"
    return found


def reference_without_rules() -> dict[str, str]:
    """Return what pydantic enforces of each key, without the rules in words."""
    plain = {}
    for key, row in ROWS.items():
        kind: Any = Params
        parts = [part for part in key.split(".") if part != "NAME"]
        for part in parts[:-1]:
            kind = section_in(kind.model_fields[part].annotation)
        field = kind.model_fields[parts[-1]]
        plain[key] = allowed_values(field.annotation, field.metadata)
        assert row.allowed.startswith(plain[key])
    return plain


def section_in(kind: Any) -> Any:
    """Return the section that a type has: itself, or its values'."""
    while not (isinstance(kind, type) and issubclass(kind, Section)):
        *_, kind = [each for each in kind.__args__ if not isinstance(each, str)]
    return kind


def test_every_rule_has_a_value_that_breaks_it():
    assert ruled_keys() == BROKEN.keys()


@pytest.mark.parametrize("key", BROKEN)
def test_a_stated_rule_is_one_that_the_code_enforces(key):
    value, others, refusal = BROKEN[key]
    document = with_value(key, value)
    for section, changed in others.items():
        document[section] = changed if section == "conditions" else document[section] | changed
    if key == "tokenize.pattern":
        with pytest.raises(PipelineError, match=refusal):
            require_patterns({"a": validate(document, Params, Path("params.yaml"))})
        return
    assert faults(DOCUMENT) == []
    assert [line for line in faults(document) if refusal in line]


def test_what_a_key_reruns_is_what_its_edit_reruns():
    """DVC's rule, from the instances that dvc.yaml gives with another value of the key."""
    tree = committed_tree()
    reruns, graph = Reruns(tree), Graph(tree)
    read = {
        key: {
            instance.stage
            for instance in graph.instances.values()
            if any(
                key == declared or key.startswith(f"{declared}.")
                for declared in instance.params.get("params.yaml", ())
            )
        }
        for key in ROWS
        if "NAME" not in key and not key.startswith("fetch")
    }
    assert {key: set(reruns.direct(key)) for key in read} == read
    assert reruns.direct("fetch.ranks.count") == ["fetch@ranks"]
    assert reruns.direct("conditions.NAME.sft") == ["distinct", "sft"]
    assert reruns.for_each("pretrain.checkpoint_steps") == ["export", "evaluate", "samples"]
    assert reruns.direct("pretrain.max_steps") == [
        "distinct",
        "pretrain",
        "sft",
        "generate",
        "probes",
    ]
    assert reruns.of_the_file() == ["params", "compare", "curves", "report"]
    for stage in ("corpus", "pretrain", "evaluate", "generate"):
        names = {name for name, each in graph.instances.items() if each.stage == stage}
        stages = {graph.instances[name].stage for name in graph.downstream(names)}
        assert set(reruns.following({stage})) == stages - {stage}
