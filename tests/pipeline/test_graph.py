"""dvc.yaml says what the code does: code, params, libraries, both ways; and the check that holds it
to that.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from committed import committed_text, committed_tree
from repository import REPOSITORY

from common.yaml_file import YamlFault
from pipeline.check import check, declaration_findings, declaration_lines
from pipeline.declared import library_versions
from pipeline.declared.code_imports import Code
from pipeline.declared.dvc_yaml import FACTS, load_yaml, read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.fix import Line, edited
from stages import contents

pytestmark = pytest.mark.slow("each edit is held to all of the code", minutes=2.3)

TEXT = (
    "dvc.yaml",
    "params.yaml",
    "libraries.yaml",
    "requirements.txt",
    "common",
    "model",
    "stages",
    "stages.yaml",
    "pyproject.toml",
)
DVC = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
STAGES = DVC["stages"]


def test_everything_is_declared():
    assert declaration_findings(WorkingTree(REPOSITORY)) == []


def test_the_committed_results_are_of_the_committed_tree():
    """`make check` of git's index: fails once an edit that reruns stages is added without what make
    repro makes of it.
    """
    assert check(committed_tree()) == []


@pytest.fixture
def copy(tmp_path) -> Path:
    for name in TEXT:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    (tmp_path / "params.yaml").write_text(committed_text("params.yaml"))
    assert declaration_findings(WorkingTree(tmp_path)) == []
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} lacks {old}"
    path.write_text(text.replace(old, new))


STAGE, GSM8K, PROBES, COMPARE = (
    f"dvc.yaml: {stage}: " for stage in ("evaluate", "gsm8k", "probes", "compare")
)
DEPS, PARAMS = "deps: ", "params: "
MUTATIONS = {
    "an import that is not declared": (
        "model/statistics/rates.py",
        "import math\n",
        "import math\nimport model.tokens.facts\n",
        [f"{STAGE}{DEPS}add the line      - model/tokens/facts.py"],
    ),
    "an import inside a function": (
        "model/statistics/rates.py",
        "    total = len(correct)\n",
        "    from model.tokens import facts\n    total = len(correct)\n",
        [f"{STAGE}{DEPS}add the line      - model/tokens/facts.py"],
    ),
    "a relative import": (
        "model/statistics/rates.py",
        "import math\n",
        "import math\nfrom ..tokens import facts\n",
        [f"{STAGE}{DEPS}add the line      - model/tokens/facts.py"],
    ),
    "an import of a package within the package": (
        "model/statistics/rates.py",
        "import math\n",
        "import math\nfrom ..params import tokenize\n",
        [
            f"{STAGE}{DEPS}add the line      - model/params/tokenize.py",
            f"{GSM8K}{DEPS}add the line      - common",
            f"{GSM8K}{DEPS}add the line      - model/params/tokenize.py",
            f"{GSM8K}{DEPS}remove the line      - common/__init__.py",
            f"{GSM8K}{DEPS}remove the line      - common/errors.py",
            f"{GSM8K}{DEPS}remove the line      - common/files.py",
            f"{GSM8K}{DEPS}remove the line      - common/share.py",
            f"{PROBES}{DEPS}add the line      - model/params/tokenize.py",
            f"{COMPARE}{DEPS}add the line      - model/params/tokenize.py",
        ],
    ),
    "an import that another module still has": (
        "model/scoring/scorer.py",
        "from model.tasks.item_scores import ItemScore\n",
        "",
        [],  # item_scores is still imported by the stage
    ),
    "a stage's code that imports what watches it": (
        "model/statistics/rates.py",
        "import math\n",
        "import math\nfrom pipeline.declared.lockfile import md5_of\n",
        [
            "model/statistics/rates.py: imports pipeline/, which is no stage's dependency; only"
            " stages/__init__.py may"
        ],
    ),
    "a library that is not locked": (
        "model/statistics/rates.py",
        "import math\n",
        "import math\nimport wandb\n",
        ["requirements.txt: does not pin wandb, which a stage imports; add it to requirements.in"],
    ),
    "a conflict of a merge": (
        "dvc.yaml",
        "stages:\n",
        "<<<<<<< ours\nstages:\n",
        ["dvc.yaml: not valid YAML at line 16: mapping values are not allowed in this context"],
    ),
    "a dependency that nothing imports any more": (
        "stages/evaluate.py",
        "from model.params.evaluate import EvaluateParams\n",
        "",
        [f"{STAGE}{DEPS}remove the line      - model/params/evaluate.py"],
    ),
    "a section that is not declared": (
        "stages/evaluate.py",
        "    params = read",
        "    other = read_section('items', dict)\n    params = read",
        [f"{STAGE}{PARAMS}add the line      - items"],
    ),
    "a section that nothing reads": (
        "stages/evaluate.py",
        'read_section("evaluate", EvaluateParams)',
        "None",
        [f"{STAGE}{PARAMS}remove the line      - evaluate"],
    ),
    "a key that is computed": (
        "stages/evaluate.py",
        "    params = read",
        "    other = read_section(str(1), dict)\n    params = read",
        [
            f"{STAGE}a key given to read_section is computed; write it as a literal, or as"
            ' f"KEY.{item}.KEY" with a key of the matrix'
        ],
    ),
    "a library that is not declared": (
        "model/statistics/rates.py",
        "import math\n",
        "import math\nimport tiktoken\n",
        [
            f"libraries.yaml: {stage}: lacks tiktoken, which the stage imports; run make libraries"
            for stage in ("compare", "evaluate", "gsm8k", "probes")
        ],
    ),
    "a library that nothing imports any more": (
        "model/statistics/paired.py",
        "statsmodels",
        "numpy",
        [
            (
                "libraries.yaml: compare: has statsmodels, which the stage does not import; "
                "run make libraries"
            ),
        ],
    ),
    "a version that is not the locked one": (
        "requirements.txt",
        "transformers==5.23.0",
        "transformers==5.24.0",
        [
            f"libraries.yaml: {stage}: transformers is 5.23.0, and requirements.txt has 5.24.0; "
            "run make libraries"
            for stage in ("export", "generate", "probes", "samples", "sft")
        ],
    ),
    "a frozen stage": (
        "dvc.yaml",
        "    cmd: python -m stages.curves",
        "    frozen: true\n    cmd: python -m stages.curves",
        ["dvc.yaml: curves: frozen can hide a stale result; remove it"],
    ),
    "an output that outlives its stage": (
        "dvc.yaml",
        "    outs: [data/corpus]\n",
        "    outs: [data/corpus: {persist: true}]\n",
        ["dvc.yaml: corpus: data/corpus: persist can hide a stale result; remove it"],
    ),
    "another module than the stage's": (
        "dvc.yaml",
        "python -m stages.evaluate",
        "python -m stages.curves",
        [
            f"{STAGE}cmd must be python -m stages.evaluate and its arguments, not "
            "'python -m stages.curves ${item.condition} ${item.seed} ${item.step}'"
        ],
    ),
    "more than a stage in a command": (
        "dvc.yaml",
        "cmd: python -m stages.curves",
        "cmd: python -m stages.curves && touch x",
        [
            "dvc.yaml: curves: cmd must be python -m stages.curves and its arguments, not 'python"
            " -m stages.curves && touch x'"
        ],
    ),
    "timings where an output is": (
        "dvc.yaml",
        'timings: "timings/',
        'timings: "metrics/',
        [
            "dvc.yaml: pretrain: meta: timings: must be a file below timings/, not"
            " 'metrics/${item.condition}/seed_${item.seed}/pretrain.json'"
        ],
    ),
    "a stage that imports another": (
        "stages/evaluate.py",
        "import sys\n",
        "import sys\nimport stages.items\n",
        [
            *(
                f"{STAGE}{DEPS}add the line      - {name}"
                for name in (
                    "model/data/documents.py",
                    "model/params/items.py",
                    "model/params/source_names.py",
                    "model/params/tasks.py",
                    "model/tasks/item_selection",
                    "model/tasks/listing.py",
                    "stages/items.py",
                )
            ),
            f"{STAGE}{PARAMS}add the line      - items",
            f"{STAGE}{PARAMS}add the line      - tasks",
            "libraries.yaml: evaluate: lacks pyarrow, which the stage imports; run make libraries",
            "stages/evaluate.py: reaches stages/items.py; stages do not import each other",
        ],
    ),
    "a hidden import": (
        "model/statistics/rates.py",
        "    total = len(correct)\n",
        "    total = importlib.import_module('model.tokens.facts')\n",
        [
            "model/statistics/rates.py:32: import_module hides an import from dvc.yaml; write an"
            " import statement"
        ],
    ),
    "a condition's own values that are not declared": (
        "dvc.yaml",
        "      - conditions.${item.condition}.tokenize\n",
        "",
        [
            "dvc.yaml: tokenize: params: add the line      - conditions.${item.condition}.tokenize",
            "dvc.yaml: export: params: add the line      - conditions.${item.condition}.tokenize",
        ],
    ),
    "the values of one condition declared for all": (
        "dvc.yaml",
        "      - conditions.${item.condition}.sft\n",
        "      - conditions.baseline.sft\n",
        [
            "dvc.yaml: sft: params: add the line      - conditions.${item.condition}.sft",
            "dvc.yaml: sft: params: remove the line      - conditions.baseline.sft",
        ],
    ),
    "values of a condition that nothing reads": (
        "dvc.yaml",
        "      - conditions.${item.condition}.sft\n",
        "      - conditions.${item.condition}.model\n      - conditions.${item.condition}.sft\n",
        ["dvc.yaml: sft: params: remove the line      - conditions.${item.condition}.model"],
    ),
    "a key of a condition that is formatted": (
        "stages/tokenize.py",
        'f"conditions.{condition}.tokenize"',
        'f"conditions.{condition!s}.tokenize"',
        [
            "dvc.yaml: tokenize: a key given to read_section is computed; write it as a literal, or"
            ' as f"KEY.{item}.KEY" with a key of the matrix',
            "dvc.yaml: tokenize: params: remove the line      - "
            "conditions.${item.condition}.tokenize",
        ],
    ),
    "a folder of which a module is not imported": (
        "dvc.yaml",
        "      - model/hugging_face/directory.py\n",
        "      - model/hugging_face\n",
        [
            f"{STAGE}{DEPS}add the line      - model/hugging_face/directory.py",
            (
                f"{STAGE}{DEPS}remove the line      - model/hugging_face  (the stage does not"
                " import model/hugging_face/loading.py)"
            ),
        ],
    ),
    "a module of a folder that is all imported": (
        "dvc.yaml",
        "      - model/comparison\n",
        "      - model/comparison/outcomes.py\n",
        [
            f"{COMPARE}{DEPS}add the line      - model/comparison",
            f"{COMPARE}{DEPS}remove the line      - model/comparison/outcomes.py",
        ],
    ),
    "a folder and a module of it": (
        "dvc.yaml",
        "      - model/comparison\n",
        "      - model/comparison\n      - model/comparison/verdict.py\n",
        [f"{COMPARE}{DEPS}remove the line      - model/comparison/verdict.py"],
    ),
    "a folder that is not there": (
        "dvc.yaml",
        "      - model/comparison\n",
        "      - model/comparison\n      - model/gone\n",
        [f"{COMPARE}{DEPS}remove the line      - model/gone"],
    ),
    "a module of a folder that is no longer imported": (
        "stages/compare.py",
        "from model.comparison.verdict import limits, sentences\n",
        "",
        [
            *(
                f"{COMPARE}{DEPS}add the line      - model/comparison/{name}.py"
                for name in ("difference_tables", "family", "outcomes", "outcomes_file", "runs")
            ),
            (
                f"{COMPARE}{DEPS}remove the line      - model/comparison  (the stage does not"
                " import model/comparison/verdict.py)"
            ),
            ("model/comparison/verdict.py: no stage imports it; import it, or move it elsewhere"),
        ],
    ),
    "a fact that is not known": (
        "dvc.yaml",
        "meta: {verdict: true}",
        "meta: {verdikt: true}",
        [
            "dvc.yaml: distinct: meta: verdikt: unknown; known are checks_params, network,"
            " reads_code, resources, resumable, spreads, timings, verdict"
        ],
    ),
    "a phase that is no list": (
        "dvc.yaml",
        "spreads: [shards]",
        "spreads: shards",
        ["dvc.yaml: tokenize: meta: spreads: must be a list of different words, not 'shards'"],
    ),
    "a phase twice": (
        "dvc.yaml",
        "spreads: [shards]",
        "spreads: [shards, shards]",
        [
            "dvc.yaml: tokenize: meta: spreads: must be a list of different words, not ['shards',"
            " 'shards']"
        ],
    ),
    "a phase without pieces": (
        "dvc.yaml",
        "{resumable: true, spreads: [shards]}",
        "{spreads: [shards]}",
        [
            "dvc.yaml: tokenize: meta: spreads: needs resumable: true, because its phases leave"
            " pieces"
        ],
    ),
    "resources without amounts": (
        "dvc.yaml",
        "meta: {verdict: true}",
        "meta: {verdict: true, resources: {MEMORY: much}}",
        [
            "dvc.yaml: distinct: meta: resources: must map labels to amounts above 0, not"
            " {'MEMORY': 'much'}"
        ],
    ),
    "a fact that is denied": (
        "dvc.yaml",
        "meta: {verdict: true}",
        "meta: {verdict: false}",
        ["dvc.yaml: distinct: meta: verdict: must be true, not False; otherwise leave it out"],
    ),
    "another stage's libraries": (
        "dvc.yaml",
        "[libraries.yaml: [gsm8k]]",
        "[libraries.yaml: [distinct]]",
        [
            f"{GSM8K}{PARAMS}libraries.yaml: add the line      - gsm8k",
            f"{GSM8K}{PARAMS}libraries.yaml: remove the line      - distinct",
        ],
    ),
    "no libraries": (
        "dvc.yaml",
        "[libraries.yaml: [gsm8k]]",
        "[evaluate]",
        [
            f"{GSM8K}{PARAMS}remove the line      - evaluate",
            f"{GSM8K}{PARAMS}libraries.yaml: add the line      - gsm8k",
        ],
    ),
    "a list that params.yaml lacks": (
        "params.yaml",
        "conditions:",
        "condition:",
        ["params.yaml: conditions: missing; dvc.yaml uses it"],
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_false_declaration_is_a_line(copy, name):
    path, old, new, expected = MUTATIONS[name]
    replace(copy / path, old, new)
    of_results = ("dvc.lock", "dvc.contents", "metrics", "plots")
    findings = [line for line in check(WorkingTree(copy)) if not line.startswith(of_results)]
    assert findings == expected


def test_a_stage_imports_code_alone(copy):
    (copy / "tools").mkdir()
    (copy / "tools/costs.py").write_text("")
    replace(copy / "stages/evaluate.py", "import sys\n", "import sys\nfrom tools import costs\n")
    assert [line for line in check(WorkingTree(copy)) if "tools" in line] == [
        f"{STAGE}{DEPS}add the line      - tools/costs.py",
        "requirements.txt: does not pin tools, which a stage imports; add it to requirements.in",
        "stages/evaluate.py: reaches tools/costs.py; stages import only common, model, stages",
    ]


def test_a_module_without_a_stage_is_named(copy):
    (copy / "model/forgotten.py").write_text("")
    assert declaration_findings(WorkingTree(copy)) == [
        "model/forgotten.py: no stage imports it; import it, or move it elsewhere"
    ]


@pytest.mark.parametrize("name", ["model/comparison/seen.py", "model/comparison/notes.txt"])
def test_a_new_file_in_a_folder_that_is_a_dependency_unfolds_it(copy, name):
    """A stage would rerun for a file that it does not read."""
    (copy / name).write_text("")
    others = ("difference_tables", "family", "outcomes", "outcomes_file", "runs", "verdict")
    assert declaration_findings(WorkingTree(copy))[:7] == [
        *(f"{COMPARE}{DEPS}add the line      - model/comparison/{each}.py" for each in others),
        (
            f"{COMPARE}{DEPS}remove the line      - model/comparison  (the stage does not import"
            f" {name})"
        ),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/verdict.cpython-311.pyc",
        ".DS_Store",
        "verdict.py.orig",
        "verdict.py.rej",
        "#verdict.py#",
        ".#verdict.py",
        ".ipynb_checkpoints/verdict.py",
    ],
)
def test_a_file_that_dvc_leaves_out_of_a_folder_unfolds_nothing(copy, name):
    shutil.copy(REPOSITORY / ".dvcignore", copy)
    path = copy / "model/comparison" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert declaration_findings(WorkingTree(copy)) == []


def fixed(copy: Path) -> str:
    """Return what `make fix` prints and leaves to do in `copy`."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.check", "--fix"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_fix_writes_the_printed_lines_and_undoing_the_edit_undoes_them(copy):
    before = (copy / "dvc.yaml").read_text()
    source = (copy / "model/statistics/rates.py").read_text()
    added = "from model.params import tokenize\nfrom model.comparison import outcomes\n"
    (copy / "model/statistics/rates.py").write_text(added + source)
    libraries = (
        "libraries.yaml: gsm8k: lacks tokenizers, which the stage imports; run make libraries"
    )
    *printed, last = declaration_findings(WorkingTree(copy))
    assert len(printed) > 5
    assert last == libraries
    assert fixed(copy).splitlines() == [
        *printed,
        f"fix: {len(printed)} lines of dvc.yaml written",
        "fix: libraries.yaml written",
    ]
    assert declaration_findings(WorkingTree(copy)) == []
    after = Counter((copy / "dvc.yaml").read_text().splitlines())
    added_rows = after - Counter(before.splitlines())
    assert added_rows.total() == len([line for line in printed if ": add the line" in line])
    (copy / "model/statistics/rates.py").write_text(source)
    fixed(copy)
    assert (copy / "dvc.yaml").read_text() == before


