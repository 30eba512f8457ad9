"""Print `--help` of a stage or command: the module's docstring, its arguments, examples.

A stage's arguments are the places in its command of dvc.yaml; params.yaml has their values. Help is
printed before the stage imports anything, so it takes no seconds and needs no data. Wrong arguments
exit with 2, as in argparse.
"""

import argparse
import ast
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

from common.yaml_file import YamlFault
from pipeline.declared.code_imports import STAGES
from pipeline.declared.dvc_yaml import PARAMS, Instance, expand, read_mapping, read_stages
from pipeline.declared.faults import FAULTS
from pipeline.declared.file_trees import Tree, WorkingTree
from pipeline.terminal.streams import end_unread, go_on_unread

WRONG_ARGUMENTS = 2
_HELP = {"-h", "--help"}
_PLACE = re.compile(r"\$\{item\.(\w+)\}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the error as all commands here print theirs: `error: …` in one line."""
        self.print_usage(sys.stderr)
        self.exit(WRONG_ARGUMENTS, f"error: {message}\n")


def command_line(
    module: str, text: str | None, *, changes: bool = False
) -> argparse.ArgumentParser:
    """Return the parser of a command for people; its help is the docstring `text`.

    If the reader of the output closes it (`… | head`), a command that `changes` something
    continues; any other ends.
    """
    (go_on_unread if changes else end_unread)()
    layout = argparse.RawDescriptionHelpFormatter
    return _Parser(
        prog=f"python -m {module}", description=text, formatter_class=layout, allow_abbrev=False
    )


def instance_of(root: Path, command: list[str]) -> Instance:
    """Return the instance whose command in dvc.yaml is `command`, `-m stages.NAME …`.

    Exits with 0 after printing help, and with 2 if dvc.yaml has no such command.
    """
    _, module, *arguments = command
    tree = WorkingTree(root)
    if not tree.has("dvc.yaml"):
        sys.exit(f"error: no dvc.yaml in {root}: run stages from the repository's root")
    stage = module.removeprefix(STAGES).removeprefix(".")
    try:
        stages = read_stages(tree)
        if _HELP & set(arguments) and (stage in stages or not stage):
            print(_help(tree, stages, stage))
            sys.exit(0)
        instances = _instances(tree, stages, stage)
    except YamlFault as error:
        sys.exit(f"error: {error}")
    except FAULTS as error:
        sys.exit(
            f"error: dvc.yaml or {PARAMS}: cannot be understood ({error!r})".replace("\n", " ")
        )
    text = shlex.join(["python", "-m", module, *arguments])
    found = [instance for instance in instances if instance.command == text]
    if not found:
        print(_usage(stages, stage), file=sys.stderr)
        print(
            f"error: dvc.yaml has no stage whose command is {text!r}; dvc stage list names them",
            file=sys.stderr,
        )
        sys.exit(WRONG_ARGUMENTS)
    return found[0]


def _instances(tree: Tree, stages: dict[str, dict[str, Any]], stage: str) -> list[Instance]:
    if stage not in stages:
        return []
    return expand(
        stage, stages[stage], read_mapping(tree, PARAMS) if "matrix" in stages[stage] else {}
    )


def _usage(stages: dict[str, dict[str, Any]], stage: str) -> str:
    if stage not in stages:
        return f"usage: python -m {STAGES}.NAME …; NAME is one of {', '.join(stages)}"
    return "usage: " + _PLACE.sub(lambda place: place[1].upper(), stages[stage]["cmd"])


def _help(tree: Tree, stages: dict[str, dict[str, Any]], stage: str) -> str:
    if not stage:
        width = max(map(len, stages))
        lines = [f"  {name:{width}}  {_docstring(tree, name).splitlines()[0]}" for name in stages]
        return "\n".join(
            [
                _usage(stages, stage),
                "",
                *lines,
                "",
                f"python -m {STAGES}.NAME --help says what one of them does.",
            ]
        )
    parts = [_usage(stages, stage), _docstring(tree, stage)]
    try:
        instances = _instances(tree, stages, stage)
    except (YamlFault, KeyError, OSError):  # a fault in params.yaml must not prevent help
        return "\n\n".join(parts)
    arguments = [
        f"  {name:11} {', '.join(values)}"
        for name, values in _arguments(stages[stage]["cmd"], instances).items()
    ]
    if arguments:
        parts.append("\n".join([f"arguments, as dvc.yaml and {PARAMS} have them:", *arguments]))
    if instances:
        first = instances[0]
        ways = (
            f"  {first.command}",
            f"  dvc repro {first.name}    # what it needs too, as far as it is out of date",
        )
        parts.append("\n".join(["examples:", *ways]))
    parts.append(
        "exit status: 0 done, 1 refused or failed, 2 wrong arguments; docs/commands.md has all."
    )
    return "\n\n".join(parts)


def _docstring(tree: Tree, stage: str) -> str:
    return ast.get_docstring(ast.parse(tree.read(f"{STAGES}/{stage}.py"))) or ""


def _arguments(command: str, instances: list[Instance]) -> dict[str, list[str]]:
    """Return the values of each argument of a stage's `command`, in the order of its instances.

    `python -m stages.train ${item.run} 500` has one argument: {"RUN": ["a", "b"]}.
    """
    words = [shlex.split(instance.command) for instance in instances]
    places = enumerate(shlex.split(command))
    return {
        place[1].upper(): list(dict.fromkeys(line[position] for line in words))
        for position, word in places
        if (place := _PLACE.fullmatch(word))
    }
