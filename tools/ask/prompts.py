"""Read prompts from a file, and refuse empty or damaged ones."""

import json
from pathlib import Path
from typing import Any

from common.errors import PipelineError

_KEYS = ("prompt", "question")


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a file, one per line.

    A line of a .jsonl is a text, or an object with the text at `prompt` or `question`, as in
    data/problems. Lines without visible text are skipped. Raises PipelineError for a file or line
    without a prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PipelineError(f"--file: {path} cannot be read ({reason})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            is_json = path.suffix == ".jsonl"
            found.append(_of_json(line, f"{path}:{number}") if is_json else line.rstrip("\r"))
    if not found:
        raise PipelineError(f"--file: {path} has no prompt")
    return found


def _of_json(line: str, where: str) -> str:
    try:
        value: Any = json.loads(line)
    except (RecursionError, ValueError) as error:
        raise PipelineError(f"{where}: not JSON ({error})") from None
    if isinstance(value, dict):
        value = next((value[key] for key in _KEYS if key in value), None)
    if not isinstance(value, str):
        raise PipelineError(f"{where}: no text, and no object with {' or '.join(_KEYS)}")
    return value


def require_prompt(prompt: str, where: str) -> None:
    """Raise PipelineError for a prompt without visible text, or with bytes that are no UTF-8."""
    if not prompt.strip():
        raise PipelineError(f"{where}: is empty")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise PipelineError(f"{where}: is not UTF-8") from None