@pytest.mark.parametrize("name", MUTATIONS)
def test_fix_leaves_no_line_to_write(copy, name):
    path, old, new, _ = MUTATIONS[name]
    replace(copy / path, old, new)
    try:
        lines = declaration_lines(WorkingTree(copy))
    except (SyntaxError, YamlFault):
        return  # for a person
    text, left = edited((copy / "dvc.yaml").read_text(), lines)
    (copy / "dvc.yaml").write_text(text)
    assert not left
    assert declaration_lines(WorkingTree(copy)) == []


def test_fix_makes_lists_that_are_not_there_and_removes_empty_ones():
    text = (
        "stages:\n  a:\n    cmd: x\n    # why\n    params:\n      - libraries.yaml:\n          -"
        " numpy\n"
    )
    line = Line("a", "deps", None, "model/x.py", True)
    without = Line("a", "params", "libraries.yaml", "numpy", False)
    whole, left = edited(text, [line, without])
    assert left == []
    brackets = text.replace("\n          - numpy", " [numpy]")
    assert edited(brackets, [line, without])[0] == whole
    assert whole == "stages:\n  a:\n    cmd: x\n    deps:\n      - model/x.py\n    # why\n"
    again, left = edited(whole, [without._replace(missing=True), line._replace(missing=False)])
    assert left == []
    assert yaml.safe_load(again) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("before", "line", "after"),
    [
        ("[b]", Line("a", "params", None, "x", True), "[b, x]"),
        ("[b, x]", Line("a", "params", None, "b", False), "[x]"),
        (
            '["b${item.c}", f: [k]]',
            Line("a", "params", None, "x", True),
            '["b${item.c}", x, f: [k]]',
        ),
        ("[f: [k]]", Line("a", "params", None, "x", True), "[x, f: [k]]"),
        ("[b, f: [k]]", Line("a", "params", "f", "a", True), "[b, f: [a, k]]"),
        ("[b, f: [a, k]]", Line("a", "params", "f", "k", False), "[b, f: [a]]"),
        ("[b, f: [k]]", Line("a", "params", "f", "k", False), "[b]"),
        ("[b]", Line("a", "params", "f", "k", True), "[b, f: [k]]"),
    ],
)
def test_fix_edits_a_list_in_brackets(before, line, after):
    text = "stages:\n  a:\n    cmd: x\n    params: {}  # why\n    deps: [c]\n"
    assert edited(text.format(before), [line]) == (text.format(after), [])


