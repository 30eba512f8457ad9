"""The modules that a user can run by hand."""

from repository import REPOSITORY

COMMANDS = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__main__")
    for folder in ("pipeline", "tools")
    for path in (REPOSITORY / folder).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
    and path.stem not in ("start", "keeper")  # these run stages; no person calls them
)
