"""The repository's root."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
