"""A ranks file is one vocabulary, whole and in order, or its line is named."""

import base64
import hashlib
import json

import pytest
from fetch_project import fails, pinned, project  # noqa: F401

from common.errors import PipelineError
from model.sources import raw_inputs, vocabulary_ranks
from model.sources.vocabulary_ranks import check_ranks


@pytest.fixture(scope="module")
def content(ranks_file) -> bytes:
    return b"".join(ranks_file.read_bytes().splitlines(keepends=True)[:300])


def line(token: bytes, rank: object) -> bytes:
    return b"%s %s" % (base64.b64encode(token), str(rank).encode())


def test_gpt2s_ranks_are_one_vocabulary(ranks_file):
    content = ranks_file.read_bytes()
    assert check_ranks(content, "x") == 50256
    assert check_ranks(content[:-1], "x") == 50256


# What is done to the lines of the first 300 ranks, and what is said; line 262 is `on`.
FAULTS = {
    "twice": (
        lambda lines: [*lines, line(b"on", 300)],
        r"line 301: token b'on' is also that of line 262",
    ),
    "a byte twice": (
        lambda lines: [line(b"A", 0), *lines[1:]],
        r"line \d+: token b'A' is also that of line 1",
    ),
    "exchanged": (
        lambda lines: [*lines[:260], lines[261], lines[260], *lines[262:]],
        "line 261: is `.* 261`, not BASE64 and rank 260",
    ),
    "shuffled": (lambda lines: lines[::-1], "line 1: is `.* 299`, not BASE64 and rank 0"),
    "negative": (
        lambda lines: [*lines[:260], line(b"on", -1), *lines[261:]],
        "line 261: is `.* -1`, not BASE64 and rank 260",
    ),
    "from one": (
        lambda lines: [b"%s %d" % (each.split()[0], n) for n, each in enumerate(lines, 1)],
        "line 1: is `.* 1`",
    ),
    "gap": (
        lambda lines: [*lines[:260], *lines[261:]],
        "line 261: is `.* 261`, not BASE64 and rank 260",
    ),
    "blank line": (
        lambda lines: [*lines[:10], b"", *lines[10:]],
        "line 11: is ``, not BASE64 and rank 10",
    ),
    "blank line at the end": (lambda lines: [*lines, b"", b""], "line 301: is ``"),
    "CRLF": (lambda lines: [each + b"\r" for each in lines], r"line 1: is `.* 0\\r`"),
    "two spaces": (lambda lines: [lines[0].replace(b" ", b"  "), *lines[1:]], "line 1: is `"),
    "plus": (
        lambda lines: [*lines[:7], lines[7].replace(b" 7", b" +7"), *lines[8:]],
        r"line 8: is `.* \+7`",
    ),
    "leading zero": (
        lambda lines: [*lines[:7], lines[7].replace(b" 7", b" 07"), *lines[8:]],
        "line 8: is `.* 07`",
    ),
    "no rank": (lambda lines: [*lines[:7], lines[7].split()[0], *lines[8:]], "line 8: is `"),
    "no base64": (lambda lines: [*lines[:7], b"*** 7", *lines[8:]], r"line 8: is `\*\*\* 7`"),
    "other base64": (lambda lines: [*lines[:7], b"KB== 7", *lines[8:]], "line 8: is `KB== 7`"),
    "empty token": (lambda lines: [*lines, b" 300"], "line 301: is ` 300`"),
    "byte-order mark": (lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]], "line 1: is `"),
    "not a byte": (
        lambda lines: [*lines[:7], line(b"on", 7), *lines[8:]],
        "line 8: token b'on' is not a single byte",
    ),
    "no merge": (
        lambda lines: [*lines, line(b"xyz", 300)],
        "line 301: token b'xyz' is not the merge of two earlier ones",
    ),
    "cut off": (lambda lines: lines[:200], "has 200 ranks, fewer than the 256 single bytes"),
    "cut off in a line": (lambda lines: [*lines[:299], lines[299][:-1]], "line 300: is `"),
    "nothing": (lambda lines: [], "(has 0 ranks|line 1: is ``)"),
    "JSON": (lambda lines: [b'{"a": 0}'], 'line 1: is `{"a": 0}`'),
    "binary": (lambda lines: [b"\xff\x1b\0"], r"line 1: is `.\\x1b\\x00`"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_another_file_is_one_line_with_its_number(content, change, message, end):
    changed = b"\n".join(change(content.splitlines())) + end
    with pytest.raises(PipelineError, match=f"^ranks.tiktoken: ({message})") as caught:
        check_ranks(changed, "ranks.tiktoken")
    assert str(caught.value).isprintable()


def test_a_token_that_no_merge_leads_to_is_named():
    """Of a, b, c, d the pair of lowest rank, b c, is merged first: a, bc, d, and ab and cd never
    meet.
    """
    tokens = [*(bytes([byte]) for byte in range(256)), b"bc", b"ab", b"cd"]

    def content(*more: bytes) -> bytes:
        return b"\n".join(line(token, rank) for rank, token in enumerate([*tokens, *more]))

    assert check_ranks(content(b"abc", b"abcd"), "x") == 261
    with pytest.raises(
        PipelineError, match=r"^x: line 260: token b'abcd' is not the merge of two earlier ones"
    ):
        check_ranks(content(b"abcd"), "x")


def source_of(path) -> dict:
    return {"source": pinned(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_last_line_without_its_end_is_a_rank(project, tmp_path, content, end):
    path = tmp_path / "a.tiktoken"
    path.write_bytes(content.rstrip(b"\n") + end.encode())
    output = project("ranks", **source_of(path), count=300)
    assert (output / "gpt2.tiktoken").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("fault", ["twice", "negative", "exchanged", "shuffled", "no merge"])
def test_fetch_refuses_ranks_that_are_no_vocabulary(project, tmp_path, content, monkeypatch, fault):
    change, message = FAULTS[fault]
    path = tmp_path / "a.tiktoken"
    path.write_bytes(b"\n".join(change(content.splitlines())) + b"\n")
    count = path.read_bytes().count(b"\n")
    fails(project, "ranks", f"a.tiktoken: {message}", **source_of(path), count=count)
    monkeypatch.setattr(raw_inputs, "check_ranks", lambda content, name: content.count(b"\n"))
    project("ranks", **source_of(path), count=count)


def test_without_the_rule_of_merges_an_unreachable_token_passes(content, monkeypatch):
    changed = content + line(b"xyz", 300) + b"\n"
    monkeypatch.setattr(
        vocabulary_ranks, "_parts", lambda token, rank, ranks: [token[:1], token[1:]]
    )
    assert check_ranks(changed, "x") == 301


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({"a": 1.5}, "vocab.json is not GPT-2's vocabulary .*the id of 'a' is 1.5"),
        ({"a": True}, "vocab.json is not GPT-2's vocabulary .*the id of 'a' is True"),
        ({"a": None}, "vocab.json is not GPT-2's vocabulary"),
        ({"€": 0}, "vocab.json is not GPT-2's vocabulary"),
    ],
)
def test_a_vocabulary_with_other_ids_is_one_line(vocabulary, message):
    with pytest.raises(PipelineError, match=message):
        raw_inputs.ranks_from_vocabulary(json.loads(json.dumps(vocabulary)))
