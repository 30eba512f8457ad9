"""Run the code of a model card, in the card's directory."""

import re
from pathlib import Path


def run_card(directory: Path, monkeypatch, capsys) -> str:
    """Run all Python blocks of README.md in one namespace, in order; return the output.

    Fails if the card has no code.
    """
    card = (directory / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", card, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(directory)
    namespace: dict = {}
    capsys.readouterr()
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    return capsys.readouterr().out