def test_fix_removes_the_row_of_a_list_in_brackets_that_becomes_empty():
    text = "stages:\n  a:\n    cmd: x\n    params: [f: [k]]\n"
    without = Line("a", "params", "f", "k", False)
    assert edited(text, [without]) == ("stages:\n  a:\n    cmd: x\n", [])


def test_fix_leaves_a_list_in_brackets_over_several_rows_to_a_person():
    text = "stages:\n  a:\n    cmd: x\n    deps: [model/x.py,\n      model/z.py]\n"
    line = Line("a", "deps", None, "model/y.py", True)
    assert edited(text, [line]) == (text, [line])


def test_instances_are_those_that_dvc_resolves(tmp_path):
    from dvc.repo import Repo

    for profile in ("params.yaml", "profiles/micro.yaml", "profiles/gpt2-124m-10b.yaml"):
        root = tmp_path / Path(profile).stem
        root.mkdir()
        for name in TEXT[:3]:
            shutil.copy(REPOSITORY / name, root / name)
        shutil.copy(REPOSITORY / profile, root / "params.yaml")
        Repo.init(root, no_scm=True).close()
        ours = read_instances(WorkingTree(root))
        with Repo(root) as repo:
            theirs = {stage.name: stage for stage in repo.index.stages}
            assert theirs.keys() == ours.keys()
            for name, stage in theirs.items():
                instance = ours[name]
                assert instance.command == stage.cmd
                paths = {dep.def_path for dep in stage.deps if not hasattr(dep, "params")}
                assert set(instance.deps) == paths
                keys = {
                    (dep.def_path, key)
                    for dep in stage.deps
                    if hasattr(dep, "params")
                    for key in dep.params
                }
                assert {
                    (file, key) for file, names in instance.params.items() for key in names
                } == keys
                assert dict(instance.meta) == (stage.meta or {})
                assert {(out, True) for out in instance.outs} | {
                    (out, False) for out in instance.tracked
                } == {(out.def_path, out.use_cache) for out in stage.outs}


