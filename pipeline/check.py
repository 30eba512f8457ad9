"""Check, without data, that dvc.yaml matches the code and that no result is stale (`make check`).

    python -m pipeline.check            the working tree
    python -m pipeline.check --staged   git's index, for a pre-commit hook
    python -m pipeline.check --fix      write the lines that it would print into dvc.yaml (make fix)

Two questions, one after the other. Does dvc.yaml declare what each stage's code imports and reads?
Do dvc.lock, metrics/ and plots/ belong to this tree? It prints a line for each finding, and exits
with 1 if there is one. A line that begins with `note:` is not a finding.

Reads dvc.yaml, dvc.lock, dvc.contents.json, params.yaml, libraries.yaml, all code, metrics/ and
plots/, and the tables of README.md and docs/. Writes nothing, except with --fix.
"""

import json
import sys
from pathlib import Path
from typing import Any

from common.files import write_bytes
from common.yaml_file import YamlFault
from pipeline.declared import library_versions
from pipeline.declared.code_imports import CODE, STAGES, WATCHER, Code, is_code, stage_of
from pipeline.declared.dvc_yaml import (
    FACTS,
    GRAPH,
    LINK,
    PARAMS,
    below,
    keys_of,
    read_instances,
    read_stages,
)
from pipeline.declared.faults import FAULTS
from pipeline.declared.file_trees import GitTree, Tree, WorkingTree, without_ignored
from pipeline.declared.lockfile import CONTENTS, LOCK, Graph, directory_hash, md5_of
from pipeline.declared.settings import PRUNE, REPRO, SETTINGS, command, hooks
from pipeline.declared.surroundings import questions
from pipeline.declared.timings import TIMINGS
from pipeline.dvc_support.carry import carry
from pipeline.fix import Line, edited
from pipeline.leftover.withdrawn import withdrawn_values
from pipeline.terminal.command_lines import command_line


def declaration_findings(tree: Tree) -> list[str]:
    """Return findings about entries that dvc.yaml and libraries.yaml lack, or should not have."""
    code, stages = Code(tree), read_stages(tree)
    findings = [
        line for stage, text in stages.items() for line in _stage_findings(code, stage, text)
    ]
    findings += map(str, declaration_lines(tree))
    findings += [line for path in code.files for line in questions(path, tree.read(path))]
    return findings + _library_findings(tree, code, stages) + _code_findings(code, stages)


def declaration_lines(tree: Tree) -> list[Line]:
    """Return the lines to add to dvc.yaml, and those to remove, by what the code reaches."""
    code, instances = Code(tree), read_instances(tree).values()
    lines: list[Line] = []
    stages = read_stages(tree)
    for stage in _understood(stages):
        deps = set(stages[stage].get("deps", []))
        lines += _code_lines(code, stage, stages[stage])
        # libraries.yaml lists a stage's libraries under the stage's name.
        used = {
            PARAMS: {key for key in code.sections(stage) if key},
            library_versions.FILE: {stage}
            if library_versions.needed(code, [stage])[stage]
            else set(),
        }
        written = keys_of(stages[stage].get("params", []))
        for file, needed in used.items():
            mine = [each.params.get(file, ()) for each in instances if each.stage == stage]
            named = set()
            for key, *became in zip(written.get(file, ()), *mine, strict=True):
                # dvc.yaml may have fetch.${item.input} where the code reads "fetch.hub" and so on.
                # Then it stands for the keys that it expands to, unless the code reads none of
                # those, or reads the key as it is written.
                is_whole = key in needed or not needed & set(became)
                named |= {key} if is_whole else set(became)
            nested = None if file == PARAMS else file
            # A dep on the whole file covers all its keys.
            lines += _differences(stage, "params", nested, named, set() if file in deps else needed)
    return lines


def _code_lines(code: Code, stage: str, text: dict[str, Any]) -> list[Line]:
    """Compare a stage's dependencies on code with the modules it reaches."""
    deps = text.get("deps", [])
    declared = {dep for dep in deps if is_code(dep) and not code.has_data(dep)}
    reads_code = text.get("meta", {}).get("reads_code")
    needed = set(CODE) if reads_code else code.dependencies(stage)
    lines = _differences(stage, "deps", None, declared, needed)
    return [line if line.missing else line._replace(why=_why(code, line)) for line in lines]


def _why(code: Code, line: Line) -> str:
    others = code.unreached(line.stage, line.entry)
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"the stage does not import {others[0]}{more}" if others else ""


def _differences(
    stage: str, key: str, file: str | None, declared: set[str], needed: set[str]
) -> list[Line]:
    missing = [Line(stage, key, file, name, True) for name in sorted(needed - declared)]
    return missing + [Line(stage, key, file, name, False) for name in sorted(declared - needed)]


