"""Commands for people. No stage of dvc.yaml imports them, so an edit here reruns nothing."""

import os

import pipeline  # noqa: F401  which says so where this Python has not the libraries

# A notebook's shell may name a backend that this environment lacks. No tool opens a window.
os.environ["MPLBACKEND"] = "Agg"
