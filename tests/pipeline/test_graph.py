"""dvc.yaml says what the code does: code, params, libraries, both ways; and the check that holds it to that."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from committed import committed_text, committed_tree
from conftest import REPOSITORY

from pipeline.check import check, declaration_findings
from pipeline.declared import library_versions
from pipeline.declared.code_imports import Code
from pipeline.declared.dvc_yaml import load_yaml, read_instances
from pipeline.declared.file_trees import WorkingTree
from stages import contents

TEXT = (
    "dvc.yaml",
    "params.yaml",
    "libraries.yaml",
    "requirements.txt",
    "common",
    "model",
    "stages",
    "stages.yaml",
)
DVC = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
STAGES = DVC["stages"]


def test_everything_is_declared():
    assert declaration_findings(WorkingTree(REPOSITORY)) == []


def test_the_committed_results_are_of_the_committed_tree():
    """`make check` of git's index: fails once an edit that reruns stages is added without what make repro makes of it."""
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
        "model/statistics/rates.py", "import math\n", "import math\nimport model.tokens.facts\n",
        [f"{STAGE}{DEPS}add the line      - model/tokens/facts.py"],
    ),
    "an import inside a function": (
        "model/statistics/rates.py", "    total = len(correct)\n", "    from model import facts\n    total = len(correct)\n",
        [f"{STAGE}{DEPS}add the line      - model/tokens/facts.py"],
    ),
    "a relative import": (
        "model/statistics/rates.py", "import math\n", "import math\nfrom . import facts\n",
        [f"{STAGE}{DEPS}add the line      - model/tokens/facts.py"],
    ),
    "an import of a package within the package": (
        "model/statistics/rates.py", "import math\n", "import math\nfrom .params import tokenize\n",
        [f"{STAGE}{DEPS}add the line      - model/params/tokenize.py",
         f"{GSM8K}{DEPS}add the line      - model/params/__init__.py",
         f"{GSM8K}{DEPS}add the line      - model/params/tokenize.py",
         f"{GSM8K}{DEPS}add the line      - common/sections.py",
         f"{GSM8K}{DEPS}add the line      - common/yaml_file.py",
         f"{PROBES}{DEPS}add the line      - model/params/tokenize.py",
         f"{COMPARE}{DEPS}add the line      - model/params/__init__.py",
         f"{COMPARE}{DEPS}add the line      - model/params/tokenize.py"],
    ),
    "an import that another module still has": (
        "model/scoring/scorer.py", "from model.tasks.item_scores import ItemScore\n", "",
        [],  # item_scores is still imported by the stage
    ),
    "a stage's code that imports what watches it": (
        "model/statistics/rates.py", "import math\n", "import math\nfrom pipeline.declared.lockfile import md5_of\n",
        ["model/statistics/rates.py: imports pipeline/, which is no stage's dependency; only stages/__init__.py may"],
    ),
    "a library that is not locked": (
        "model/statistics/rates.py", "import math\n", "import math\nimport wandb\n",
        [f"{STAGE}{PARAMS}libraries.yaml: add the line      - wandb",
         f"{GSM8K}{PARAMS}libraries.yaml: add the line      - wandb",
         f"{PROBES}{PARAMS}libraries.yaml: add the line      - wandb",
         f"{COMPARE}{PARAMS}libraries.yaml: add the line      - wandb",
         "requirements.txt: does not pin wandb, which a stage imports; add it to requirements.in"],
    ),
    "a conflict of a merge": (
        "dvc.yaml", "stages:\n", "<<<<<<< ours\nstages:\n",
        ["dvc.yaml: not valid YAML at line 8: mapping values are not allowed in this context"],
    ),
    "a dependency that nothing imports any more": (
        "stages/evaluate.py",
        "from model.runtime.torch_setup import keep_freed_memory, require_device, require_dtype, set_deterministic\n",
        "",
        [f"{STAGE}{DEPS}remove the line      - model/runtime/torch_setup.py"],
    ),
    "a section that is not declared": (
        "stages/evaluate.py", "    params = read", "    other = read_section('items', dict)\n    params = read",
        [f"{STAGE}{PARAMS}add the line      - items"],
    ),
    "a section that nothing reads": (
        "stages/evaluate.py", 'read_section("evaluate", EvaluateParams)', "None",
        [f"{STAGE}{PARAMS}remove the line      - evaluate"],
    ),
    "a key that is computed": (
        "stages/evaluate.py", "    params = read", "    other = read_section(str(1), dict)\n    params = read",
        [f"{STAGE}a key given to read_section is computed; write it as a literal"],
    ),
    "a library that is not declared": (
        "model/statistics/rates.py", "import math\n", "import math\nimport tiktoken\n",
        [f"{STAGE}{PARAMS}libraries.yaml: add the line      - tiktoken",
         f"{GSM8K}{PARAMS}libraries.yaml: add the line      - tiktoken",
         f"{PROBES}{PARAMS}libraries.yaml: add the line      - tiktoken",
         f"{COMPARE}{PARAMS}libraries.yaml: add the line      - tiktoken"],
    ),
    "a library that nothing imports any more": (
        "model/statistics/paired.py", "statsmodels", "numpy",
        [
            "dvc.yaml: compare: params: libraries.yaml: remove the line      - statsmodels",
            "libraries.yaml: not the versions of requirements.txt; run make libraries",
        ],
    ),
    "a version that is not the locked one": (
        "requirements.txt", "transformers==5.23.0", "transformers==5.24.0",
        ["libraries.yaml: not the versions of requirements.txt; run make libraries"],
    ),
    "a frozen stage": (
        "dvc.yaml", "    cmd: python -m stages.curves", "    frozen: true\n    cmd: python -m stages.curves",
        ["dvc.yaml: curves: frozen can hide a stale result; remove it"],
    ),
    "an output that outlives its stage": (
        "dvc.yaml", "      - data/corpus\n\n", "      - data/corpus:\n          persist: true\n\n",
        ["dvc.yaml: corpus: data/corpus: persist can hide a stale result; remove it"],
    ),
    "another module than the stage's": (
        "dvc.yaml", "python -m stages.evaluate", "python -m stages.curves",
        [f"{STAGE}cmd must be python -m stages.evaluate and its arguments, not "
         "'python -m stages.curves ${item.condition} ${item.seed} ${item.step}'"],
    ),
    "more than a stage in a command": (
        "dvc.yaml", "cmd: python -m stages.curves", "cmd: python -m stages.curves && touch x",
        ["dvc.yaml: curves: cmd must be python -m stages.curves and its arguments, not 'python -m stages.curves && touch x'",
         "libraries.yaml: not the versions of requirements.txt; run make libraries"],
    ),
    "a stage that imports another": (
        "stages/evaluate.py", "import sys\n", "import sys\nimport stages.items\n",
        [*(f"{STAGE}{DEPS}add the line      - {name}.py" for name in (
            "model/data/documents", "model/data/item_selection", "model/params/items", "model/data/source_names", "stages/items")),
         f"{STAGE}{PARAMS}add the line      - items", f"{STAGE}{PARAMS}libraries.yaml: add the line      - pyarrow",
         "stages/evaluate.py: reaches stages/items.py; stages import model/ only"],
    ),
    "a hidden import": (
        "model/statistics/rates.py", "    total = len(correct)\n", "    total = importlib.import_module('model.tokens.facts')\n",
        ["model/statistics/rates.py:23: import_module hides an import from dvc.yaml; write an import statement"],
    ),
    "a choice of modules that is not declared": (
        "dvc.yaml", "      - model/conditions/${item.condition}.py\n", "",
        ["dvc.yaml: tokenize: deps: add the line      - model/conditions/${item.condition}.py",
         "dvc.yaml: export: deps: add the line      - model/conditions/${item.condition}.py"],
    ),
    "a module declared that is not the chosen one": (
        "dvc.yaml", "      - model/conditions/${item.condition}.py\n", "      - model/conditions/baseline.py\n",
        ["dvc.yaml: tokenize: deps: add the line      - model/conditions/${item.condition}.py",
         "dvc.yaml: tokenize: deps: remove the line      - model/conditions/baseline.py",
         "dvc.yaml: export: deps: add the line      - model/conditions/${item.condition}.py",
         "dvc.yaml: export: deps: remove the line      - model/conditions/baseline.py"],
    ),
    "an import in a module that may be chosen": (
        "model/conditions/digits.py", "from model.conditions", "import scipy\nimport model.statistics.rates\nfrom model.conditions",
        ["dvc.yaml: tokenize: deps: add the line      - model/statistics/rates.py",
         "dvc.yaml: tokenize: params: libraries.yaml: add the line      - scipy",
         "dvc.yaml: export: deps: add the line      - model/statistics/rates.py",
         "dvc.yaml: export: params: libraries.yaml: add the line      - scipy"],
    ),
    "a choice in a module that is chosen": (
        "model/conditions/digits.py", "from model.conditions", 'from importlib import import_module\n'
        'which = "hf"\nOTHER = import_module(f"model.{which}")\nfrom model.conditions',
        ["model/conditions/digits.py:1: a module that is chosen chooses another, which hides an import from dvc.yaml"],
    ),
    "a choice that is formatted": (
        "stages/tokenize.py", 'f"model.conditions.{condition}"', 'f"model.conditions.{condition!s}"',
        ["stages/tokenize.py:32: import_module hides an import from dvc.yaml; write an import statement"],
    ),
    "a choice of what is not said": (
        "stages/tokenize.py", 'f"model.conditions.{condition}"', 'f"model.{condition}.baseline"',
        ["stages/tokenize.py:32: import_module hides an import from dvc.yaml; write an import statement"],
    ),
    "a list that params.yaml lacks": (
        "params.yaml", "conditions: [", "condition: [", ["params.yaml: conditions: missing; dvc.yaml uses it"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_false_declaration_is_a_line(copy, name):
    path, old, new, expected = MUTATIONS[name]
    replace(copy / path, old, new)
    of_results = ("dvc.lock", "dvc.contents", "metrics", "plots")
    findings = [line for line in check(WorkingTree(copy)) if not line.startswith(of_results)]
    assert findings == expected


def test_a_module_without_a_stage_is_named(copy):
    (copy / "model/forgotten.py").write_text("")
    assert declaration_findings(WorkingTree(copy)) == [
        "model/forgotten.py: no stage imports it; import it, or move it elsewhere"
    ]


def test_following_the_printed_lines_makes_the_check_pass(copy):
    replace(
        copy / "model/statistics/rates.py",
        "import math\n",
        "import math\nfrom model import facts\n",
    )
    for line in declaration_findings(WorkingTree(copy)):
        stage, place, added = re.fullmatch(
            r"dvc\.yaml: (\w+): (\w+): add the line {6}(- .*)", line
        ).groups()
        text = (copy / "dvc.yaml").read_text()
        start = text.index(f"    {place}:\n", text.index(f"\n  {stage}:\n")) + len(
            f"    {place}:\n"
        )
        (copy / "dvc.yaml").write_text(f"{text[:start]}      {added}\n{text[start:]}")
    assert declaration_findings(WorkingTree(copy)) == []


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
                assert {(out, True) for out in instance.outs} | {
                    (out, False) for out in instance.tracked
                } == {(out.def_path, out.use_cache) for out in stage.outs}


@pytest.mark.parametrize(
    "profile", ["params.yaml", "profiles/micro.yaml", "profiles/gpt2-124m-10b.yaml"]
)
def test_parameters_read_back_from_dvcs_lock_are_those_of_params_yaml(profile):
    """DVC writes YAML 1.2, where 6e-05 is a number; PyYAML's own reading of it is text, and would never match."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    text = (REPOSITORY / profile).read_text()
    text = text.replace("parity_tolerance: 1.0e-4", "parity_tolerance: 1.0e-7")
    written = dumps_yaml(parse_yaml(text, profile))
    assert load_yaml(written.encode()) == load_yaml(text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [("6e-05", 6e-05), ("1.0e-4", 1e-4), ("-3", -3), ("on", "on"), ("12:30", "12:30"), ("true", True), ("~", None),
     ("'3'", "3"), (".inf", float("inf"))],
)  # fmt: skip
def test_scalars_are_read_as_dvc_reads_them(text, value):
    read = load_yaml(f"a: {text}\n".encode())["a"]
    assert read == value
    assert type(read) is type(value)


def test_libraries_go_by_the_name_they_are_installed_under():
    from importlib import metadata

    names = metadata.packages_distributions()
    code = Code(WorkingTree(REPOSITORY))
    for imported in set().union(*(code.libraries(stage) for stage in STAGES)):
        keys = library_versions.inputs({imported}) | library_versions.NOT_INPUTS.keys()
        assert {name.lower().replace("_", "-") for name in names[imported]} & keys, imported


def test_transformers_reruns_exports_and_what_generates_with_them():
    named = {stage for stage, text in STAGES.items() for entry in text.get("params", []) if isinstance(entry, dict)
             for key in entry["libraries.yaml"] if key == "transformers"}  # fmt: skip
    assert named == {"export", "sft", "generate", "probes"}


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
def test_without_its_folder_of_code_the_stage_has_to_declare_its_modules(copy, name):
    text = (copy / "dvc.yaml").read_text()
    start = text.index("\n  report:\n")
    (copy / "dvc.yaml").write_text(text[:start] + text[start:].replace(f"      - {name}\n", "", 1))
    missing = f"dvc.yaml: report: deps: add the line      - {name}/"
    findings = declaration_findings(WorkingTree(copy))
    assert findings
    assert all(line.startswith(missing) for line in findings)


def test_without_the_file_of_versions_the_stage_has_to_declare_its_libraries(copy):
    text = (copy / "dvc.yaml").read_text()
    start = text.index("\n  report:\n")
    (copy / "dvc.yaml").write_text(
        text[:start] + text[start:].replace("      - libraries.yaml\n", "", 1)
    )
    line = "dvc.yaml: report: params: libraries.yaml: add the line      - vl-convert-python"
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
    patterns = {line for line in lines if not line.startswith("#")}
    assert set(contents._IGNORED) == patterns - {"__pycache__", "*.pyc"}
