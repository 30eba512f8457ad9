"""Matrix products of the scorer: F.linear, or oneDNN where it is faster on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor


class Product:
    """A linear layer. Calling it maps x (rows, in) to x @ weight.T + bias, (rows, out)."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self._weight, self._bias = weight.contiguous(), bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class OneDNNProduct(Product):
    """The same product through oneDNN's private operators, for a CPU and float32.

    The weight is reordered once, for products of `rows` rows. Raises RuntimeError if the result
    differs from F.linear's, since a release of torch may change private operators.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int):
        super().__init__(weight, bias)
        # 8 rows suffice to compare the operators; a tile of 240 would take a second for GPT-2.
        tile = torch.randn(8, weight.shape[1], generator=torch.Generator().manual_seed(0))
        expected = super().__call__(tile)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, rows)
        # Both add in float32 but in another order; the bound is 1/1000 of the largest result.
        if not torch.allclose(
            self(tile), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        ):
            raise RuntimeError(
                "oneDNN's private linear operator no longer computes what F.linear does"
            )

    def __call__(self, x: Tensor) -> Tensor:
        # "none", [] and "": no activation is fused into the product.
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "none", [], ""
        )
        return product


def onednn_is_faster() -> bool:
    """Return True on AMD processors with AVX-512, where oneDNN's float32 products are faster.

    MKL takes about 2.5 times as long there (on a Zen 5). With AVX2 both are equally fast.
    benchmarks/scoring.py prints both rates. The choice follows from the processor, not from a
    measurement at run time, so that a machine always computes the same bytes.
    """
    cpu = torch.cpu.get_capabilities()
    return str(cpu.get("cpu_name", "")).startswith("AMD") and bool(cpu.get("avx512_f"))