def _stage_findings(code: Code, stage: str, text: dict[str, Any]) -> list[str]:
    """Return the faults of one stage in dvc.yaml that no added or removed line can fix."""
    findings = _unsafe_settings(stage, text) + _meta_findings(stage, text.get("meta", {}))
    if stage_of(text["cmd"]) != stage:
        return [
            *findings,
            (
                f"dvc.yaml: {stage}: cmd must be python -m {STAGES}.{stage} and its arguments, "
                f"not {text['cmd']!r}"
            ),
        ]
    if None in code.sections(stage):
        findings.append(
            f"dvc.yaml: {stage}: a key given to read_section is computed; write it as a literal, "
            'or as f"KEY.{item}.KEY" with a key of the matrix'
        )
    return findings


def _meta_findings(stage: str, meta: dict[str, Any]) -> list[str]:
    findings = []
    for key, value in meta.items():
        where = f"dvc.yaml: {stage}: meta: {key}"
        if key not in FACTS:
            findings.append(f"{where}: unknown; known are {', '.join(sorted(FACTS))}")
        elif key == "timings" and not str(value).startswith(f"{TIMINGS}/"):
            findings.append(f"{where}: must be a file below {TIMINGS}/, not {value!r}")
        elif key == "spreads" and not _are_phases(value):
            findings.append(f"{where}: must be a list of different words, not {value!r}")
        elif key == "spreads" and meta.get("resumable") is not True:
            findings.append(f"{where}: needs resumable: true, because its phases leave pieces")
        elif key == "resources" and not _are_amounts(value):
            findings.append(f"{where}: must map labels to amounts above 0, not {value!r}")
        elif key not in ("resources", "spreads", "timings") and value is not True:
            findings.append(f"{where}: must be true, not {value!r}; otherwise leave it out")
    return findings


def _are_phases(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(each, str) and each.split() == [each] for each in value)
        and 0 < len(value) == len(set(value))
    )


def _are_amounts(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(label, str) and type(amount) in (int, float) and amount > 0
        for label, amount in value.items()
    )


def _unsafe_settings(stage: str, text: dict[str, Any]) -> list[str]:
    """Return findings about DVC's settings that keep old outputs, or that the seal ignores."""
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


def _library_findings(tree: Tree, code: Code, stages: dict[str, dict[str, Any]]) -> list[str]:
    needed = library_versions.needed(code, stages)
    unknown = library_versions.unpinned(tree, set().union(*needed.values()))
    if unknown:
        return [
            f"{library_versions.LOCK}: does not pin {name}, which a stage imports; "
            "add it to requirements.in"
            for name in unknown
        ]
    lines = library_versions.differences(tree, needed)
    if not lines and tree.read(library_versions.FILE).decode() != library_versions.render(
        tree, needed
    ):
        lines = [f"{library_versions.FILE}: not as written; run {command('libraries')}"]
    return lines


def _understood(stages: dict[str, dict[str, Any]]) -> list[str]:
    """Return the stages whose command is `python -m stages.NAME …`, with their own name."""
    return [stage for stage, text in stages.items() if stage_of(text["cmd"]) == stage]


def _code_findings(code: Code, stages: dict[str, dict[str, Any]]) -> list[str]:
    """Return findings about imports.

    No stage may import another one, the library may import no stage, and some stage must import
    each module.
    """
    reached = set().union(*(code.closure(stage) for stage in stages))
    findings = [
        f"{path}: no stage imports it; import it, or move it elsewhere"
        for path in code.files
        if path not in reached
    ]
    watching = code.importers(WATCHER) - {f"{STAGES}/__init__.py"}
    findings += [
        f"{path}: imports {WATCHER}/, which is no stage's dependency; only {STAGES}/__init__.py may"
        for path in watching
    ]
    for stage in stages:
        others = [path for path in code.closure(stage) if below(path, STAGES)]
        wrong = set(others) - {f"{STAGES}/__init__.py", f"{STAGES}/{stage}.py"}
        findings += [
            f"{STAGES}/{stage}.py: reaches {path}; stages do not import each other"
            for path in sorted(wrong)
        ]
        outside = [path for path in code.closure(stage) if path.split("/")[0] not in CODE]
        findings += [
            f"{STAGES}/{stage}.py: reaches {path}; stages import only {', '.join(CODE)}"
            for path in sorted(outside)
        ]
    return findings


