"""Commands for people; no stage of dvc.yaml, and no stage depends on them."""
