"""The documents: an index of all, links that lead somewhere, names that exist; and the citation and
the changelog.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from command_names import COMMANDS
from makefile import PHONY
from repository import REPOSITORY

from pipeline.declared.code_imports import Code
from pipeline.declared.dvc_yaml import read_stages
from pipeline.declared.file_trees import WorkingTree

DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix()
)


def prose(text: str) -> str:
    """Return Markdown without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Return the names that GitHub gives the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(path: Path, text: str) -> list[str]:
    broken = []
    # A pattern between backticks may look like a link.
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


FOLDERS = r"\.ci|\.github|benchmarks|common|docs|model|pipeline|profiles|stages|tests|tools"


def module_file(name: str) -> Path | None:
    """Return what `python -m` runs for a module's path without its ending, None if there is no such
    file.
    """
    files = (REPOSITORY / f"{name}.py", REPOSITORY / name / "__main__.py")
    return next((file for file in files if file.is_file()), None)


def unknown_names(text: str) -> list[str]:
    """Return the files, modules and targets that a document names and the repository does not
    have.
    """
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", prose(text))
    modules = [
        name.replace(".", "/")
        for name in re.findall(r"python -m ((?:pipeline|stages|tools)(?:\.[a-z]\w*)+)", text)
    ]
    targets = re.findall(r"(?:`|^|&& )make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE)
    unknown = [name for name in paths if not (REPOSITORY / name).exists()]
    unknown += [name for name in modules if not module_file(name)]
    return unknown + [name for name in targets if name not in PHONY]


@each_document
def test_links_lead_to_files_and_headings_that_are_there(path):
    assert broken_links(path, path.read_text()) == []


@each_document
def test_what_a_document_names_exists(path):
    assert unknown_names(path.read_text()) == []


def test_a_broken_link_and_an_unknown_name_would_be_seen():
    text = (
        "# A `b` c!\n[1](trust.md) [2](#a-b-c) [3](nothing.md) [4](trust.md#no)"
        " [5](https://example.org)\n```\n[6](no.md)\n```\n"
    )
    path = REPOSITORY / "docs/new.md"
    path_links = broken_links(path, text.replace("[2](#a-b-c) ", ""))
    assert path_links == ["nothing.md", "trust.md#no"]
    assert anchors(text) == {"a-b-c"}
    text = (
        "`model/no.py` `model/export/weight_map.py` python -m tools.generated.no, "
        "python -m tools.verdict `make no` make this\nmake check"
    )
    assert unknown_names(text) == ["model/no.py", "tools/generated/no", "no"]


def test_the_index_has_every_document_once_with_its_question():
    rows = re.findall(
        r"^\| \[([\w.]+)\]\(([\w.]+)\) \| (.+\?) \|$",
        (REPOSITORY / "docs/README.md").read_text(),
        flags=re.MULTILINE,
    )
    listed = [name for name, link, _ in rows if name == link]
    assert sorted(listed) == sorted(
        path.name for path in (REPOSITORY / "docs").glob("*.md") if path.name != "README.md"
    )


def test_commands_are_listed():
    text = (REPOSITORY / "docs/commands.md").read_text()
    assert (
        re.findall(r"^\| `python -m ((?:pipeline|tools)[.\w]+)` \|", text, flags=re.MULTILINE)
        == COMMANDS
    )


def test_the_glossary_is_in_order_and_has_each_term_once():
    rows = re.findall(
        r"^\| (.+?) \| (.+) \|$", (REPOSITORY / "docs/glossary.md").read_text(), flags=re.MULTILINE
    )[1:]
    terms = [term.lower() for term, _ in rows]
    assert len(terms) > 40
    assert terms == sorted(set(terms))


def test_what_the_architecture_says_an_edit_reruns_is_so():
    tree = WorkingTree(REPOSITORY)
    code, stages = Code(tree), list(read_stages(tree))
    rows = re.findall(
        r"^\| (`(?:common|model|stages)/.+?`) \| (every stage|`\w+`;.+?) \|$",
        (REPOSITORY / "docs/architecture.md").read_text(),
        flags=re.MULTILINE,
    )
    checked = 0
    for files, reruns in rows:
        said = stages if reruns == "every stage" else [re.match(r"`(\w+)`", reruns)[1]]
        for file in re.findall("`(.+?)`", files):
            # report depends on all code, by folder.
            assert {stage for stage in stages if file in code.closure(stage)} - {"report"} == {
                *said
            } - {"report"}
            checked += 1
    assert checked == 5


def test_the_module_map_names_the_stages_that_reach_each_folder():
    text = (REPOSITORY / "docs/architecture.md").read_text()
    section = text.split("\n### Module map\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)/` \| .+ \| (.+) \|$", section, flags=re.MULTILINE)
    tree = WorkingTree(REPOSITORY)
    code = Code(tree)
    # report depends on all code, by folder.
    stages = [stage for stage in read_stages(tree) if stage != "report"]
    for folder, readers in rows:
        named = re.findall(r"`(\w+)`", readers)
        if readers == "every stage" or readers.startswith("all but"):
            named = [stage for stage in stages if stage not in named]
        reached = [
            stage
            for stage in stages
            if any(file.startswith(f"{folder}/") for file in code.closure(stage))
        ]
        assert (folder, named) == (folder, reached)
    packages = {
        path.parent.relative_to(REPOSITORY)
        for top in ("common", "model", "pipeline")
        for path in (REPOSITORY / top).rglob("*.py")
    }
    mapped = {folder for folder, _ in rows}
    below = {"/".join(package.parts[:2]) for package in packages} - {"pipeline"}
    assert below <= mapped
    assert [folder for folder in mapped if not (REPOSITORY / folder).is_dir()] == []


def test_the_architecture_has_every_stage_in_order():
    text = (REPOSITORY / "docs/architecture.md").read_text()
    section = text.split("\n## Stages\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", section, flags=re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(read_stages(WorkingTree(REPOSITORY)))


def test_what_to_look_for_is_in_the_file_that_is_named():
    text = (REPOSITORY / "docs/architecture.md").read_text()
    section = text.split("\n## Where to look\n")[1].split("\n## ")[0]
    assert section.count("\n| ") >= 12
    found = re.findall(r"`(\w+)` in `([\w/.]+)`", section)
    assert len(found) == 3
    for name, path in found:
        assert re.search(rf"^(def )?{name}\b", (REPOSITORY / path).read_text(), re.MULTILINE)


def tree_names(text: str) -> list[str]:
    """Return the paths in a document's file tree; a file in a comment lies in the folder of its
    line, or in the root's.
    """
    [tree] = re.findall(r"^## Files\n\n```\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    found, root = [], ""
    for line in tree.splitlines():
        branch, entries, comment = re.fullmatch(
            r"([├└]── )?([^\s,]+(?:, [^\s,]+)*) +(.*)", line
        ).groups()
        folder = root if branch else ""
        names = [folder + name for name in entries.split(", ")]
        root = root if branch else names[0]
        files = re.findall(r"\b\w+\.(?:py|yaml)\b", comment)
        inside = re.findall(r"(?<![\w/])\w+/", comment)
        below = names[0] if names[0].endswith("/") else ""
        found += names
        found += [below + file for file in files if file not in ("dvc.yaml", "params.yaml")]
        found += [
            name if (REPOSITORY / name).is_dir() else (folder or below) + name for name in inside
        ]
    return found


def test_the_readmes_tree_is_the_repositorys():
    names = tree_names((REPOSITORY / "README.md").read_text())
    assert [name for name in names if not (REPOSITORY / name).exists()] == []
    for folder in ("model", "pipeline"):
        packages = {
            f"{folder}/{path.name}/"
            for path in (REPOSITORY / folder).iterdir()
            if path.is_dir() and any(path.glob("*.py"))
        }
        assert packages <= set(names)
    code = {f"{path.name}/" for path in REPOSITORY.iterdir() if any(path.glob("*.py"))}
    assert code - set(names) == {".ci/", "benchmarks/"}


def test_a_name_that_the_repository_does_not_have_would_be_seen_in_the_tree():
    text = (
        "## Files\n\n```\nmodel/      the library (no.py)\n├── data/   x.py, and gone/ too\n"
        "common/, no/  y\n```\n"
    )
    assert tree_names(text) == [
        "model/",
        "model/no.py",
        "model/data/",
        "model/data/x.py",
        "model/gone/",
        "common/",
        "no/",
    ]


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def changelog_headings() -> list[str]:
    """Return the titles of the CHANGELOG's versions, the newest first."""
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    return re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


def test_the_citation_is_of_this_version_and_licence():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert {
        "cff-version",
        "message",
        "title",
        "authors",
    } <= citation.keys(), "what the format requires"
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    assert citation["authors"] == [{"name": "The GPT-2 ablation maintainers"}]


def test_the_changelog_begins_with_this_version():
    """What is not released yet may stand above it."""
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    released = [title for title in changelog_headings() if title != "[Unreleased]"]
    assert released[0] == f"[{citation['version']}] - {citation['date-released']}"


def test_the_changelog_keeps_its_form():
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    versions = changelog_headings()
    assert "[Unreleased]" not in versions[1:]
    assert all(
        re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version)
        for version in versions
        if version != "[Unreleased]"
    )
    kinds = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    # An entry, or a line that names the entries below it.
    assert re.findall(r"^### .+\n\n(?!- |[A-Z].+:\n\n- )", text, flags=re.MULTILINE) == []
    tags = subprocess.run(
        ["git", "tag", "--list", "v*"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split()
    assert {tag.removeprefix("v") for tag in tags} <= {
        re.sub(r"[\[\]]| - .*", "", version) for version in versions
    }