@pytest.mark.parametrize(
    "profile", ["params.yaml", "profiles/micro.yaml", "profiles/gpt2-124m-10b.yaml"]
)
def test_parameters_read_back_from_dvcs_lock_are_those_of_params_yaml(profile):
    """DVC writes YAML 1.2, where 6e-05 is a number; PyYAML's own reading of it is text, and would
    never match.
    """
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    text = (REPOSITORY / profile).read_text()
    text = text.replace("parity_tolerance: 1.0e-4", "parity_tolerance: 1.0e-7")
    written = dumps_yaml(parse_yaml(text, profile))
    assert load_yaml(written.encode()) == load_yaml(text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6e-05", 6e-05),
        ("1.0e-4", 1e-4),
        ("-3", -3),
        ("on", "on"),
        ("12:30", "12:30"),
        ("true", True),
        ("~", None),
        ("'3'", "3"),
        (".inf", float("inf")),
    ],
)
def test_scalars_are_read_as_dvc_reads_them(text, value):
    read = load_yaml(f"a: {text}\n".encode())["a"]
    assert read == value
    assert type(read) is type(value)


def named_stages(source: str) -> list[str]:
    """Return the stages that Python source names: as a whole text, as a module or an instance, or
    in backticks.
    """
    names = "|".join(STAGES)
    naming = re.compile(rf"`({names})`|stages[./]({names})\b(?!\()|\b({names})@")
    found = [name for groups in naming.findall(source) for name in groups if name]
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    # dvc.yaml has a key `params`, git a command `fetch`.
    return [name for name in found + texts if name in STAGES and name not in ("params", "fetch")]


