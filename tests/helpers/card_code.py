"""The code of a model card, run as it stands in the card's directory."""

import re
from pathlib import Path


def run_card(directory: Path, monkeypatch, capsys) -> str:
    """Run all Python blocks of README.md, one after the other in one namespace; return the output.

    Fails on a card without code.
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
