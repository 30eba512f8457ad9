"""The sections of params.yaml, one file each, so that a stage depends on the rules of its own section only."""
