"""Matrix products of the scorer: F.linear, or oneDNN where it is faster on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Product:
    """Callable: x (rows, in) to x @ weight.T + bias (rows, out)."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self._weight, self._bias = weight.contiguous(), bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class OneDNNProduct(Product):
    """The same through oneDNN's private operators, with the weight laid out once for tiles of `rows` rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int):
        super().__init__(weight, bias)
        # A few rows show whether the operators still mean the same; a whole tile would cost a second at GPT-2's size.
        tile = torch.randn(8, weight.shape[1], generator=torch.Generator().manual_seed(0))
        expected = super().__call__(tile)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, rows)
        if not torch.allclose(
            self(tile), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        ):
            raise RuntimeError(
                "oneDNN's private linear operator no longer computes what F.linear does"
            )

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return product


def onednn_is_faster() -> bool:
    """Whether float32 products go through oneDNN: on AMD with AVX-512, where MKL takes about 2.5 times as long (on a Zen 5).

    With AVX2 the two are equal; benchmarks/scoring.py prints both rates. A rule, so that a machine always computes the same.
    """
    cpu = torch.cpu.get_capabilities()
    return str(cpu.get("cpu_name", "")).startswith("AMD") and bool(cpu.get("avx512_f"))
