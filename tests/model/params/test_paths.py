"""Names and paths of params.yaml: sources may lie anywhere and are pinned, outputs never lie but
where dvc.yaml has them.
"""

import copy
import hashlib
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conditions import named, set_conditions
from fetch_project import ITEM, OTHER, fails, project  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from report_sample import write_sample
from repository import REPOSITORY

from common.errors import PipelineError
from common.files import atomic_directory, atomic_file, write_jsonl
from common.sections import validate
from model.params.all_sections import Params
from model.params.fetch import FilesSource, HubFileSource, PinnedFile, WheelSource
from model.sources.local_files import pinned_files, verified_file

MICRO = yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())
HOSTILE = {
    "empty": "",
    "dot": ".",
    "up": "..",
    "out": "../x",
    "far out": "a/../../../x",
    "absolute": "/tmp/x",
    "below": "a/b",
    "NUL": "a\0b",
    "line break at the end": "a\n",
    "line break": "a\nb",
    "option": "-rf",
    "long": "a" * 5000,
    "home": "~root",
    "accent": "é",
    "right to left": "a\u202eb",
    "line separator": "a\u2028b",
    "surrogate": "\ud800",
    "drive": "C:\\x",
    "backslash": "..\\x",
    "device": "NUL ",
    "hidden": ".git",
    "shell": "a;touch pwned",
    "variable": "$(touch pwned)",
    "reference": "${seeds}",
    "blank": "a b",
    "upper": "A",
    "digit": "1",
    "tag": "<img src=x>",
    "bar": "a|b",
    "quote": 'a"b',
}


def refused(document: dict, key: str) -> None:
    with pytest.raises(PipelineError, match=key) as caught:
        validate(document, Params, Path("params.yaml"))
    assert all(line.isprintable() for line in str(caught.value).split("\n"))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_condition_is_one_plain_word(name):
    refused({**copy.deepcopy(MICRO), "conditions": named("baseline", name)}, "conditions")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_source_of_conversations_is_one_plain_word(name):
    document = copy.deepcopy(MICRO)
    document["fetch"]["conversations"] = {name: MICRO["fetch"]["gsm8k"] | {"format": "gsm8k"}}
    refused(document, "fetch")


@given(
    name=st.text(max_size=70)
    | st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True)
    | st.sampled_from(list(HOSTILE.values()))
)
def test_a_condition_that_is_taken_is_a_folder_just_below_its_root(name):
    try:
        document = validate(
            {**MICRO, "conditions": named("baseline", name)}, Params, Path("params.yaml")
        )
    except PipelineError:
        return
    path = Path("data/tokens") / list(document.conditions)[-1]
    assert os.path.normpath(path) == str(path)
    assert path.parent == Path("data/tokens")
    assert len(os.fsencode(f".{path.name}.partial")) < 255


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", [2**32]),
        ("seeds", [10**400]),
        ("seeds", ["1; touch pwned"]),
        ("seeds", [True]),
        ("pretrain.weight_seed", 2**64),
        ("pretrain.data_seed", 2**32),
        ("tokenize.base_ranks", 2**16 - 45),
        ("pretrain.checkpoint_steps", ["../1"]),
    ],
)
def test_a_number_that_names_a_folder_or_begins_a_generator_is_within_bounds(key, value):
    document = copy.deepcopy(MICRO)
    document["fetch"]["ranks"]["count"] = 10**6
    *parents, last = key.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    refused(document, key.split(".")[-1])


def wheel(path: str, content: bytes = b"", package: str = "mlx-whisper") -> WheelSource:
    digest = hashlib.sha256(content).hexdigest()
    return WheelSource(
        kind="wheel",
        package=package,
        version=metadata.version("mlx-whisper"),
        files=[PinnedFile(path=path, sha256=digest)],
    )


ELSEWHERE = {
    "above the environment": "../../../../../../../../../../etc/hostname",
    "absolute": "/etc/hostname",
    "another package": "tiktoken/core.py",
    "through the package": "mlx_whisper/../tiktoken/core.py",
    "a folder": "mlx_whisper/assets",
    "a script": "../../../bin/mlx_whisper",
    "with a dot": "./mlx_whisper/assets/gpt2.tiktoken",
    "an option": "-rf",
    "with a backslash": "mlx_whisper\\assets\\gpt2.tiktoken",
    "long": "a/" * 2000,
}