def result_findings(tree: Tree) -> list[str]:
    """Compare dvc.lock with the tree: commands, code, params, inputs, results, leftover files."""
    graph = Graph(tree)
    findings = []
    linked = tree.has(LINK) and tree.read(LINK) in (tree.read(GRAPH), GRAPH.encode())
    if not linked and any(LINK in instance.deps for instance in graph.instances.values()):
        findings.append(f"{LINK}: is not the link to {GRAPH}; git restore {LINK}")
    findings += [
        f"{LOCK}: {name}: {line}; {REPRO}"
        for name, lines in graph.stale().items()
        for line in lines
    ]
    made = {path: md5 for recorded in graph.lock.values() for path, md5 in recorded.outs.items()}
    # DVC reads from a dvc.yaml beside results how to draw them.
    present = [
        path
        for path in without_ignored(tree, tree.files(*SETTINGS.results))
        if path not in {f"{folder}/{GRAPH}" for folder in SETTINGS.results}
    ]
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
    findings += [line for found in hooks("findings") for line in found(tree)]
    left = withdrawn_values(tree)
    for path in present:
        if not any(below(path, out) for out in outputs):
            why = left(path)
            # A file that no stage writes may exist nowhere else, so never advise deleting it.
            advice = (
                f"{PARAMS} no longer names {' and '.join(why)}; {PRUNE}"
                if why
                else "no stage writes it; move it elsewhere"
            )
            findings.append(f"{path}: {advice}")
    return findings


def notes(tree: Tree) -> list[str]:
    """Return what a person should know although it is no fault of this tree, in a line each."""
    gone = Graph(tree).withdrawn()
    found = []
    if gone:
        named = ", ".join(gone[:3]) + ("" if len(gone) <= 3 else f" and {len(gone) - 3} more")
        found.append(f"{LOCK} still has stages that {GRAPH} no longer gives ({named}); {PRUNE}")
    return found + [line for note in hooks("notes") for line in note(tree)]


def check(tree: Tree) -> list[str]:
    try:
        # A wrong declaration also makes its stage look stale, so results are checked only after
        # the declarations are right.
        return declaration_findings(tree) or result_findings(tree)
    except _FAULTS as error:
        return [_fault(error)]


_FAULTS = (*FAULTS, SyntaxError)


def _fault(error: Exception) -> str:
    """Return one line about a file that cannot be parsed."""
    if isinstance(error, YamlFault):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"{CONTENTS}: not valid JSON: {error}; {REPRO}"
    if isinstance(error, FileNotFoundError):
        return f"{error.filename or error}: missing"
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    what = f"no {error}" if isinstance(error, KeyError) else str(error)
    return f"dvc.yaml or {LOCK}: not as DVC writes it ({what})"


def fix(root: Path) -> None:
    """Write into dvc.yaml the lines that the check would print; print those left to do by hand."""
    tree = WorkingTree(root)
    try:
        lines = declaration_lines(tree)
        text, by_hand = edited(tree.read(GRAPH).decode(), lines)
    except _FAULTS as error:
        sys.exit(f"error: check: {_fault(error)}")
    written = [line for line in lines if line not in by_hand]
    if written:
        write_bytes(root / GRAPH, text.encode())
    for line in written:
        print(line)
    print(f"fix: {len(written)} line{'s' * (len(written) != 1)} of {GRAPH} written")
    _write_libraries(tree)
    for name in carry(root):
        print(f"fix: {LOCK}: {name}: the same code under new names; it is not rerun")
    left = declaration_findings(tree)
    if left:
        print("\n".join(left))
        sys.exit(f"check: {len(left)} finding{'s' * (len(left) > 1)} left in {tree.name}")


def _write_libraries(tree: WorkingTree) -> None:
    """Write libraries.yaml if it is out of date and requirements.txt pins every library."""
    needed = library_versions.needed(Code(tree), read_stages(tree))
    if library_versions.unpinned(tree, set().union(*needed.values())):
        return
    content = library_versions.render(tree, needed).encode()
    if not tree.has(library_versions.FILE) or tree.read(library_versions.FILE) != content:
        write_bytes(tree.root / library_versions.FILE, content)
        print(f"fix: {library_versions.FILE} written")


def main() -> None:
    root = Path.cwd()
    parser = command_line("pipeline.check", __doc__)
    parser.add_argument(
        "--staged", action="store_true", help="check git's index in place of the working tree"
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="write the missing lines into dvc.yaml; remove the others",
    )
    asked = parser.parse_args()
    if asked.fix and asked.staged:
        parser.error("--fix changes the working tree, and --staged reads git's index")
    try:
        tree = GitTree(root) if asked.staged else WorkingTree(root)
    except ValueError as error:
        sys.exit(f"error: check: {error}")
    if asked.fix:
        fix(root)
        return
    findings = check(tree)
    if findings:
        print("\n".join(findings))
        sys.exit(f"check: {len(findings)} finding{'s' * (len(findings) > 1)} in {tree.name}")
    for line in notes(tree):
        print(f"note: {line}")
    print(
        f"check: {len(read_instances(tree))} stages are declared and recorded as {tree.name} has"
        " them"
    )


if __name__ == "__main__":
    main()
