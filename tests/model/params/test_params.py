import ast
import copy
import json
import re
from pathlib import Path

import fetch_project
import pytest
import yaml
from committed import committed_text
from conditions import DIGITS, conditions, named
from repository import REPOSITORY

from common.errors import PipelineError
from common.sections import overridden, read_overridden, read_section, validate
from common.yaml_file import read_yaml
from model.data.question_sample import sample_questions
from model.data.word_problems import held_out_problems
from model.params.all_sections import Params, read_conditions
from model.params.conditions import RESERVED_ENDINGS, RESERVED_NAMES
from model.params.network import NetworkParams
from pipeline.declared.dvc_yaml import read_stages
from pipeline.declared.file_trees import WorkingTree
from stages.params import require_patterns

PROFILES = [REPOSITORY / "params.yaml", *sorted((REPOSITORY / "profiles").glob("*.yaml"))]
MICRO = yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())
GSM8K = MICRO["fetch"]["gsm8k"] | {"format": "gsm8k"}
NAME = "[a-z][a-z0-9_]*"  # of a condition
ITEM = {key: value for key, value in fetch_project.ITEM.items() if key != "ind"}
MICRO["pretrain"] |= {
    "max_steps": 4,
    "checkpoint_steps": [4],
    "learning_rate": 1.0e-3,
    "min_learning_rate": 1.0e-4,
    "warmup_steps": 1,
}


