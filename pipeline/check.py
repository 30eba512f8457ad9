"""`make check`: dvc.yaml says what the code does, and dvc.lock, metrics/ and plots/ are of this tree. Needs no data.

    python -m pipeline.check            the working tree
    python -m pipeline.check --staged   git's index, for a pre-commit hook

Reads dvc.yaml, dvc.lock, dvc.contents.json, params.yaml, libraries.yaml, all code, metrics/ and plots/, and the tables of
README.md and docs/. Writes nothing; prints a line for each finding, and exits with 1 if there is one. A line that begins
with `note:` is no finding.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from common.yaml_file import YamlFault
from pipeline.declared import library_versions
from pipeline.declared.code_imports import CODE, WATCHER, Code, stage_of
from pipeline.declared.command_lines import command_line
from pipeline.declared.dvc_yaml import GRAPH, PARAMS, STAGES, below, read_instances, read_stages
from pipeline.declared.file_trees import GitTree, Tree, WorkingTree, without_ignored
from pipeline.declared.lockfile import CONTENTS, LOCK, REPRO, Graph, directory_hash, md5_of
from pipeline.declared.surroundings import questions
from pipeline.leftovers import PRUNE, withdrawn_values

RESULTS = ("metrics", "plots")
_PARITY = 1e-2  # far above any rounding, far below any fault


def declaration_findings(tree: Tree) -> list[str]:
    """Compare dvc.yaml and libraries.yaml with the code, both ways."""
    code, findings = Code(tree), []
    stages, instances = read_stages(tree), read_instances(tree).values()
    needed: set[str] = set()
    for stage, text in stages.items():
        findings += _unsafe_settings(stage, text)
        if stage_of(text["cmd"]) != stage:
            findings.append(
                f"dvc.yaml: {stage}: cmd must be python -m stages.{stage} and its arguments, not {text['cmd']!r}"
            )
            continue
        mine = [instance for instance in instances if instance.stage == stage]
        deps = set(text.get("deps", []))
        # A folder of code or a whole file is a dependency on all that is in it.
        folders = deps & set(CODE)
        imported = code.closure(stage) | code.choices(stage).keys()
        reached = {path for path in imported if not any(below(path, folder) for folder in folders)}
        findings += _compare(stage, "deps", {dep for dep in deps if dep.endswith(".py")}, reached)
        keys = {key for instance in mine for key in instance.params.get(PARAMS, ())}
        sections = code.sections(stage)
        if None in sections:
            findings.append(
                f"dvc.yaml: {stage}: a key given to read_section is computed; write it as a literal"
            )
        findings += _compare(
            stage, "params", keys, set() if PARAMS in deps else {key for key in sections if key}
        )
        used = library_versions.inputs(code.libraries(stage))
        named = {key for i in mine for key in i.params.get(library_versions.FILE, ())}
        findings += _compare(
            stage,
            f"params: {library_versions.FILE}",
            named,
            set() if library_versions.FILE in deps else used,
        )
        needed |= used
    findings += [line for path in code.files for line in questions(path, tree.read(path))]
    return findings + _library_findings(tree, needed) + _code_findings(code, stages)


def _unsafe_settings(stage: str, text: dict) -> list[str]:
    """Settings of DVC under which a stage keeps old outputs, or which the seal does not know."""
    keys = set(text) - {
        "cmd",
        "deps",
        "desc",
        "matrix",
        "meta",
        "metrics",
        "outs",
        "params",
        "plots",
    }
    outputs = [
        entry
        for key in ("outs", "metrics", "plots")
        for entry in text.get(key, [])
        if isinstance(entry, dict)
    ]
    persistent = [
        path for entry in outputs for path, settings in entry.items() if "persist" in settings
    ]
    findings = [
        f"dvc.yaml: {stage}: {key} can hide a stale result; remove it" for key in sorted(keys)
    ]
    return findings + [
        f"dvc.yaml: {stage}: {path}: persist can hide a stale result; remove it"
        for path in persistent
    ]


def _compare(stage: str, place: str, declared: set[str], needed: set[str]) -> list[str]:
    missing = [
        f"dvc.yaml: {stage}: {place}: add the line      - {name}"
        for name in sorted(needed - declared)
    ]
    return missing + [
        f"dvc.yaml: {stage}: {place}: remove the line      - {name}"
        for name in sorted(declared - needed)
    ]


def _library_findings(tree: Tree, needed: set[str]) -> list[str]:
    unknown = library_versions.unpinned(tree, needed)
    if unknown:
        return [
            f"{library_versions.LOCK}: does not pin {name}, which a stage imports; add it to requirements.in"
            for name in unknown
        ]
    if not tree.has(library_versions.FILE) or tree.read(
        library_versions.FILE
    ).decode() != library_versions.render(tree, needed):
        return [
            f"{library_versions.FILE}: not the versions of {library_versions.LOCK}; run make libraries"
        ]
    return []


def _code_findings(code: Code, stages: dict) -> list[str]:
    """Stages do not import each other, the library imports no stage, and every module is some stage's."""
    reached = set().union(
        *(code.closure(stage).union(*code.choices(stage).values()) for stage in stages)
    )
    findings = [
        f"{path}: no stage imports it; import it, or move it elsewhere"
        for path in code.files
        if path not in reached
    ]
    watching = code.importers(WATCHER) - {"stages/__init__.py"}
    findings += [
        f"{path}: imports {WATCHER}/, which is no stage's dependency; only stages/__init__.py may"
        for path in watching
    ]
    for stage in stages:
        others = [path for path in code.closure(stage) if below(path, "stages")]
        wrong = set(others) - {"stages/__init__.py", f"stages/{stage}.py"}
        findings += [
            f"stages/{stage}.py: reaches {path}; stages import model/ only"
            for path in sorted(wrong)
        ]
    return findings


