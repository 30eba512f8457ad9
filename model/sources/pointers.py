"""Recognize files that hold a pointer, an error page or nothing instead of the data."""

import re
from pathlib import Path

from common.errors import PipelineError, printable

HEAD_BYTES = 4096
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Bytes. The Git LFS specification limits pointers to less than this, so a longer text that begins
# like a pointer is a text about Git LFS.
_LONGEST_POINTER = 1024

_LFS = re.compile(rb"version https?://((git-lfs|hawser)\.github\.com/spec|git-media\.io)/v\d+\s")
_ANNEX = re.compile(rb"(/|(\.\./)*\.git/)annex/objects/\S+\s*\Z")
_DVC = re.compile(rb"^(- |  )?md5: [0-9a-f]{32}(\.dir)?\s*$", re.MULTILINE)
_DVC_OUTS = re.compile(rb"^outs:\s*$", re.MULTILINE)
_HUB_CACHE = re.compile(rb"(\.\./)+blobs/[0-9a-f]{40,64}\s*\Z")
# Atomic groups: a comment ends at its first `-->`. Backtracking over thirty comments would take
# minutes.
_XML = rb"(<\?xml[^>]*\?>\s*)?(?>((?><!--.*?-->)\s*)*)"
_WEB_PAGE = re.compile(_XML + rb"<(!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL)
_STORAGE_ERROR = re.compile(_XML + rb"<Error>.*?<Code>([^<]*)</Code>", re.DOTALL)
# Short answers of GitHub, the Hugging Face hub and web servers with a status of 400 or more.
_SERVER_ANSWER = re.compile(
    rb"((\d{3}:? )?(Not Found|Entry not found|Repository not found|Invalid username or password"
    rb"|Unauthorized|Forbidden|Access denied|Too Many Requests"
    rb"|Bad Gateway|Service Unavailable|Internal Server Error|Gateway Timeout)\.?"
    rb"|Access to \w+ \S+ is restricted[^\n]*"
    rb"|\{\s*\"(error|message|detail)\"\s*:\s*\"[^\"\n]*\"\s*"
    rb"(,\s*\"(documentation_url|status|code)\"\s*:\s*\"?[^\"\n]*\"?\s*)*\})\s*\Z",
    re.IGNORECASE,
)


def require_data(path: Path, name: str | None = None) -> None:
    """Raise PipelineError if `path` is empty or holds a pointer or an error page, not the data.

    The message calls the file `name`. Recognized are pointers of Git LFS, Xet, git-annex and DVC,
    links of the Hugging Face cache that were copied as text, web pages, and errors of servers.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise unreadable(name or str(path), error) from None
    if fault := fault_of(head):
        raise PipelineError(f"{name or path}: {fault}")


def unreadable(name: str, error: OSError) -> PipelineError:
    """Return the PipelineError for a file that cannot be read."""
    reason = error.strerror or error
    return PipelineError(
        f"{name}: cannot be read ({reason}); check the disk and the file's permissions"
    )


def fault_of(head: bytes) -> str | None:
    """Return a file's fault and what to do, by its first HEAD_BYTES bytes; None for data."""
    if not head:
        return "is empty; download it again, or take it out of the source"
    # Some downloaders reserve the whole file first, filled with zero bytes.
    if not head.strip(b"\0"):
        return "begins with zero bytes only, as an unfinished download does; download it again"
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    # Pointers and short answers are whole files, so a longer file is not one.
    if len(head) <= _LONGEST_POINTER:
        if _LFS.match(text):
            return "is a Git LFS pointer, not the data; run git lfs pull"
        if text.startswith(b"# xet version "):
            return "is a Xet pointer, not the data; check it out with git-xet"
        if _ANNEX.match(text):
            return "is a git-annex pointer, not the data; run git annex get on it"
        if _DVC_OUTS.search(text) and _DVC.search(text):
            return (
                "is a DVC pointer file, not the data; run dvc pull, and name the file of its `path`"
            )
        if _HUB_CACHE.match(text):
            return "is a link of the Hugging Face cache, copied as text; copy the file behind it"
        if _SERVER_ANSWER.match(text):
            said = printable(text.strip()[:80].decode(errors="replace"))
            return f"is a server's answer ({said}), not the data; download it again"
    if _WEB_PAGE.match(text):
        advice = "download it again, or put a page that you mean into a .jsonl record"
        return f"is a web page (HTML), not the data; {advice}"
    if found := _STORAGE_ERROR.match(text):
        code = printable(found[found.lastindex or 0][:80].decode(errors="replace"))
        return f"is a storage server's error message ({code}), not the data; download it again"
    return None
