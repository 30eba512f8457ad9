"""The `export` section: how closely an export must agree with its checkpoint."""

from common.sections import Section, param


class ExportParams(Section):
    """The tolerance of the gate, which an export must pass to be kept (docs/trust.md)."""

    parity_tolerance: float = param(
        "Greatest difference between export and checkpoint that the gate accepts. It holds for "
        "logits; for outputs of modules, relative to their size where that exceeds 1; losses may "
        "differ by twice as much. With 1 or more, weights need not be equal either.",
        gt=0,
    )
