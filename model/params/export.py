"""The `export` section: how closely an export must agree with its checkpoint."""

from pydantic import Field

from common.sections import Section


class ExportParams(Section):
    """The gate's one setting: how far what an export computes may be from what its checkpoint does; 1 or more gives it up."""

    threads: int = Field(gt=0)
    parity_tolerance: float = Field(gt=0)
