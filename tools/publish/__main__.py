"""Publish an export or a fine-tuned model on the Hugging Face hub, with a card that others can check.

    python -m tools.publish exports/baseline/seed_1337/step_3200 OWNER/NAME --dry-run
    python -m tools.publish sft/baseline/seed_1337/step_3200 OWNER/NAME --license mit --private

Before it sends anything, it checks that
- the files are as the directory's SHA256SUMS lists them;
- dvc.lock of the commit records exactly this directory;
- nothing that it depends on is stale or edited;
- the export was proved equal to its checkpoint.
If a check fails, it prints one line and exits with 1. Reads the directory, git, and the checkpoint
if it is here. Writes nothing here, and one commit on the hub, or none if the files are there
already. huggingface_hub reads the token (HF_TOKEN, or hf auth login). docs/models.md has more.
"""  # noqa: E501

import os
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import PipelineError, run_stage
from pipeline.declared.faults import FAULTS
from pipeline.terminal.command_lines import command_line

if TYPE_CHECKING:
    from tools.publish.card import Choices
    from tools.publish.published import Content


def main() -> None:
    parser = command_line("tools.publish", __doc__, changes=True)
    parser.add_argument(
        "directory", metavar="EXPORT", type=Path, help="a directory of exports/ or sft/"
    )
    parser.add_argument("name", metavar="OWNER/NAME", help="the repository on the hub")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--revision", metavar="BRANCH", default="main", help="branch on the hub (default: main)"
    )
    parser.add_argument(
        "--license",
        help="license of the weights, by the hub's identifier, as mit (default: not stated)",
    )
    parser.add_argument(
        "--language", default="en", help="language of the training text (default: en)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show everything, send nothing")
    options = parser.parse_args()
    from tools.publish.card import Choices  # huggingface_hub takes a second
    from tools.publish.checks import understood
    from tools.publish.hub import require_name, told, upload

    require_name(options.name)
    choices = Choices(options.name, options.language, options.license)
    if choices.fault:
        raise PipelineError(f"{choices.fault}; give the hub's identifier (en, apache-2.0)")
    try:
        files, message = prepared(Path.cwd(), options.directory, choices)
    except PipelineError:
        raise
    except FAULTS as error:
        raise understood(error) from None
    if options.dry_run:
        from tools.publish.published import CARD, sha256_of, size_of

        for name, content in files.items():
            print(f"{size_of(content):>14,}  {sha256_of(content)}  {name}")
        print(f"\n{bytes_of(files[CARD]).decode()}")
        print(f"dry run: {len(files)} files for {options.name}; nothing was sent")
        return
    with told(options.name):
        sent = upload(
            options.name,
            files,
            branch=options.revision,
            private=options.private,
            message=message,
        )
    state = "published" if sent.is_new else "already there, no new commit"
    print(f"publish {options.name}: {state}: {len(files)} files at revision {sent.revision}")
    print(f"{sent.url}\npython -m tools.verify {options.name} --revision {sent.revision}")


def prepared(root: Path, directory: Path, choices: "Choices") -> tuple[dict[str, "Content"], str]:
    """Return the files to publish and the commit's message; raise PipelineError on any doubt."""
    from tools.publish.checks import (
        model_of,
        read_commit,
        require_declared,
        require_parity,
        require_recorded,
    )
    from tools.publish.published import REPLACED, published_files

    place = Path(os.path.abspath(root / directory))
    if not place.is_relative_to(root):
        raise PipelineError(f"{directory}: outside {root}; publish an output of this repository")
    shown = Path(os.path.relpath(place))
    commit = read_commit(root)
    model = model_of(commit, place.relative_to(root).as_posix())
    require_recorded(root, shown, commit, model)
    parity = require_parity(root, shown, commit, model)
    require_declared(commit)
    print(f"publish {model.output}: {parity}")
    files = {file.name: file for file in sorted(place.iterdir())}
    own = {name: files[name].read_bytes() for name in REPLACED}
    kept = {name: file for name, file in files.items() if name not in own}
    message = f"{model.output} of commit {commit.name[:12]}"
    return published_files(commit, model, kept, own, choices), message


def bytes_of(content: "Content") -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


if __name__ == "__main__":
    run_stage(main)
