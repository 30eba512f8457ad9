"""The `export` section: how closely an export must agree with its checkpoint."""

from pydantic import Field

from common.sections import Section


class ExportParams(Section):
    """The gate's tolerance: how far an export's outputs may be from its checkpoint's.

    The gate does not compare them if it is 1 or more.
    """

    parity_tolerance: float = Field(gt=0)