def keys(value, path="") -> set[str]:
    """The dotted keys of a params file, apart from what its sources are."""
    if not isinstance(value, dict) or path.endswith(
        (".source", ".conversations", ".mixture", ".tasks")
    ):
        return {path}
    return {key for name, child in value.items() for key in keys(child, f"{path}.{name}")}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_every_profile_has_the_schema_and_keys_of_params_yaml(path):
    validate(read_yaml(path), Params, path)
    assert keys(read_yaml(path)) == keys(read_yaml(PROFILES[0]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.widht", 64, "model.widht: unknown key; remove it or correct its spelling"),
        ("model.width", None, "model.width: missing; profiles/ holds complete examples"),
        ("model.width", "64", "model.width: Input should be a valid integer, not the text '64'"),
        ("model.width", 64.0, "model.width: Input should be a valid integer, got 64.0"),
        (
            "pretrain.learning_rate",
            "1e-3",
            "the text '1e-3'; in quotes it is text: remove the quotes",
        ),
        (
            "pretrain.learning_rate",
            True,
            "pretrain.learning_rate: Input should be a valid number, got true",
        ),
        (
            "pretrain.learning_rate",
            float("inf"),
            "pretrain.learning_rate: Input should be a finite number",
        ),
        ("model.heads", 3, "model: width (32) must be a multiple of heads (3)"),
        (
            "pretrain.checkpoint_steps",
            [4, 9],
            "pretrain: checkpoint_steps [4, 9] must end with max_steps (4)",
        ),
        (
            "pretrain.checkpoint_steps",
            [2, 3],
            "pretrain: checkpoint_steps [2, 3] must end with max_steps (4)",
        ),
        (
            "pretrain.checkpoint_steps",
            [4, 2],
            "pretrain: checkpoint_steps [4, 2] must be positive and strictly ascending",
        ),
        (
            "pretrain.checkpoint_steps",
            [],
            "pretrain.checkpoint_steps: List should have at least 1 item",
        ),
        (
            "pretrain.batch_rows",
            5,
            "(5) must be a multiple of micro_batch_rows × processes × nodes (2 × 1 × 1)",
        ),
        (
            "pretrain.processes",
            3,
            "(4) must be a multiple of micro_batch_rows × processes × nodes (2 × 3 × 1)",
        ),
        (
            "pretrain.nodes",
            4,
            (
                "pretrain: batch_rows (4) must be a multiple of micro_batch_rows × processes ×"
                " nodes (2 × 1 × 4)"
            ),
        ),
        ("pretrain.nodes", 0, "pretrain.nodes: Input should be greater than 0, got 0"),
        ("pretrain.warmup_steps", 4, "pretrain: warmup_steps (4) must be below max_steps (4)"),
        (
            "pretrain.min_learning_rate",
            1.0,
            "pretrain: min_learning_rate (1.0) must not exceed learning_rate (0.001)",
        ),
        ("conditions", ["baseline"], "conditions: Input should be a mapping of keys to values"),
        ("conditions", named("Base line"), "conditions.Base line: String should match pattern"),
        ("conditions.baseline.odd", {}, "conditions.baseline.odd: unknown key"),
        (
            "conditions.baseline.sft",
            None,
            "conditions.baseline: add sft: {}; a condition names all of tokenize, model, pretrain,"
            " sft, empty where nothing differs",
        ),
        (
            "conditions.baseline.model",
            [],
            "conditions.baseline.model: Input should be a mapping of keys to values",
        ),
        (
            "pretrain.schedule",
            "step",
            "pretrain.schedule: Input should be 'cosine', 'linear' or 'wsd', got 'step'",
        ),
        (
            "pretrain.optimizer",
            "sgd",
            "pretrain.optimizer: Input should be 'adamw' or 'muon', got 'sgd'",
        ),
        (
            "pretrain.mixture",
            {"sciq": 1.0, "squad": 2.0},
            "pretrain.mixture names squad; the sources of the corpus are drills, sciq",
        ),
        (
            "pretrain.mixture",
            {"sciq": 0.0},
            "pretrain.mixture.sciq: Input should be greater than 0, got 0.0",
        ),
        (
            "problems.mixture",
            {"tulu": 1.0},
            "problems.mixture names ['tulu'], which fetch.conversations does not have",
        ),
        (
            "problems.mixture",
            {"generated": 0.0},
            "problems.mixture.generated: Input should be greater than 0, got 0.0",
        ),
        (
            "problems.mixture",
            {"generated": 1.0, "tulu": 1e-9},
            "problems: mixture.tulu: its weight gives it none of the 320",
        ),
        ("sft.state_every", 5, "sft: state_every (5) must be a multiple of log_every (10)"),
        ("sft.max_steps", 45, "sft: max_steps (45) must be a multiple of log_every (10)"),
        ("sft.warmup_steps", 40, "sft: warmup_steps (40) must be below max_steps (40)"),
        (
            "sft.batch_rows",
            7,
            "sft.max_steps × batch_rows (280) must be a multiple of problems.conversations (320)",
        ),
        (
            "fetch.conversations",
            {"generated": GSM8K},
            "fetch.conversations.generated has the name of this",
        ),
        ("generate.new_tokens", 96, "generate.new_tokens (96) must be below model.context (96)"),
        ("seeds", [1, 1], "seeds [1, 1] names one of them twice"),
        ("seeds", [-1], "seeds.0: Input should be greater than or equal to 0, got -1"),
        (
            "tokenize.base_ranks",
            60000,
            "tokenize.base_ranks (60000) exceeds fetch.ranks.count (50256)",
        ),
        ("corpus.target_tokens", 96, "corpus.target_tokens (96) must be above model.context (96)"),
        ("probes.new_tokens", 96, "probes.new_tokens (96) must be below model.context (96)"),
        ("samples.new_tokens", 96, "samples.new_tokens (96) must be below model.context (96)"),
        ("samples.prompts", "6 × 9 =", "samples.prompts: Input should be a list, not the text"),
        ("samples.prompts", ["a", ""] * 2, "samples.prompts: names 'a' twice; remove one"),
        ("samples.prompts", [54], "samples.prompts.0: Input should be a valid string, got 54"),
        ("corpus.val_fraction", 1.0, "corpus.val_fraction: Input should be less than 1, got 1.0"),
        ("fetch.tasks.copa.source.kind", "ftp", "fetch.tasks.copa.source"),
        ("fetch.ranks.sha256", "abc", "fetch.ranks.sha256: String should match pattern"),
        (
            "fetch.ranks.sha256",
            int("7" * 64),
            f"fetch.ranks.sha256: must be text, so put it in quotes, got {'7' * 64}",
        ),
        ("fetch.ranks.source.version", 1.0, "version: must be text, so put it in quotes, got 1.0"),
        (
            "fetch.ranks.source.version",
            True,
            "version: must be text, so put it in quotes, got true",
        ),
        ("fetch.ranks.source.version", [], "version: Input should be a valid string"),
        (
            "model.context",
            1000000,
            "model.context: Input should be less than or equal to 65536, got 1000000",
        ),
        (
            "tasks.hellaswag.asked",
            1,
            "tasks.hellaswag.asked: must be all, or a whole number of at least 2, got 1",
        ),
        (
            "tasks.continuation.asked",
            "every",
            "tasks.continuation.asked: must be all, or a whole number of at least 2, got 'every'",
        ),
        ("tasks", {}, "tasks: Dictionary should have at least 1 item"),
        ("tasks.copa.wordings", ["plain"], "tasks.copa.wordings.0: Input should be"),
        ("tasks.copa.wordings", ["lm_eval", "lm_eval"], "names one of them twice"),
        (
            "tasks.mine",
            {"asked": "all", "wordings": ["lm_eval"]},
            "tasks.mine: fetch.tasks has no mine, which would say where its items are; it has "
            "arc_easy, copa, hellaswag",
        ),
        (
            "tasks.Mine",
            {"asked": "all", "wordings": ["lm_eval"]},
            "String should match pattern",
        ),
        ("fetch.tasks.copa.format", "csv", "fetch.tasks.copa.format: Input should be 'choices'"),
        (
            "problems.generated_test",
            1,
            "problems.generated_test: Input should be greater than or equal to 2, got 1",
        ),
        (
            "problems.gsm8k_test",
            1,
            "problems.gsm8k_test: Input should be greater than or equal to 2, got 1",
        ),
        (
            "fetch.tasks.hellaswag.count",
            1,
            "fetch.tasks.hellaswag.count: Input should be greater than or equal to 2, got 1",
        ),
        (
            "fetch.gsm8k.count",
            1,
            "fetch.gsm8k.count: Input should be greater than or equal to 2, got 1",
        ),
        (
            "tasks.hellaswag.asked",
            20000,
            "tasks.hellaswag.asked (20000) exceeds fetch.tasks.hellaswag.count (10042)",
        ),
        (
            "problems.gsm8k_test",
            2000,
            "problems.gsm8k_test (2000) exceeds fetch.gsm8k.count (1319)",
        ),
        (
            "conditions",
            named("a", "combined"),
            "conditions.combined: combined is taken: plots/figures/combined.png is a picture",
        ),
        (
            "conditions",
            named("a_holm_p"),
            "conditions.a_holm_p: a_holm_p ends with _holm_p, as keys of",
        ),
        ("conditions", {}, "conditions: Dictionary should have at least 1 item"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_key_and_rule(key, value, message):
    document = copy.deepcopy(MICRO)
    *parents, last = key.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(PipelineError) as caught:
        validate(document, Params, Path("params.yaml"))
    assert message in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


def of(name: str, **own: dict) -> dict[str, Params]:
    """Return what read_conditions makes of the micro profile with one condition more."""
    document = {**copy.deepcopy(MICRO), "conditions": conditions(baseline={}, **{name: own})}
    return read_conditions(document, Path("params.yaml"))


def test_a_condition_has_its_own_values_and_the_others():
    mixed = of("mixed", model={"width": 64}, pretrain={"learning_rate": 0.01}, sft={"beta1": 0.5})
    base, own = mixed["baseline"], mixed["mixed"]
    assert (own.model.width, own.pretrain.learning_rate, own.sft.beta1) == (64, 0.01, 0.5)
    assert (base.model.width, base.pretrain.learning_rate, base.sft.beta1) == (32, 0.001, 0.9)
    assert own.model.model_dump() == base.model.model_dump() | {"width": 64}
    assert own.tokenize == base.tokenize
    assert own.fetch == base.fetch


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"pretrain": {"learning_rat": 0.02}},
            "conditions.a.pretrain.learning_rat: unknown key; remove it or correct its spelling",
        ),
        (
            {"pretrain": {"learning_rate": "0.02"}},
            "conditions.a.pretrain.learning_rate: Input should be a valid number, not the text",
        ),
        (
            {"pretrain": {"min_learning_rate": 0.5}},
            "conditions.a.pretrain: min_learning_rate (0.5) must not exceed learning_rate (0.001)",
        ),
        (
            {"model": {"width": 33}},
            "conditions.a.model: width (33) must be a multiple of heads (2)",
        ),
        (
            {"pretrain": {"checkpoint_steps": [2, 4]}},
            "conditions.a.pretrain.checkpoint_steps: all conditions have one checkpoint_steps;"
            " remove it here, and set pretrain.checkpoint_steps",
        ),
        ({"sft": {"device": "cuda"}}, "conditions.a.sft.device: all conditions have one device;"),
        (
            {"pretrain": {"dtype": "bfloat16"}},
            "conditions.a: pretrain.dtype (bfloat16) needs numerics.kernels: native",
        ),
        (
            {"tokenize": {"base_ranks": 60000}},
            "conditions.a: tokenize.base_ranks (60000) exceeds fetch.ranks.count (50256)",
        ),
        (
            {"model": {"context": 24}, "pretrain": {"batch_rows": 16}},
            "conditions.a: generate.new_tokens (24) must be below model.context (24)",
        ),
        (
            {"sft": {"batch_rows": 7}},
            "conditions.a: sft.max_steps × batch_rows (280) must be a multiple of",
        ),
        (
            {"model": {"context": 48}},
            "conditions.a: pretrain.batch_rows × model.context is 192, and 384 in baseline;",
        ),
    ],
)
def test_a_fault_of_a_condition_is_named_by_the_key_that_was_written(own, message):
    with pytest.raises(PipelineError) as caught:
        of("a", **own)
    assert str(caught.value).startswith(f"params.yaml: {message}")
    assert "\n" not in str(caught.value)


