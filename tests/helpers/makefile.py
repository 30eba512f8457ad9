"""The Makefile and its targets."""

import re

from repository import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text()
PHONY = [
    target
    for line in re.findall(r"^\.PHONY:(.*)$", MAKEFILE, flags=re.MULTILINE)
    for target in line.split()
]
