"""Portable kernels: torch's CPU operators that compute the same bytes on every x86-64 with AVX2.

torch computes most operators in code of its own, whose bytes depend on the instruction set alone;
ATEN_CPU_CAPABILITY caps that at AVX2. What else it calls is MKL, which chooses its instructions
by vendor and model, and sums in another order for each choice:

    products    mm, addmm, bmm, baddbmm, and what calls them: linear, matmul
    attention   made of products
    functions   exp, log, sqrt (pow of 0.5), tanh of whole tensors

`install` replaces these by numpy's: its OpenBLAS, kept to Haswell's kernels by OPENBLAS_CORETYPE,
and its own vector functions, kept to AVX2 by NPY_DISABLE_CPU_FEATURES. The operators are replaced
below autograd, through torch.library, so that transformers' models and backward passes use them
too. Operators that reach MKL in another way raise. oneDNN, which torch uses for convolutions and
the exact GELU, chooses instructions by itself and is turned off.

Which operators these are was found by running all that torch's own tests have samples for
natively, on a processor with AVX-512, and under emulated Haswell and EPYC: the others had the same
bytes. Not covered: complex and sparse tensors, and torch.compile, which generates other code.

A sum's bytes depend on how many threads share it. So one thread computes each operator; several
rows of a batch are computed side by side instead (model/numerics/side_by_side.py).

The variables are read when the libraries are loaded. pyproject.toml has them, and the seal sets
them for the stages (pipeline/seal/environment.py); known_answer.py tells whether they took effect.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.library import Library, get_kernel

from model.numerics import attention

# These reach MKL's vector functions, random numbers, BLAS, LAPACK or Fourier transforms, or other
# libraries that choose instructions by themselves. Nothing here needs them.
_REFUSED = (
    *("acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "log10", "log2", "logit", "sin"),
    *("tan", "trunc"),
    *("bernoulli", "exponential", "_standard_gamma", "multinomial"),
    *("addbmm", "addmv", "addr", "dot", "mv", "vdot", "_addmm_activation", "_int_mm"),
    *("_fft_c2c", "_fft_c2r", "_fft_r2c"),
    *(
        "_cholesky_solve_helper",
        "_linalg_det",
        "_linalg_eigh",
        "_linalg_eigvals",
        "_linalg_slogdet",
    ),
    *("_linalg_solve_ex", "_linalg_svd", "cholesky", "cholesky_inverse"),
    *("geqrf", "linalg_cholesky_ex", "linalg_eig", "linalg_householder_product", "linalg_inv_ex"),
    *(
        "linalg_ldl_factor_ex",
        "linalg_ldl_solve",
        "linalg_lstsq",
        "linalg_lu",
        "linalg_lu_factor_ex",
    ),
    *("linalg_lu_solve", "linalg_qr", "linalg_solve_triangular", "ormqr", "triangular_solve"),
    *("convolution", "convolution_backward", "_slow_conv2d_forward", "mkldnn_convolution"),
    *("mkldnn_rnn_layer", "_embedding_bag", "_embedding_bag_forward_only"),
)

# torch has MKL's square root for an exponent of 0.5, and code of its own for others.
_POWERS = ("pow.Tensor_Scalar", "pow_.Scalar", "pow.Tensor_Scalar_out")

_TYPES = (torch.float32, torch.float64)

# Held, since the operators are gone with it.
_library: Library | None = None


def install() -> None:
    """Replace torch's operators on the CPU in this process; a second call does nothing."""
    global _library
    if is_installed():
        return
    library = Library("aten", "IMPL")
    # torch warns of the first operator that is replaced.
    warnings.filterwarnings("ignore", message="Warning only once for all operators")

    def replace(name: str, kernel: Callable[..., Any], **options: bool) -> None:
        library.impl(name, kernel, "CPU", allow_override=True, **options)

    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(False)

    for name in ("mm", "bmm"):
        product, into = _products(name)
        replace(name, product)
        replace(f"{name}.out", into)
    for name in ("addmm", "baddbmm"):
        added, in_place, into = _added_products(name)
        replace(name, added)
        replace(f"{name}_", in_place)
        replace(f"{name}.out", into)
    for name in ("exp", "log", "sqrt", "tanh"):
        function, in_place, into = _elementwise(name)
        replace(name, function)
        replace(f"{name}_", in_place)
        replace(f"{name}.out", into)
    for name, root in zip(_POWERS, _elementwise("sqrt"), strict=True):
        native = get_kernel(f"aten::{name}", "CPU").call_boxed
        replace(name, _power(native, root), with_keyset=True)
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
    """Return the names of an operator's overloads, and of its form in place."""
    return [
        f"{name}.{overload}".removesuffix(".default")
        for name in (operator, f"{operator}_")
        if hasattr(torch.ops.aten, name)
        for overload in getattr(torch.ops.aten, name).overloads()
    ]