def test_pipeline_names_no_stage_and_dvc_yaml_says_what_is_special_about_one():
    for path in sorted((REPOSITORY / "pipeline").rglob("*.py")):
        assert named_stages(path.read_text()) == [], path
    assert named_stages('TIMED = {"pretrain"}') == ["pretrain"]
    assert named_stages('"""Only `sft` may, or export@baseline."""') == ["sft", "export"]
    special = {stage: set(text["meta"]) for stage, text in STAGES.items() if "meta" in text}
    of_a_cluster = {"resources"}  # its labels are those that a person gives their workers
    found = set().union(*special.values())
    assert found == FACTS.keys() - of_a_cluster, "every other fact is some stage's"
    assert [stage for stage, facts in special.items() if "network" in facts] == ["fetch"]


def test_every_stage_says_what_it_does_in_a_line():
    for stage, text in STAGES.items():
        assert re.fullmatch(r"[A-Z].{20,90}\.", text["desc"]), stage


def test_libraries_go_by_the_name_they_are_installed_under():
    from importlib import metadata

    names = metadata.packages_distributions()
    code = Code(WorkingTree(REPOSITORY))
    for imported in set().union(*(code.libraries(stage) for stage in STAGES)):
        keys = library_versions.inputs({imported}) | library_versions.NOT_INPUTS.keys()
        assert {name.lower().replace("_", "-") for name in names[imported]} & keys, imported


