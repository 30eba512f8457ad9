"""dvc.yaml says what the code does: its dependencies, its params, the network's place."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

from model.curves import CHARTS

STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]


def first_party_imports(path: Path) -> set[str]:
    """The repository's files that importing `path` runs directly, package __init__ files among them."""
    found = set()
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            for length in range(1, len(parts) + 1):
                base = Path(*parts[:length])
                found |= {str(file) for file in (base.with_suffix(".py"), base / "__init__.py") if (REPOSITORY / file).is_file()}
    return found


def closure(stage: str) -> set[str]:
    todo = [f"stages/{stage}.py", "stages/__init__.py"]
    seen = set(todo)
    while todo:
        new = first_party_imports(Path(todo.pop())) - seen
        seen |= new
        todo += new
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_exactly_the_imports(stage):
    module = re.match(r"python -m stages\.(\w+)", STAGES[stage]["cmd"])[1]
    assert module == stage
    declared = {dependency for dependency in STAGES[stage]["deps"] if dependency.endswith(".py")}
    assert declared == closure(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_exactly_the_sections_read(stage):
    source = (REPOSITORY / "stages" / f"{stage}.py").read_text()
    read = set(re.findall(r'read_section\("([\w.]+)"', source))
    declared = set(STAGES[stage].get("params", []))
    if stage == "fetch":
        assert declared == {"fetch.${item.input}"}
        assert read == {f"fetch.{name}" for name in STAGES["fetch"]["matrix"]["input"]}
    else:
        assert declared == read


def test_no_stage_imports_another_and_no_library_module_imports_a_stage():
    for path in [*REPOSITORY.glob("stages/*.py"), *REPOSITORY.glob("model/**/*.py")]:
        imported = first_party_imports(path.relative_to(REPOSITORY))
        assert not {name for name in imported if name.startswith("stages/")}, path


def test_every_module_is_used_by_a_stage():
    used = set().union(*(closure(stage) for stage in STAGES))
    assert {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("model/**/*.py")} <= used


def test_only_fetch_can_reach_the_network():
    for stage in STAGES:
        code = "".join((REPOSITORY / name).read_text() for name in closure(stage))
        assert bool(re.search(r"load_dataset|huggingface_hub|requests|urllib", code)) == (stage == "fetch")
        calls = re.findall(r"from_pretrained\(([^)]*)\)", code.replace('from_pretrained(".")', ""))
        assert all("local_files_only=True" in arguments for arguments in calls), stage


def test_dvc_plots_every_chart_that_the_curves_stage_writes():
    declared = [name for entry in STAGES["curves"]["plots"] for name in entry]
    assert declared == [*(f"plots/{chart.name}.csv" for chart in CHARTS), "plots/figures"]
    for entry, chart in zip(STAGES["curves"]["plots"], CHARTS, strict=False):
        [settings] = entry.values()
        assert settings["title"].startswith(chart.title)
        assert settings["y_label"].startswith(chart.y_label)


def test_every_output_root_is_in_the_static_gitignore_or_committed():
    ignored = (REPOSITORY / ".gitignore").read_text().split()
    for stage in STAGES.values():
        for output in stage["outs"]:
            assert any(f"/{output}".startswith(entry) for entry in ignored if entry.startswith("/")), output
        for output in [*stage.get("metrics", []), *stage.get("plots", [])]:
            [(name, settings)] = output.items()
            assert settings["cache"] is False, f"{name} is committed, so DVC must not also ignore it"
