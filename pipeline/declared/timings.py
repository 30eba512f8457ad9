"""The time that stages took: the seal's records, and the file that a stage may write itself."""

from pathlib import Path

from pipeline.declared.dvc_yaml import Instance

# A file for each instance: "SECONDS SECONDS" of its last run, in all and without its imports.
DURATIONS = Path(".dvc/tmp/durations")
# Where a stage may write how fast it was. Nothing here is a dependency or an output.
TIMINGS = "timings"


def with_timings(instance: Instance) -> Instance:
    """Return the instance with its file of timings, if it has one, among its tracked outputs."""
    if "timings" not in instance.meta:
        return instance
    return instance._replace(tracked=(*instance.tracked, instance.meta["timings"]))
