"""The results table of the settings in which the conditions differ."""

from collections.abc import Mapping

from model.conditions.effective import Sections
from model.conditions.words import differences
from model.results.markdown_table import Table, words


def conditions_table(base: Sections, conditions: Mapping[str, Sections]) -> list[Table]:
    """Return one table of how each condition differs from the first, or none for one condition."""
    first = next(iter(conditions))
    rows = [
        [words(name), words(", ".join(found))]
        for name, found in differences(base, conditions).items()
    ]
    title, columns = "What the conditions differ in", ["Condition", f"Against {first}"]
    table = Table("conditions", title, "keys of params.yaml", columns, rows, labels=2)
    return [table] if rows else []