def test_transformers_reruns_exports_and_what_generates_with_them():
    libraries = load_yaml((REPOSITORY / "libraries.yaml").read_bytes())
    assert {stage for stage, versions in libraries.items() if "transformers" in versions} == {
        "export",
        "sft",
        "generate",
        "probes",
        "samples",
    }


def test_only_fetch_can_reach_the_network():
    code = Code(WorkingTree(REPOSITORY))
    for stage in STAGES:
        text = "".join((REPOSITORY / name).read_text() for name in code.closure(stage))
        assert bool(re.search(r"load_dataset|huggingface_hub|requests|urllib", text)) == (
            stage == "fetch"
        )
        calls = re.findall(
            r"from_pretrained\(([^)]*)\)", re.sub(r'from_pretrained\(("\."|…)\)', "", text)
        )
        assert all("local_files_only=True" in arguments for arguments in calls), stage


def test_every_output_root_is_in_the_static_gitignore_or_committed():
    ignored = (REPOSITORY / ".gitignore").read_text().split()
    for stage in STAGES.values():
        for output in stage.get("outs", []):
            if isinstance(output, dict):
                [(name, settings)] = output.items()
                assert settings["cache"] is False, (
                    f"{name} is committed, so DVC must not also ignore it"
                )
                continue
            assert any(
                f"/{output}".startswith(entry) for entry in ignored if entry.startswith("/")
            ), output
        for output in [*stage.get("metrics", []), *stage.get("plots", [])]:
            [(name, settings)] = output.items()
            assert settings["cache"] is False, (
                f"{name} is committed, so DVC must not also ignore it"
            )


