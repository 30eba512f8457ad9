"""Write docs/parameters.md, the reference of every key of params.yaml (part of `make tables`).

    python -m tools.generated.parameters            writes it
    python -m tools.generated.parameters --check    exits with 1 if it is stale

What a key is, its unit and its bounds come from the sections in model/params. The default is the
value in params.yaml. What an edit reruns comes from dvc.yaml. Reads these. Writes
docs/parameters.md.
"""

import re
import sys
from pathlib import Path
from typing import Any, get_args

import yaml

from common.errors import PipelineError
from common.files import write_bytes
from common.yaml_file import YamlFault
from model.params.all_sections import Params
from model.params.conditions import Overrides
from pipeline.declared.dvc_yaml import PARAMS, read_mapping
from pipeline.declared.file_trees import Tree, WorkingTree
from pipeline.terminal.command_lines import command_line
from tools.generated.parameter_rows import (
    NAME,
    SOURCE,
    Reference,
    Row,
    about,
    docstring,
    is_section,
    reference,
    row_of,
)
from tools.generated.reruns import Reruns

REFERENCE = "docs/parameters.md"
_LONGEST_DEFAULT = 72
_INTRODUCTION = """\
# Parameters

Every key of [params.yaml](../params.yaml). `make tables` writes this page from the typed sections
in `model/params` and from `dvc.yaml`; `make lint` fails if it is stale. An unknown, missing or
wrong key stops the stage `params` with one line that names the key.

- **Default** is the value in the `params.yaml` of this branch; on main, the demonstration's.
  [profiles/](../profiles) has complete files for other scales.
- **Allowed** has the type and the bounds that the code enforces.
- **Reruns** has the stages that read the key. The stages after them rerun if one of their inputs
  comes out different. `make impact` lists both for an edit that you have made.
- Any edit of params.yaml, of a comment too, also reruns {of_the_file}: they read the whole file.
- `NAME` stands for a name that you choose: letters a to z, digits and `_`, a letter first, at most
  64 characters. Names that a table or file of results has already are refused.
"""


def main() -> None:
    parser = command_line("tools.generated.parameters", __doc__, changes=True)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, and exit with 1 if it is stale"
    )
    check = parser.parse_args().check
    tree = WorkingTree(Path.cwd())
    try:
        text = markdown(tree).encode()
        stale = not tree.has(REFERENCE) or tree.read(REFERENCE) != text
    except _FAULTS as error:
        sys.exit(f"error: {REFERENCE} cannot be made: {error}".replace("\n", " "))
    if check and stale and tree.has(REFERENCE) and _same_but_defaults(text, tree.read(REFERENCE)):
        print(
            f"{REFERENCE}: its defaults are not this params.yaml's, which make tables would write"
        )
        return
    if check and stale:
        sys.exit(
            f"error: {REFERENCE} is not that of params.yaml, model/params and dvc.yaml; "
            "run make tables"
        )
    if stale:
        write_bytes(Path(REFERENCE), text)
        print(f"tables: {REFERENCE}")


# Of a params.yaml that is no valid one, too: `make check` says what is wrong in it.
_FAULTS = (
    AttributeError,
    KeyError,
    OSError,
    PipelineError,
    TypeError,
    ValueError,
    YamlFault,
)


def _same_but_defaults(one: bytes, other: bytes) -> bool:
    """Return whether two references differ in their second column only, as a branch's may."""
    defaults = re.compile(rb"^(\| `[^`\n]+` \|)(?:[^|\\\n]|\\.)*\|", re.MULTILINE)
    return defaults.sub(rb"\1", one) == defaults.sub(rb"\1", other)


