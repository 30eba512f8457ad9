"""One file per stage of dvc.yaml; no stage imports another."""