def test_a_stage_that_depends_on_all_code_or_a_whole_file_declares_nothing_in_them():
    report = STAGES["report"]
    assert {"common", "model", "stages", "params.yaml", "libraries.yaml"} <= set(report["deps"])
    assert not [dep for dep in report["deps"] if dep.endswith(".py")]
    assert "params" not in report


@pytest.mark.parametrize("name", ["common", "model", "stages"])
def test_a_stage_that_reads_code_has_to_declare_all_of_it(copy, name):
    text = (copy / "dvc.yaml").read_text()
    start = text.index("\n  report:\n")
    (copy / "dvc.yaml").write_text(text[:start] + text[start:].replace(f"      - {name}\n", "", 1))
    assert declaration_findings(WorkingTree(copy)) == [
        f"dvc.yaml: report: deps: add the line      - {name}"
    ]


def test_a_folder_of_code_is_no_excuse_for_a_stage_that_does_not_read_code(copy):
    replace(copy / "dvc.yaml", "    meta: {reads_code: true}\n", "")
    findings = declaration_findings(WorkingTree(copy))
    assert "dvc.yaml: report: deps: add the line      - stages/report.py" in findings
    removed = [line for line in findings if "remove the line      - model  (the stage" in line]
    assert len(removed) == 1


def test_without_the_file_of_versions_the_stage_has_to_declare_its_libraries(copy):
    text = (copy / "dvc.yaml").read_text()
    start = text.index("\n  report:\n")
    (copy / "dvc.yaml").write_text(
        text[:start] + text[start:].replace("      - libraries.yaml\n", "", 1)
    )
    line = "dvc.yaml: report: params: libraries.yaml: add the line      - report"
    assert line in declaration_findings(WorkingTree(copy))


def test_a_link_to_dvc_yaml_that_is_none_is_a_finding(copy):
    line = "stages.yaml: is not the link to dvc.yaml; git restore stages.yaml"
    assert line not in check(WorkingTree(copy))
    (copy / "stages.yaml").unlink()
    assert line in check(WorkingTree(copy))
    (copy / "stages.yaml").write_text("{}")
    assert line in check(WorkingTree(copy))


def test_contents_leaves_out_what_dvc_leaves_out():
    lines = (REPOSITORY / ".dvcignore").read_text().splitlines()
    patterns = {line.removeprefix("\\") for line in lines if not line.startswith("#")}
    assert set(contents._IGNORED) == patterns - {"__pycache__", "*.pyc"}