def markdown(tree: Tree) -> str:
    """Return docs/parameters.md for `tree`."""
    params, reruns, found = read_mapping(tree, PARAMS), Reruns(tree), reference()
    parts = [_INTRODUCTION.format(of_the_file=_names(reruns.of_the_file()))]
    for name, rows in found.sections.items():
        text = about(Params, name)
        if [row.key for row in rows] == [name]:
            text = ""  # the table's one row says it
        if text and not is_section(Params.model_fields[name].annotation):
            text += f" Allowed: {row_of(Params, name, name).allowed}."
        parts += [f"\n## {name}\n", text and f"\n{_linked(text)}\n", _overridable(name), "\n"]
        parts.append(_table(rows, params, reruns))
        following = reruns.following(reruns.of_section([row.key for row in rows]))
        if following:
            parts.append(f"\nWhat follows, if outputs come out different: {_names(following)}.\n")
        if name == "fetch":
            parts += _of_sources(found)
    return "".join(parts)


def _overridable(name: str) -> str:
    if name not in Overrides.model_fields:
        return ""
    kind: Any = Params.model_fields[name].annotation
    common = [key for key in kind.model_fields if key in kind.COMMON]
    text = f"\nA condition may have its own value of a key, below `conditions.NAME.{name}`"
    return text + (f". All conditions share {_names(common)}.\n" if common else ".\n")


def _table(rows: list[Row], params: dict[str, Any], reruns: Reruns) -> str:
    lines = [
        "| Key | Default | Unit | Allowed | What it is | Reruns |",
        "|---|---|---|---|---|---|",
    ]
    for key, text, unit, allowed in rows:
        stages = _names(reruns.direct(key))
        runs = reruns.for_each(key)
        if runs:
            stages = f"{stages}; each entry has its own {_names(runs)}".removeprefix("; ")
        lines.append(_line(f"`{key}`", default(params, key), unit, allowed, text, stages))
    return "\n".join(lines) + "\n"


def _of_sources(found: Reference) -> list[str]:
    parts = [f"\n### Sources\n\nEach table names the keys that `{SOURCE}` stands for.\n"]
    for kind, rows in found.sources.items():
        places = _names(list(dict.fromkeys(found.places[kind])))
        name = get_args(kind.model_fields["kind"].annotation)[0]
        parts.append(f"\n**`{name}`**, of {places}. {docstring(kind)}\n\n")
        parts.append("| Key | Allowed | What it is |\n|---|---|---|\n")
        parts += [_line(f"`{row.key}`", row.allowed, row.about) + "\n" for row in rows]
    return parts


def _line(*cells: str) -> str:
    escaped = [" ".join(_linked(cell).split()).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _linked(text: str) -> str:
    """Return a description with its documents as links from docs/."""
    return re.sub(r"\bdocs/(\w+[.]md)", r"[\1](\1)", text)


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def default(params: dict[str, Any], key: str) -> str:
    """Return the value of `key` in params.yaml; of a key with NAME, each name's."""
    values = _values(params, key.split("."), "")
    texts = {name: _yaml(value) for name, value in values.items()}
    if any(isinstance(value, dict) and _is_nested(value) for value in values.values()):
        return ""
    if len(set(texts.values())) == 1:
        [text] = set(texts.values())
        [value, *_] = values.values()
        if len(text) > _LONGEST_DEFAULT and isinstance(value, list):
            return f"{len(value)} entries"
        return f"`{text[:12]}…`" if re.fullmatch("[0-9a-f]{64}", text) else f"`{text}`"
    listed = ", ".join(f"`{name}`: `{text}`" for name, text in texts.items())
    return listed if len(listed) <= 2 * _LONGEST_DEFAULT else f"{len(texts)} values"


def _yaml(value: Any) -> str:
    """Return `value` on one line, as params.yaml may have it."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _is_nested(value: dict[str, Any]) -> bool:
    return any(isinstance(child, dict) for child in value.values()) or {"kind"} <= value.keys()


def _values(value: Any, parts: list[str], name: str) -> dict[str, Any]:
    """Return the values at a dotted key, by the name that stands in NAME's place."""
    if not parts:
        return {name: value}
    if parts[0] == NAME:
        return {
            found: inner
            for each, child in value.items()
            for found, inner in _values(child, parts[1:], each).items()
        }
    return _values(value[parts[0]], parts[1:], name) if parts[0] in value else {}


if __name__ == "__main__":
    main()
