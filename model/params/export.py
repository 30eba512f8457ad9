"""The `export` section: how closely an export must agree with its checkpoint."""

from pydantic import Field

from model.section import Section


class ExportParams(Section):
    """The `export` section: logits may differ by `parity_tolerance` on `parity_documents` validation documents."""

    threads: int = Field(gt=0)
    parity_tolerance: float = Field(gt=0)
    parity_documents: int = Field(gt=0)
