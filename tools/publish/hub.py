"""Send files to a model repository of the Hugging Face hub in one commit, and read its state.

huggingface_hub finds the token itself (HF_TOKEN, or `hf auth login`); this code never reads it.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors
from huggingface_hub import logging as hub_logging
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._validators import validate_repo_id
from huggingface_hub.utils.tqdm import disable_progress_bars

from common.errors import PipelineError, printable
from common.files import CHECKSUMS, read_checksums
from tools.publish.published import PROVENANCE, Content, sha256_of

# The hub creates this file in each new repository.
ATTRIBUTES = ".gitattributes"
_FAULTS = (OSError, ValueError, RuntimeError, errors.HTTPError)


class Sent(NamedTuple):
    """The place of the files on the hub, and whether this call has changed anything there."""

    url: str
    revision: str
    is_new: bool


def require_name(name: str) -> None:
    """Raise PipelineError unless `name` is an OWNER/NAME that the hub accepts."""
    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            raise ValueError("it needs an owner and a name")
    except (ValueError, errors.HFValidationError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(
            f"{name!r}: no name of a hub repository ({reason}); give OWNER/NAME"
        ) from None


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turn any error of huggingface_hub into a PipelineError with one line."""
    hub_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except PipelineError:
        raise
    except _FAULTS as error:
        raise PipelineError(f"hub {name}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return "no such revision; name a branch, a tag or a whole commit"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one that the token does not open"
    if status == 401 or isinstance(error, errors.LocalTokenNotFoundError):
        return "the token is missing or not valid; hf auth login, or set HF_TOKEN"
    if status == 403:
        return "the token may not write there; choose your own OWNER, or a token that may"
    if status == 412:
        return "the repository has changed meanwhile; run this again"
    cause = error.__cause__ or error
    first, *_ = [*str(cause).strip().splitlines(), type(cause).__name__]
    return f"{first or type(cause).__name__}; check the network, then run this again"


def upload(
    name: str, files: Mapping[str, Content], *, branch: str, private: bool, message: str
) -> Sent:
    """Make `files` the repository's only files, in one commit; in none if they are already.

    Raises PipelineError if the repository has a file that tools.publish did not write.
    """
    api = HfApi()
    if not api.repo_exists(name):
        api.create_repo(name, private=private, exist_ok=True)
    info = api.model_info(name)
    if private and not info.private:
        raise PipelineError(
            f"hub {name}: is public; leave out --private, or make it private on the hub first"
        )
    if branch != "main":
        api.create_branch(name, branch=branch, exist_ok=True)
    before = api.model_info(name, revision=branch).sha
    old = set(api.list_repo_files(name, revision=branch))
    others = sorted(old - {ATTRIBUTES} - _listed(api, name, before, old))
    if others:
        raise PipelineError(
            f"hub {name}: holds {printable(others[0])}, which tools.publish did not write; move "
            "it to another repository of the hub, or choose another NAME"
        )
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(each, content if isinstance(content, bytes) else str(content))
        for each, content in files.items()
    ]
    earlier = sorted(old - {ATTRIBUTES, *files})
    operations += [CommitOperationDelete(each, is_folder=False) for each in earlier]
    done = api.create_commit(
        name, operations, commit_message=message, revision=branch, parent_commit=before
    )
    _require_arrived(api, name, files, done.oid)
    return Sent(f"{api.endpoint}/{name}/tree/{done.oid}", done.oid, done.oid != before)


def _listed(api: HfApi, name: str, revision: str | None, there: set[str]) -> set[str]:
    """Return the names that tools.publish wrote, as the repository's SHA256SUMS lists them.

    A file that somebody added later is not listed. Without SHA256SUMS, return no names.
    """
    if not {PROVENANCE, CHECKSUMS} <= there:
        return set()
    with tempfile.TemporaryDirectory() as folder:
        api.hf_hub_download(name, CHECKSUMS, revision=revision, local_dir=folder)
        try:
            return {CHECKSUMS, *read_checksums(Path(folder))}
        except PipelineError:  # a damaged list proves nothing
            return set()


def _require_arrived(api: HfApi, name: str, files: Mapping[str, Content], revision: str) -> None:
    """Raise PipelineError unless the hub states the hashes of exactly these files."""
    stated = {
        each.path: each
        for each in api.list_repo_tree(name, revision=revision, recursive=True)
        if isinstance(each, RepoFile) and each.path != ATTRIBUTES
    }
    for each in sorted(stated.keys() | files.keys()):
        wrong = each not in stated or each not in files
        if not wrong:
            content, there = files[each], stated[each]
            wrong = (
                there.lfs.sha256 != sha256_of(content)
                if there.lfs
                else there.blob_id != git_id(content)
            )
        if wrong:
            raise PipelineError(
                f"hub {name} at {revision}: {each} is not there as it was sent; run this again"
            )


def git_id(content: Content) -> str:
    """Return git's id of a file's content: the SHA-1 of "blob SIZE", a zero byte, the content."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
