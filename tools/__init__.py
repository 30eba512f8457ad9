"""Commands for people; no stage of dvc.yaml, and no stage depends on them."""

import graph  # noqa: F401  which says so where this Python has not the libraries