@pytest.mark.parametrize("path", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_wheel_gives_its_own_files_only_whatever_their_checksum(path):
    root = Path(str(metadata.distribution("mlx-whisper").locate_file("")))
    content = (root / path).read_bytes() if len(path) < 200 and (root / path).is_file() else b""
    with pytest.raises(PipelineError, match="no file of this package") as caught:
        pinned_files(wheel(path, content))
    assert "\n" not in str(caught.value)


def test_a_file_of_the_wheel_is_given(ranks_file):
    [file] = pinned_files(wheel("mlx_whisper/assets/gpt2.tiktoken", ranks_file.read_bytes()))
    assert verified_file(file) == ranks_file


@pytest.mark.parametrize("package", ["", "../x", "a\nb", "-r", "a b", "a;b", "é", "/etc"])
def test_a_package_is_a_name(package):
    with pytest.raises(ValueError, match="package"):
        wheel("a", package=package)


@pytest.mark.parametrize(
    "path", ["", "a\0b", "a\nb", "a\x1b[31mb", "a\u2028b", "\ud800", "a" * 5000], ids=ascii
)
def test_the_path_of_a_source_can_be_printed(path):
    with pytest.raises(ValueError, match="path"):
        PinnedFile(path=path, sha256="0" * 64)


def test_a_source_may_lie_anywhere_and_is_known_by_its_content(tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("-rf", "~", "C:\\x", "a b", "é;$(x)", "..."):
        (folder / name).write_bytes(b"x")
    (tmp_path / "beside").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path / "beside")
    for path in (
        "-rf",
        "~",
        "C:\\x",
        "a b",
        "é;$(x)",
        "...",
        "../beside",
        str(tmp_path / "beside"),
        "link",
    ):
        for content, right in ((b"x", True), (b"y", False)):
            digest = hashlib.sha256(content).hexdigest()
            [file] = pinned_files(
                FilesSource(kind="files", files=[PinnedFile(path=path, sha256=digest)])
            )
            if right:
                assert verified_file(file).read_bytes() == b"x"
            else:
                with pytest.raises(PipelineError, match="truncated or altered"):
                    verified_file(file)


@pytest.mark.parametrize(
    "path",
    ["a" * 300, "a/" * 2000, "/dev/zero", "/proc/self", ".", "loop", "pipe", "~/x"],
    ids=lambda p: p[:9],
)
def test_what_is_no_file_is_one_line(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        PipelineError, match=r"no such file|is a folder|is no regular file|leads to no file"
    ) as caught:
        pinned_files(FilesSource(kind="files", files=[PinnedFile(path=path, sha256="0" * 64)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x", "", "a\nb"])
def test_a_file_of_the_hub_is_in_its_repository(name):
    with pytest.raises(ValueError, match="filename"):
        HubFileSource(kind="hub", repository="a/b", filename=name, revision="0" * 40)


@pytest.mark.parametrize("name", ["../b", "a/b/c", "/a", "a b", "", "https://a/b", "a\n"])
def test_a_repository_of_the_hub_is_a_name(name):
    with pytest.raises(ValueError, match="repository"):
        HubFileSource(kind="hub", repository=name, filename="vocab.json", revision="0" * 40)


@pytest.mark.parametrize("place", ["../stray.jsonl", "link.jsonl"])
def test_a_hub_folder_gives_its_own_files_only(project, tmp_path, place):
    folder = tmp_path / "hub"
    folder.mkdir()
    write_jsonl(tmp_path / "stray.jsonl", [ITEM, OTHER])
    (folder / "link.jsonl").symlink_to(tmp_path / "stray.jsonl")
    header = (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: validation\n    path:"
        " {}\n---\n"
    )
    (folder / "README.md").write_text(header.format(place))
    source = {
        "kind": "hub",
        "dataset": str(folder),
        "subset": None,
        "split": "validation",
        "revision": "0" * 40,
    }
    fails(
        project,
        "hellaswag",
        "is not in the repository, so no commit says what it is",
        source=source,
        count=2,
    )
    shutil.copy(tmp_path / "stray.jsonl", folder / "own.jsonl")
    (folder / "README.md").write_text(header.format("own.jsonl"))
    project("hellaswag", source=source, count=2)


def test_a_temporary_output_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/precious").write_text("kept")
    (tmp_path / ".out.partial").symlink_to(tmp_path / "home")
    (tmp_path / ".a.json.partial").symlink_to(tmp_path / "home/precious")
    with (
        pytest.raises(PipelineError, match=r"\.out\.partial: is a link"),
        atomic_directory(tmp_path / "out"),
    ):
        pass
    with (
        pytest.raises(PipelineError, match=r"\.a\.json\.partial: is a link"),
        atomic_file(tmp_path / "a.json"),
    ):
        pass
    assert (tmp_path / "home/precious").read_text() == "kept"


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("paths") / "repository"
    root.mkdir()
    write_sample(root)
    return root


ARGUMENTS = (
    "fetch ../../x",
    "fetch /tmp/x",
    "tokenize ../x",
    "export ../.. 1 100",
    "pretrain baseline ../1",
)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_stage_takes_no_arguments_that_dvc_yaml_does_not_give_it(sample, arguments):
    before = {path for path in sample.parent.rglob("*") if "__pycache__" not in path.parts}
    stage, *rest = arguments.split()
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *rest], cwd=sample, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: dvc.yaml has no stage whose command is")
    assert {path for path in sample.parent.rglob("*") if "__pycache__" not in path.parts} == before


def test_a_condition_that_is_a_command_is_refused_before_any_shell_sees_it(tmp_path):
    write_sample(tmp_path)
    (tmp_path / "plots").rename(tmp_path / "unused")
    set_conditions(tmp_path / "params.yaml", named("x;touch pwned;", "baseline"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=tmp_path, env=environment, check=True)
    done = subprocess.run(
        ["dvc", "repro"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "conditions.x;touch pwned;: " in done.stdout + done.stderr
    assert not (tmp_path / "pwned").exists()