def _refusal(operator: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError(
            f"aten::{operator} has no portable kernel; set numerics.kernels to native in "
            "params.yaml, or compute it another way"
        )

    return refuse


def _arrays(operator: str, *tensors: Tensor) -> list[np.ndarray]:
    """Return the tensors' own memory as arrays of one type.

    Strides become flags of BLAS, not copies.
    """
    dtype = tensors[0].dtype
    if dtype not in _TYPES or any(tensor.dtype != dtype for tensor in tensors):
        named = " and ".join(sorted({str(tensor.dtype) for tensor in tensors}))
        raise NotImplementedError(
            f"aten::{operator} has no portable kernel for {named}; compute in float32"
        )
    return [tensor.detach().numpy() for tensor in tensors]


def _call(function: np.ufunc, *arguments: np.ndarray, out: np.ndarray) -> None:
    """Compute as torch does: an overflow, or the logarithm of -1, is no warning."""
    with np.errstate(all="ignore"):
        function(*arguments, out=out)


def _product_shape(operator: str, left: Tensor, right: Tensor) -> tuple[int, ...]:
    """Return the shape of left @ right.

    Raises RuntimeError unless both are matrices, or batches of as many; numpy broadcasts.
    """
    *batch, rows, inner = left.shape
    if (
        len(batch) != operator.endswith("bmm")
        or right.dim() != left.dim()
        or right.shape[:-1] != (*batch, inner)
    ):
        shapes = f"{tuple(left.shape)} and {tuple(right.shape)}"
        raise RuntimeError(f"aten::{operator} has no product of shapes {shapes}")
    return (*batch, rows, right.shape[-1])


def _products(operator: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Return the operator that returns its result, and the one with `out`."""

    def multiply(left: Tensor, right: Tensor) -> Tensor:
        return write(left, right, left.new_empty(_product_shape(operator, left, right)))

    def multiply_into(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        # There may be gaps between rows. `copy_` raises for elements that share memory.
        fits = out.shape == _product_shape(operator, left, right)
        if fits and out.stride(-1) == 1 and 0 not in out.stride():
            return write(left, right, out)
        result = multiply(left, right)
        return out.resize_(result.shape).copy_(result)

    def write(left: Tensor, right: Tensor, result: Tensor) -> Tensor:
        first, second, product = _arrays(operator, left, right, result)
        _call(np.matmul, first, second, out=product)
        return result

    return multiply, multiply_into


def _added_products(operator: str) -> tuple[Callable[..., Tensor], ...]:
    """Return the operator that returns its result, the one in place, and the one with `out`."""
    multiply, multiply_into = _products(operator)

    def add(
        added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        """Return beta × added + alpha × left @ right; `added` is broadcast."""
        result = multiply(left, right)
        if alpha != 1:
            result.mul_(alpha)
        # BLAS's rule: what is multiplied by zero is not read, and may be NaN.
        return result.add_(added, alpha=beta) if beta else result

    def add_in_place(
        added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        shape = (*left.shape[:-1], right.shape[-1])
        if added.shape != shape:
            shapes = f"{tuple(shape)} to {tuple(added.shape)} in place"
            raise RuntimeError(f"aten::{operator}_ does not add {shapes}")
        if beta == 0:
            product = multiply_into(left, right, out=added)
            return product if alpha == 1 else product.mul_(alpha)
        product = multiply(left, right)
        return (added if beta == 1 else added.mul_(beta)).add_(product, alpha=alpha)

    def add_into(
        added: Tensor,
        left: Tensor,
        right: Tensor,
        *,
        beta: float = 1,
        alpha: float = 1,
        out: Tensor,
    ) -> Tensor:
        result = add(added, left, right, beta=beta, alpha=alpha)
        return out.resize_(result.shape).copy_(result)

    return add, add_in_place, add_into


def _elementwise(operator: str) -> tuple[Callable[..., Tensor], ...]:
    """Return numpy's function of that name: returning its result, in place, and with `out`.

    `copy_` writes into a tensor with gaps, and raises for one whose elements share memory.
    """
    function: np.ufunc = getattr(np, operator)

    def compute(x: Tensor) -> Tensor:
        # TensorIterator's rule: the result has the argument's order of dimensions in memory.
        result = torch.empty_like(x)
        values, results = _arrays(operator, x, result)
        _call(function, values, out=results)
        return result

    def compute_in_place(x: Tensor) -> Tensor:
        if not x.is_contiguous():
            return x.copy_(compute(x))
        [values] = _arrays(operator, x)
        _call(function, values, out=values)
        return x

    def compute_into(x: Tensor, *, out: Tensor) -> Tensor:
        result = compute(x)
        return out.resize_(x.shape).copy_(result)

    return compute, compute_in_place, compute_into


def _power(native: Callable[..., Any], root: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the operator that raises a tensor to a number: `root` for 0.5, else torch's own."""

    def power(keys: Any, x: Tensor, exponent: float, **out: Tensor) -> Tensor:
        if exponent == 0.5:
            return root(x, **out)
        result: Tensor = native(keys, x, exponent, **out)
        return result

    return power
