"""Portable kernels: torch's CPU operators that compute the same bytes on every x86-64 with AVX2.

torch computes most operators in code of its own, whose bytes depend on the instruction set alone;
ATEN_CPU_CAPABILITY caps that at AVX2. What else it calls is MKL, which chooses its instructions
by vendor and model, and sums in another order for each choice:

    products    mm, addmm, bmm, baddbmm, and what calls them: linear, matmul
    attention   made of products
    functions   exp, log, sqrt, tanh of whole tensors

`install` replaces these by numpy's: its OpenBLAS, kept to Haswell's kernels by OPENBLAS_CORETYPE,
and its own vector functions, kept to AVX2 by NPY_DISABLE_CPU_FEATURES. The operators are replaced
below autograd, through torch.library, so that transformers' models and backward passes use them
too. Operators that reach MKL or oneDNN in another way raise.

A sum's bytes depend on how many threads share it. So one thread computes each operator; several
rows of a batch are computed side by side instead (model/numerics/side_by_side.py).

The variables are read when the libraries are loaded. pyproject.toml has them, and the seal sets
them for the stages (pipeline/seal/environment.py); known_answer.py tells whether they took effect.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.library import Library

from model.numerics import attention

# These reach MKL's vector functions, its BLAS or LAPACK, or oneDNN. Nothing here needs them.
_REFUSED = (
    *("acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "log10", "log2", "sin", "tan"),
    *("addbmm", "addmv", "dot", "mv", "vdot", "_addmm_activation", "_int_mm"),
    *("_fft_c2c", "_fft_c2r", "_fft_r2c"),
    *("_linalg_det", "_linalg_eigh", "_linalg_solve_ex", "_linalg_svd", "linalg_cholesky_ex"),
    *("linalg_inv_ex", "linalg_lu_factor_ex", "linalg_qr", "linalg_solve_triangular"),
    *("mkldnn_convolution", "mkldnn_rnn_layer", "_slow_conv2d_forward"),
)

# Held, since the operators are gone with it.
_library: Library | None = None


def install() -> None:
    """Replace torch's operators on the CPU in this process; a second call does nothing."""
    global _library
    if is_installed():
        return
    library = Library("aten", "IMPL")

    def replace(name: str, kernel: Callable[..., Any]) -> None:
        library.impl(name, kernel, "CPU", allow_override=True)

    torch.set_num_threads(1)

    for name in ("mm", "bmm"):
        replace(name, _product)
        replace(f"{name}.out", _product_into)
    for name in ("addmm", "baddbmm"):
        replace(name, _added_product)
        replace(f"{name}.out", _added_product_into)
        replace(f"{name}_", _add_product)
    for name in ("exp", "log", "sqrt", "tanh"):
        function, in_place, into = _elementwise(getattr(np, name))
        replace(name, function)
        replace(f"{name}_", in_place)
        replace(f"{name}.out", into)
    for operator in _REFUSED:
        for overload in _overloads(operator):
            replace(overload, _refusal(overload))
    replace(attention.FORWARD, attention.attend)
    replace(attention.BACKWARD, attention.attend_backward)
    _library = library


def is_installed() -> bool:
    """Return whether `install` has been called in this process."""
    return _library is not None


def _overloads(operator: str) -> list[str]:
    packet = getattr(torch.ops.aten, operator)
    return [f"{operator}.{name}".removesuffix(".default") for name in packet.overloads()]


def _refusal(operator: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError(
            f"aten::{operator} has no portable kernel; set numerics.kernels to native in "
            "params.yaml, or compute it another way"
        )

    return refuse


def _array(tensor: Tensor) -> np.ndarray:
    """Return the tensor's own memory as an array; its strides become BLAS's flags, not copies."""
    if tensor.dtype not in (torch.float32, torch.float64):
        raise NotImplementedError(f"no portable kernel for {tensor.dtype}; compute in float32")
    array: np.ndarray = tensor.detach().numpy()
    return array


def _product(left: Tensor, right: Tensor) -> Tensor:
    result = left.new_empty((*left.shape[:-1], right.shape[-1]))
    np.matmul(_array(left), _array(right), out=_array(result))
    return result


def _product_into(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
    if out.is_contiguous() and out.shape == (*left.shape[:-1], right.shape[-1]):
        np.matmul(_array(left), _array(right), out=_array(out))
        return out
    product = _product(left, right)
    return out.resize_(product.shape).copy_(product)


def _added_product(
    added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """Return beta × added + alpha × left @ right; `added` is broadcast."""
    result = _product(left, right)
    if alpha != 1:
        result.mul_(alpha)
    # BLAS's rule: what is multiplied by zero is not read, and may be NaN.
    return result.add_(added, alpha=beta) if beta else result


def _added_product_into(
    added: Tensor,
    left: Tensor,
    right: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: Tensor,
) -> Tensor:
    result = _added_product(added, left, right, beta=beta, alpha=alpha)
    return out.resize_(result.shape).copy_(result)


def _add_product(
    added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    if beta == 0:
        return _product_into(left, right, out=added).mul_(alpha)
    product = _product(left, right)
    return (added if beta == 1 else added.mul_(beta)).add_(product, alpha=alpha)


def _elementwise(function: np.ufunc) -> tuple[Callable[..., Tensor], ...]:
    """Return the operator that returns its result, the one in place, and the one with `out`."""

    def compute(x: Tensor) -> Tensor:
        # TensorIterator's rule: the result has the argument's order of dimensions in memory.
        result = torch.empty_like(x)
        function(_array(x), out=_array(result))
        return result

    def compute_in_place(x: Tensor) -> Tensor:
        function(_array(x), out=_array(x))
        return x

    def compute_into(x: Tensor, *, out: Tensor) -> Tensor:
        out.resize_(x.shape)
        function(_array(x), out=_array(out))
        return out

    return compute, compute_in_place, compute_into
