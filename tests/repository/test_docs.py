"""The documents: an index of all, links that lead somewhere, names that exist; and the citation and the changelog."""

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
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


def unknown_names(text: str) -> list[str]:
    """Return the files, modules and targets that a document names and the repository has not."""
    paths = re.findall(
        r"`((?:\.ci|\.github|benchmarks|docs|graph|model|profiles|stages|tests|tools)/[\w./-]+)`",
        prose(text),
    )
    modules = [
        name.replace(".", "/")
        for name in re.findall(r"python -m ((?:graph|stages|tools)\.[a-z]\w*)", text)
    ]
    targets = re.findall(r"(?:`|^|&& )make ([a-z][a-z0-9-]*)", text, flags=re.MULTILINE)
    unknown = [name for name in paths if not (REPOSITORY / name).exists()]
    unknown += [name for name in modules if not (REPOSITORY / f"{name}.py").is_file()]
    return unknown + [name for name in targets if name not in PHONY]


@each_document
def test_links_lead_to_files_and_headings_that_are_there(path):
    assert broken_links(path, path.read_text()) == []


@each_document
def test_what_a_document_names_exists(path):
    assert unknown_names(path.read_text()) == []


def test_a_broken_link_and_an_unknown_name_would_be_seen():
    text = "# A `b` c!\n[1](trust.md) [2](#a-b-c) [3](nothing.md) [4](trust.md#no) [5](https://example.org)\n```\n[6](no.md)\n```\n"
    path = REPOSITORY / "docs/new.md"
    path_links = broken_links(path, text.replace("[2](#a-b-c) ", ""))
    assert path_links == ["nothing.md", "trust.md#no"]
    assert anchors(text) == {"a-b-c"}
    assert unknown_names("`model/no.py` `model/export/weight_map.py` python -m tools.no `make no` make this\nmake check") == [
        "model/no.py", "tools/no", "no"
    ]  # fmt: skip


def test_the_index_has_every_document_once_with_its_question():
    rows = re.findall(
        r"^\| \[([\w.]+)\]\(([\w.]+)\) \| (.+\?) \|$",
        (REPOSITORY / "docs/README.md").read_text(),
        flags=re.MULTILINE,
    )
    listed = [name for name, link, _ in rows if name == link]
    assert listed == [
        path.name for path in sorted((REPOSITORY / "docs").glob("*.md")) if path.name != "README.md"
    ]


def test_commands_are_listed():
    text = (REPOSITORY / "docs/commands.md").read_text()
    assert (
        re.findall(r"^\| `python -m ((?:graph|tools)\.\w+)` \|", text, flags=re.MULTILINE)
        == COMMANDS
    )


def test_the_glossary_is_in_order_and_says_each_term_once_in_two_lines():
    rows = re.findall(
        r"^\| (.+?) \| (.+) \|$", (REPOSITORY / "docs/glossary.md").read_text(), flags=re.MULTILINE
    )[1:]
    terms = [term.lower() for term, _ in rows]
    assert len(terms) > 40
    assert terms == sorted(set(terms))
    assert all(len(meaning) < 260 for _, meaning in rows)


def test_what_the_architecture_says_an_edit_reruns_is_so():
    tree = WorkingTree(REPOSITORY)
    code, stages = Code(tree), list(read_stages(tree))
    rows = re.findall(
        r"^\| (`(?:model|stages)/.+?`) \| (.+?) \|$",
        (REPOSITORY / "docs/architecture.md").read_text(),
        flags=re.MULTILINE,
    )
    checked = 0
    for files, reruns in rows[:3]:
        said = stages if reruns == "every stage" else [re.match(r"`(\w+)`", reruns)[1]]
        for file in re.findall("`(.+?)`", files):
            # report depends on all code, by folder.
            assert {stage for stage in stages if file in code.closure(stage)} - {"report"} == {
                *said
            } - {"report"}
            checked += 1
    assert checked == 5


def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def test_the_citation_is_of_this_version_and_licence():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys(), (
        "what the format requires"
    )
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    assert citation["authors"] == [{"name": "The GPT-2 ablation maintainers"}]


def test_the_changelog_keeps_its_form():
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(
        re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:]
    )
    kinds = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert re.findall(r"^### .+\n\n(?!- )", text, flags=re.MULTILINE) == []
    tags = subprocess.run(
        ["git", "tag", "--list", "v*"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split()
    assert {tag.removeprefix("v") for tag in tags} <= {
        re.sub(r"[\[\]]| - .*", "", version) for version in versions
    }
