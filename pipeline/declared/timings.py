"""The time that stages took: the seal's records, and the file that a stage may write itself."""

from pathlib import Path

from pipeline.declared.dvc_yaml import Instance

# A file for each instance: seconds of its last run, and how many of these after it was imported.
DURATIONS = Path(".dvc/tmp/durations")
# Where a stage may write how fast it was; no dependency and no output is there.
TIMINGS = "timings"


def with_timings(instance: Instance) -> Instance:
    """Return the instance with the file of its timings among what it writes."""
    if "timings" not in instance.meta:
        return instance
    return instance._replace(tracked=(*instance.tracked, instance.meta["timings"]))
