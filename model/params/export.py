"""The `export` section: how closely an export must agree with its checkpoint."""

from pydantic import Field

from model.section import Section


class ExportParams(Section):
    """What an export computes may differ by `parity_tolerance` from what its checkpoint does: the gate's one setting."""

    threads: int = Field(gt=0)
    parity_tolerance: float = Field(gt=0)