def result_findings(tree: Tree) -> list[str]:
    """Compare dvc.lock with the tree: commands, code, params, inputs, committed results, and what is left over."""
    graph = Graph(tree)
    findings = []
    linked = tree.has(STAGES) and tree.read(STAGES) in (tree.read(GRAPH), GRAPH.encode())
    if not linked and any(STAGES in instance.deps for instance in graph.instances.values()):
        findings.append(f"{STAGES}: is not the link to {GRAPH}; git restore {STAGES}")
    findings += [
        f"{LOCK}: {name}: {line}; {REPRO}"
        for name, lines in graph.stale().items()
        for line in lines
    ]
    made = {path: md5 for recorded in graph.lock.values() for path, md5 in recorded.outs.items()}
    present = without_ignored(tree, tree.files(*RESULTS))
    outputs = [out for instance in graph.instances.values() for out in instance.outputs]
    alone = [
        out for instance in graph.instances.values() for out in instance.tracked if tree.has(out)
    ]
    for instance in graph.instances.values():
        for out in instance.tracked:
            paths = {*present, *alone}
            found = {
                path[len(out) + 1 :]: md5_of(tree.read(path)) for path in paths if below(path, out)
            }
            actual = found.get("") or (directory_hash(found) if found else None)
            if actual is None:
                findings.append(f"{out}: missing; {REPRO}")
            elif out in made and actual != made[out]:
                findings.append(f"{out}: is not what {instance.name} wrote; {REPRO}")
    findings += _past_the_gate(graph, tree)
    left = withdrawn_values(tree)
    for path in present:
        if not any(below(path, out) for out in outputs):
            why = left(path)
            # A file that no stage can write may be the only one of its kind.
            advice = (
                f"{PARAMS} no longer names {' and '.join(why)}; {PRUNE}"
                if why
                else "no stage writes it; move it elsewhere"
            )
            findings.append(f"{path}: {advice}")
    return findings


def notes(tree: Tree) -> list[str]:
    """Return what is no fault of this tree, in a line each."""
    gone = Graph(tree).withdrawn()
    found = []
    if gone:
        named = ", ".join(gone[:3]) + ("" if len(gone) <= 3 else f" and {len(gone) - 3} more")
        found.append(f"{LOCK} still has stages that {GRAPH} no longer gives ({named}); {PRUNE}")
    if isinstance(tree, WorkingTree) and tree.has("README.md"):
        found += _tables_of_another_run(tree.root)
    return found


def _tables_of_another_run(root: Path) -> list[str]:
    """Say whether README's and docs' tables are of another run than plots/, as after a run on another machine.

    `make lint` fails where they are of no run at all.
    """
    command = [sys.executable, "-m", "tools.generated.doc_tables", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip().removeprefix("error: ")
    return [] if "\n" in said or not said else [said]


def _past_the_gate(graph: Graph, tree: Tree) -> list[str]:
    """Exports that were kept with the gate given up: recorded like any other, and worthless."""
    paths = [
        out
        for instance in graph.instances.values()
        for out in instance.tracked
        if out.endswith("/parity.json")
    ]
    findings = []
    for path in filter(tree.has, paths):
        with contextlib.suppress(
            KeyError, TypeError, ValueError
        ):  # not what export wrote, which is a finding of its own
            difference = json.loads(tree.read(path))["max_abs_logit_difference"]
            if not difference <= _PARITY:
                findings.append(
                    f"{path}: logits differ by {difference:.3g}, so it is not its checkpoint; lower export.parity_tolerance"
                )
    return findings


def check(tree: Tree) -> list[str]:
    try:
        # A wrong declaration makes its stage look stale as well: one thing at a time.
        return declaration_findings(tree) or result_findings(tree)
    except YamlFault as error:
        return [str(error)]
    except json.JSONDecodeError as error:
        return [f"{CONTENTS}: not valid JSON: {error}; {REPRO}"]
    except (AttributeError, TypeError, ValueError) as error:
        return [f"dvc.yaml or {LOCK}: not as DVC writes it ({error})"]
    except KeyError as error:
        return [f"dvc.yaml or {LOCK}: not as DVC writes it (no {error})"]
    except FileNotFoundError as error:
        return [f"{error.filename or error}: missing"]
    except SyntaxError as error:
        return [f"{error.filename}:{error.lineno}: {error.msg}"]


def main() -> None:
    root = Path.cwd()
    parser = command_line("pipeline.check", __doc__)
    parser.add_argument(
        "--staged", action="store_true", help="what git's index has, in place of the working tree"
    )
    staged = parser.parse_args().staged
    try:
        tree = GitTree(root) if staged else WorkingTree(root)
    except ValueError as error:
        sys.exit(f"error: check: {error}")
    findings = check(tree)
    if findings:
        print("\n".join(findings))
        sys.exit(f"check: {len(findings)} finding{'s' * (len(findings) > 1)} in {tree.name}")
    for line in notes(tree):
        print(f"note: {line}")
    print(
        f"check: {len(read_instances(tree))} stages are declared and recorded as {tree.name} has them"
    )


if __name__ == "__main__":
    main()
