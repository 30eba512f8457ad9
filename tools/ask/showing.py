"""Print answers: streamed, in columns side by side, one below another, or as JSON lines."""

import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.errors import printable
from tools.ask.answers import Answer

# In narrower columns, answers are printed one below another instead.
_NARROWEST = 30


def shown(text: str) -> str:
    """Return `text` for a terminal, with control characters escaped, except line breaks."""
    return "\n".join(printable(line) for line in text.split("\n"))


def write(text: str) -> None:
    sys.stdout.write(shown(text))
    sys.stdout.flush()


def write_prompt(prompt: str) -> None:
    print(f"> {printable(prompt)}", flush=True)


def write_side_by_side(names: list[str], answers: list[Answer]) -> None:
    """Print a column for each model; in a narrow terminal, print each answer below its name."""
    console = Console(highlight=False)
    texts = [Text(shown(answer.text), overflow="fold") for answer in answers]
    if console.is_terminal and console.width // len(names) >= _NARROWEST:
        table = Table(show_edge=False, expand=True, pad_edge=False)
        for name in names:
            table.add_column(Text(printable(name), overflow="fold"), ratio=1)
        table.add_row(*texts)
        console.print(table)
        return
    for name, answer in zip(names, answers, strict=True):
        print(f"{printable(name)}:\n{shown(answer.text)}\n", flush=True)


def write_json(name: str, prompt: str, answer: Answer) -> None:
    """Print one line with a JSON object, which escapes control characters for the terminal."""
    row = {
        "model": name,
        "prompt": prompt,
        "text": answer.text,
        "ended": answer.ended,
        "prompt_tokens": answer.prompt_tokens,
        "new_tokens": len(answer.ids),
    }
    line = json.dumps(row, ensure_ascii=False)
    print(
        "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line), flush=True
    )