def test_a_longer_context_with_fewer_rows_takes_as_many_tokens():
    own = of("long", model={"context": 192}, pretrain={"batch_rows": 2})["long"]
    assert (own.model.context, own.pretrain.batch_rows) == (192, 2)


def test_a_fault_of_the_base_is_not_a_conditions():
    document = {**copy.deepcopy(MICRO), "conditions": conditions(a={"model": {"width": 64}})}
    document["model"]["heads"] = 3
    with pytest.raises(PipelineError, match=r"^params\.yaml: model: width \(32\)"):
        read_conditions(document, Path("params.yaml"))


@pytest.mark.parametrize("section", ["tokenize", "model", "pretrain", "sft"])
def test_keys_that_all_conditions_share_are_keys_of_their_section(section):
    kind = Params.model_fields[section].annotation
    assert kind.model_fields.keys() >= kind.COMMON


def test_a_stage_reads_the_section_as_its_condition_has_it(tmp_path):
    path = tmp_path / "params.yaml"
    document = {**MICRO, "conditions": conditions(wide={"model": {"width": 64, "layers": 3}})}
    path.write_text(yaml.safe_dump(document))
    read = read_overridden("model", "conditions.wide.model", NetworkParams, path)
    assert read.model_dump() == MICRO["model"] | {"width": 64, "layers": 3}
    with pytest.raises(PipelineError, match=r"conditions\.narrow\.model: missing"):
        read_overridden("model", "conditions.narrow.model", NetworkParams, path)


