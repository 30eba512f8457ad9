"""How long stages took: what the seal records of each run, and the file that a stage may write of its speed."""

from pathlib import Path

from pipeline.declared.dvc_yaml import Instance

# A file for each instance: seconds of its last run, and how many of these after it was imported.
DURATIONS = Path(".dvc/tmp/durations")
TIMED_STAGES = {
    "pretrain"
}  # they say how fast they were, in a file of timings/ that nothing depends on


def with_timings(instance: Instance) -> Instance:
    """Return the instance with the file of its timings among what it writes."""
    if instance.stage not in TIMED_STAGES:
        return instance
    _, _, run = instance.outs[0].partition("/")
    return instance._replace(tracked=(*instance.tracked, f"timings/{run}/{instance.stage}.json"))
