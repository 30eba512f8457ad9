"""Check that a file of byte-pair ranks in tiktoken's format is one vocabulary, in order."""

import base64
import binascii
from itertools import pairwise

from common.errors import PipelineError, printable

_SHOWN = 60
_ADVICE = "take GPT-2's ranks as tiktoken has them"


def check_ranks(content: bytes, name: str) -> int:
    """Return how many ranks `content` has, a line `BASE64 RANK` for each.

    The last line may lack its line feed. Raises PipelineError, with `name` and the line, unless

    - the ranks are 0, 1, 2, … in order, and no token comes twice,
    - the first 256 tokens are the single bytes,
    - byte-pair encoding merges every further token from two earlier ones.
    """
    ranks: dict[bytes, int] = {}
    for rank, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else ()):
        where = f"{name}: line {rank + 1}"
        token = _token(line, rank, where)
        if token in ranks:
            fault = f"is also that of line {ranks[token] + 1}"
        elif rank < 256 and len(token) != 1:
            fault = "is not a single byte, as the first 256 tokens are"
        elif rank >= 256 and len(_parts(token, rank, ranks)) != 2:
            fault = "is not the merge of two earlier ones"
        else:
            ranks[token] = rank
            continue
        raise PipelineError(f"{where}: token {token!r:.{_SHOWN}} {fault}; {_ADVICE}")
    if len(ranks) < 256:
        fault = f"has {len(ranks)} ranks, fewer than the 256 single bytes"
        raise PipelineError(f"{name}: {fault}; download the file again")
    return len(ranks)


def _token(line: bytes, rank: int, where: str) -> bytes:
    """Return the token of a line; raise PipelineError unless it is BASE64 and `rank`."""
    encoded, _, number = line.partition(b" ")
    try:
        token = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        token = b""
    # Python accepts spellings that the format does not have: +5, 1_0, AB== for AA==. So the token
    # is encoded again and compared.
    if not token or base64.b64encode(token) != encoded or number != b"%d" % rank:
        shown = printable(line[:_SHOWN].decode(errors="replace"))
        raise PipelineError(f"{where}: is `{shown}`, not BASE64 and rank {rank}; {_ADVICE}")
    return token


def _parts(token: bytes, rank: int, ranks: dict[bytes, int]) -> list[bytes]:
    """Return the parts into which merges of ranks below `rank` join a token's bytes.

    With the merge `th`, the token `the` gives [th, e]: two parts, so it is itself a valid merge.
    Without it, it gives [t, h, e].
    """
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        # The rank of each pair of neighbours; `rank` if there is none. The lowest merges first.
        joined = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
        best = min(range(len(joined)), key=joined.__getitem__)
        if joined[best] == rank:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts
