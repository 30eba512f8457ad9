"""Check a file of byte-pair ranks in tiktoken's format: that it is one vocabulary, whole and in order."""

import base64
import binascii
from itertools import pairwise

from model.errors import PipelineError, printable

_SHOWN = 60


def check_ranks(content: bytes, name: str) -> int:
    """Return how many ranks `content` has, a line `BASE64 RANK` for each; the last line needs no line feed.

    Raises PipelineError, with `name` and the line, unless the ranks are 0, 1, 2, … in order, no token comes twice, the first 256
    are the single bytes, and every further token is what byte-pair encoding merges of two earlier ones.
    """
    ranks: dict[bytes, int] = {}
    for rank, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else ()):
        where = f"{name}: line {rank + 1}"
        token = _token(line, rank, where)
        if token in ranks:
            raise PipelineError(f"{where}: token {token!r:.{_SHOWN}} is line {ranks[token] + 1}'s too; take GPT-2's ranks")
        if rank < 256 and len(token) != 1:
            raise PipelineError(f"{where}: {token!r:.{_SHOWN}} is among the first 256 tokens, which are the single bytes")
        if rank >= 256 and len(_parts(token, rank, ranks)) != 2:
            raise PipelineError(f"{where}: token {token!r:.{_SHOWN}} is not the merge of two earlier ones; take GPT-2's ranks")
        ranks[token] = rank
    if len(ranks) < 256:
        raise PipelineError(f"{name}: has {len(ranks)} ranks, fewer than the 256 single bytes; download the file again")
    return len(ranks)


def _token(line: bytes, rank: int, where: str) -> bytes:
    encoded, _, number = line.partition(b" ")
    try:
        token = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        token = b""
    # Python reads more spellings of a number and of base64 than the format has: +5, 1_0, AB== for AA==.
    if not token or base64.b64encode(token) != encoded or number != b"%d" % rank:
        shown = printable(line[:_SHOWN].decode(errors="replace"))
        if token and base64.b64encode(token) == encoded and number.isdigit():
            raise PipelineError(f"{where}: has rank {shown.partition(' ')[2]} where {rank} follows; take GPT-2's ranks, in order")
        raise PipelineError(f"{where}: is {shown!r}, not `BASE64 RANK` of rank {rank}; take GPT-2's ranks")
    return token


def _parts(token: bytes, rank: int, ranks: dict[bytes, int]) -> list[bytes]:
    """Return what the merges of the ranks before `rank` leave of a token's bytes: of `the`, where `th` is one, [th, e]."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
        best = min(range(len(joined)), key=joined.__getitem__)
        if joined[best] == rank:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts
