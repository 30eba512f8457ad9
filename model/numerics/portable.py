"""Portable kernels: torch's CPU operators that compute the same bytes on every x86-64 with AVX2.

torch computes most operators in code of its own. Their bytes depend on the instruction set alone,
which ATEN_CPU_CAPABILITY caps at AVX2. For the following operators torch calls MKL. MKL chooses its
instructions by vendor and model of the processor, and sums in another order for each choice:

    torch's operators                                   computed here by
    products    mm, addmm, bmm, baddbmm, and what       numpy.matmul: OpenBLAS with Haswell's
                calls them: linear, matmul              kernels (OPENBLAS_CORETYPE)
    attention                                           products and softmax (attention.py)
    functions   exp, log, sqrt (pow of 0.5), tanh       numpy's vector functions, kept to AVX2
                of whole tensors                        (NPY_DISABLE_CPU_FEATURES)

`install` replaces these operators below autograd, through torch.library. So transformers' models
and backward passes use the replacements too. Operators that reach MKL in another way raise
NotImplementedError. oneDNN, which torch uses for convolutions and the exact GELU, also chooses
instructions by processor; it is turned off.

The list was found by experiment: all operators with samples in torch's own tests ran on a processor
with AVX-512, and under emulated Haswell and EPYC. Operators that are not listed had the same bytes.
Not covered: complex and sparse tensors, and torch.compile, which generates other code.

A sum's bytes depend on how many threads share it. So one thread computes each operator, and several
rows of a batch are computed side by side instead (model/numerics/side_by_side.py).

Libraries read the variables when they are loaded. pyproject.toml has them, and the seal sets them
for the stages (pipeline/seal/environment.py). known_answer.py checks whether they took effect.
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
# libraries that choose instructions by processor. No stage needs them.
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

# torch calls MKL's square root for an exponent of 0.5, and code of its own for all others.
_POWERS = ("pow.Tensor_Scalar", "pow_.Scalar", "pow.Tensor_Scalar_out")

_TYPES = (torch.float32, torch.float64)

# Kept for the life of the process: when the Library is deleted, torch's operators come back.
_library: Library | None = None


def install() -> None:
    """Replace torch's operators on the CPU in this process; a second call does nothing.

    Also sets torch to one thread and turns oneDNN off.
    """
    global _library
    if is_installed():
        return
    library = Library("aten", "IMPL")
    # torch warns about the first operator that is replaced.
    warnings.filterwarnings("ignore", message="Warning only once for all operators")

    def replace(name: str, kernel: Callable[..., Any], **options: bool) -> None:
        library.impl(name, kernel, "CPU", allow_override=True, **options)

    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(False)

    for name in ("mm", "bmm"):
        product, into = _products(name)
        replace(name, product)
        replace(f"{name}.out", into)
    # The fused form `added × beta + alpha × left @ right`, in torch's three variants.
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
        # Taken before the replacement, so exponents other than 0.5 still reach torch's code.
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
    """Return the names of an operator's overloads, and those of its in-place form.

    For `log2`: log2, log2.out, log2_.
    """
    return [
        f"{name}.{overload}".removesuffix(".default")
        for name in (operator, f"{operator}_")
        if hasattr(torch.ops.aten, name)
        for overload in getattr(torch.ops.aten, name).overloads()
    ]


def _refusal(operator: str) -> Callable[..., Any]:
    """Return a kernel that raises NotImplementedError, which names `operator`."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError(
            f"aten::{operator} has no portable kernel; set numerics.kernels to native in "
            "params.yaml, or compute it another way"
        )

    return refuse


def _arrays(operator: str, *tensors: Tensor) -> list[np.ndarray]:
    """Return the tensors' own memory as numpy arrays of one dtype.

    Nothing is copied: a transposed tensor becomes a strided array, which numpy passes to BLAS as a
    flag. Raises NotImplementedError unless all are float32, or all float64.
    """
    dtype = tensors[0].dtype
    if dtype not in _TYPES or any(tensor.dtype != dtype for tensor in tensors):
        named = " and ".join(sorted({str(tensor.dtype) for tensor in tensors}))
        raise NotImplementedError(
            f"aten::{operator} has no portable kernel for {named}; compute in float32"
        )
    return [tensor.detach().numpy() for tensor in tensors]


def _call(function: np.ufunc, *arguments: np.ndarray, out: np.ndarray) -> None:
    """Compute without numpy's warnings: torch gives none for overflows or the logarithm of -1."""
    with np.errstate(all="ignore"):
        function(*arguments, out=out)


def _product_shape(operator: str, left: Tensor, right: Tensor) -> tuple[int, ...]:
    """Return the shape of left @ right: (…, rows, inner) @ (…, inner, columns).

    Raises RuntimeError unless both are matrices, or with bmm batches of equally many matrices.
    numpy would broadcast other shapes, which torch's operators do not.
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
    """Return two forms of a product: the one that returns its result, and the one with `out`."""

    def multiply(left: Tensor, right: Tensor) -> Tensor:
        return write(left, right, left.new_empty(_product_shape(operator, left, right)))

    def multiply_into(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        # numpy writes into a tensor with gaps between its rows. Other layouts get a copy of the
        # result; `copy_` raises if elements of `out` share memory.
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
    """Return three forms of a sum with a product: returning it, in place, and with `out`."""
    multiply, multiply_into = _products(operator)

    def add(
        added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        """Return beta × added + alpha × left @ right; `added` is broadcast."""
        result = multiply(left, right)
        if alpha != 1:
            result.mul_(alpha)
        # BLAS's rule: with beta = 0, `added` is not read, so its NaNs do not spread.
        return result.add_(added, alpha=beta) if beta else result

    def add_in_place(
        added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor:
        shape = (*left.shape[:-1], right.shape[-1])
        # In place nothing broadcasts: the result has to fit into `added`.
        if added.shape != shape:
            shapes = f"{tuple(shape)} to {tuple(added.shape)} in place"
            raise RuntimeError(f"aten::{operator}_ does not add {shapes}")
        # The same rule of BLAS: overwrite without reading.
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
    """Return three forms of numpy's function of that name: returning, in place, and with `out`.

    Results for tensors with gaps go through `copy_`, which raises if elements share memory.
    """
    function: np.ufunc = getattr(np, operator)

    def compute(x: Tensor) -> Tensor:
        # TensorIterator's rule: in memory, the result has the argument's order of dimensions.
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
    """Return the operator `pow` with a number as exponent: `root` for 0.5, else torch's own.

    `keys` is the set of dispatch keys that torch passes on to its own kernel.
    """

    def power(keys: Any, x: Tensor, exponent: float, **out: Tensor) -> Tensor:
        if exponent == 0.5:
            return root(x, **out)
        result: Tensor = native(keys, x, exponent, **out)
        return result

    return power
