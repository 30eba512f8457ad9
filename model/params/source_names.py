"""Names of document sources that code tells apart."""

DRILL_SOURCE = "drills"
