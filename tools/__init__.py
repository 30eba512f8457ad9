"""Commands for people; no stage of dvc.yaml, and no stage depends on them."""

import os

import pipeline  # noqa: F401  which says so where this Python has not the libraries

# The shell of a notebook may name a backend that this environment lacks. Nothing here opens a
# window.
os.environ["MPLBACKEND"] = "Agg"
