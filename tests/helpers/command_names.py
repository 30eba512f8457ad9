"""The modules that a user can run by hand."""

from repository import REPOSITORY

COMMANDS = [
    f"{folder}.{path.stem}"
    for folder in ("pipeline", "tools")
    for path in sorted((REPOSITORY / folder).glob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
    and path.stem != "start"  # which runs stages, and is for nobody by hand
]
