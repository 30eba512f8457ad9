"""Commands for people. No stage of dvc.yaml imports them, so an edit here reruns nothing."""

import os

import pipeline  # noqa: F401  (exits with an error if this Python lacks the libraries)

# A notebook's shell may name a backend that this environment lacks. No tool opens a window.
os.environ["MPLBACKEND"] = "Agg"