def test_a_value_is_overridden_whole():
    """A condition's mixture has none of the base's sources, and may be empty."""
    base = {"mixture": {"squad": 2.0, "boolq": 1.0}, "steps": [1, 2]}
    assert overridden(base, {"mixture": {"drop": 1.0}}) == base | {"mixture": {"drop": 1.0}}
    assert overridden(base, {"mixture": {}, "steps": [3]}) == {"mixture": {}, "steps": [3]}
    assert overridden(base, {}) == base


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(a", "not a regular expression"), ("a+", "does not match every")]
)
def test_a_pattern_that_encodes_not_all_text_is_refused_before_the_corpus_is_made(pattern, reason):
    with pytest.raises(PipelineError) as caught:
        require_patterns(of("odd", tokenize={"pattern": pattern}))
    assert str(caught.value).startswith("params.yaml: conditions.odd: tokenize.pattern ")
    assert reason in str(caught.value)
    require_patterns(of("digits", tokenize={"pattern": DIGITS}))


def test_several_faults_are_several_lines():
    document = {**MICRO, "model": {"layers": 0, "heads": 2, "width": 32}}
    with pytest.raises(PipelineError) as caught:
        validate(document, Params, Path("params.yaml"))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML at line 1"),
        (b"\xff", "is not UTF-8 text"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_yaml_is_one_line(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineError, match=message):
        read_yaml(path)


def test_a_section_that_is_missing_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("model: {}\n")
    with pytest.raises(PipelineError, match=r"fetch\.ranks: missing"):
        read_section("fetch.ranks", dict, path)


def test_every_picture_that_is_no_conditions_has_a_reserved_name():
    """The pictures are those that stages/curves.py draws by a name of its own."""
    calls = [
        node
        for node in ast.walk(ast.parse((REPOSITORY / "stages/curves.py").read_text()))
        if isinstance(node, ast.BinOp)
    ]
    places = [
        node.right
        for node in calls
        if isinstance(node.left, ast.Name) and node.left.id == "figures"
    ]
    fixed = {place.value for place in places if isinstance(place, ast.Constant)}
    assert fixed == {f"{name}.png" for name in RESERVED_NAMES}
    assert [ast.unparse(place) for place in places if not isinstance(place, ast.Constant)] == [
        "f'{condition}.png'"
    ]


def test_no_other_output_can_be_met_by_a_conditions_name():
    """Nothing that dvc.yaml names lies where a condition of some valid name would put its own."""
    stages = read_stages(WorkingTree(REPOSITORY))
    outputs = [output for name in stages for output in read_outputs(stages[name])]
    of_conditions = {out for out in outputs if "${item.condition}" in out}
    assert len(of_conditions) > 10
    for out in of_conditions:
        before, _, _ = out.partition("${item.condition}")
        place = re.compile(re.escape(before) + NAME + "(/|$)")
        others = {other for other in outputs if "${item.condition}" not in other}
        assert [other for other in others if place.match(other)] == []


def read_outputs(text: dict) -> list[str]:
    entries = [entry for key in ("outs", "metrics", "plots") for entry in text.get(key, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_every_key_of_the_comparison_that_a_condition_makes_has_a_reserved_ending():
    comparison = json.loads(committed_text("metrics/comparison.json"))
    keys = {key for models in comparison.values() for figure in models.values() for key in figure}
    # With one seed there is no p.
    assert keys <= {
        "baseline",
        "mul_tokens",
        *(f"mul_tokens{ending}" for ending in RESERVED_ENDINGS),
    }
    assert keys >= {"baseline", "mul_tokens", "mul_tokens_difference"}


@pytest.mark.parametrize(
    ("count", "message"),
    [(266, "problems.generated_test: 266 asked for, there are 265"), (2, None), (17, None)],
)
def test_a_sample_of_problems_that_cannot_be_compared_is_refused_with_its_key(count, message):
    questions = held_out_problems(0)
    if message:
        with pytest.raises(PipelineError, match=message):
            sample_questions(
                "problems.generated_test", questions, lambda problem: problem.story, count, 0
            )
    else:
        drawn = sample_questions(
            "problems.generated_test", questions, lambda problem: problem.story, count, 0
        )
        assert len({problem.story for problem in drawn}) > 1


@pytest.mark.parametrize(
    ("count", "advice"),
    [(2, "raise it, or take another problems.seed"), (None, "take another source")],
)
def test_questions_of_one_cluster_are_refused(count, advice):
    line = (
        f"params.yaml: problems.gsm8k_test: all {count or 3} questions are of one cluster, and a"
        f" comparison needs two; {advice}"
    )
    with pytest.raises(PipelineError, match=re.escape(line)):
        sample_questions("problems.gsm8k_test", ["a", "a", "a"], str, count, 0)
