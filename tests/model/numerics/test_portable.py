"""Operators that numpy computes: as torch's own, in all their forms; others raise."""

import math

import pytest
import torch
import torch.nn.functional as F
from portable_kernels import installed, kernels  # noqa: F401

from model.numerics import portable

# numpy's warnings are no part of torch's operators.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

FORMS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "with gaps": lambda x: torch.stack([x, x], -1)[..., 0],
    "expanded": lambda x: x[..., :1, :].expand(x.shape),
    "grown": lambda x: F.pad(x, (1, 2, 3, 1))[..., 3:-1, 1:-2],
}
SIZES = [(5, 7, 3), (1, 1, 1), (0, 7, 3), (5, 0, 3), (5, 7, 0), (1, 9, 33), (130, 70, 1)]


def numbers(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype)


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("left", FORMS)
@pytest.mark.parametrize("right", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_any_strides(left, right, dtype):
    for rows, inner, columns in SIZES:
        a, b = FORMS[left](numbers(rows, inner, dtype=dtype)), numbers(inner, columns, dtype=dtype)
        b = FORMS[right](b)
        batches = FORMS[left](numbers(3, rows, inner, dtype=dtype)), b.expand(3, inner, columns)
        added = numbers(columns, dtype=dtype)

        def products(a=a, b=b, batches=batches, added=added) -> list[torch.Tensor]:
            return [
                a @ b,
                torch.bmm(*batches),
                torch.addmm(added, a, b),
                torch.addmm(added, a, b, beta=0.5, alpha=2),
                torch.baddbmm(added, *batches, beta=-1, alpha=0.25),
                F.linear(a, b.T, added),
                torch.einsum("ij,jk->ik", a, b),
            ]

        wanted = products()
        with installed():
            found = products()
        for one, other in zip(found, wanted, strict=True):
            close(one, other)


@pytest.mark.usefixtures("kernels")
class TestProductsInPlace:
    def test_an_argument_may_be_the_result(self):
        a, b = numbers(6, 6), numbers(6, 6) + 1
        wanted = (a.double() @ b.double()).float()
        for out, pair in ((a.clone(), 0), (b.clone(), 1)):
            left, right = (out, b) if pair == 0 else (a, out)
            assert torch.mm(left, right, out=out) is out
            close(out, wanted)
        same = a.clone()
        close(torch.mm(same, same.T, out=same), (a.double() @ a.double().T).float())

    @pytest.mark.parametrize("form", ["contiguous", "transposed", "with gaps", "grown"])
    def test_out_has_any_strides(self, form):
        a, b, added = numbers(4, 5), numbers(5, 6), numbers(6)
        out = FORMS[form](torch.full((4, 6), math.nan))
        assert torch.mm(a, b, out=out) is out
        close(out, (a.double() @ b.double()).float())
        torch.addmm(added, a, b, alpha=3, out=out)
        close(out, (added.double() + 3 * a.double() @ b.double()).float())
        ahead = torch.full((2, 4, 9), math.nan)
        torch.bmm(a.expand(2, 4, 5), b.expand(2, 5, 6), out=ahead[:, :, 2:8])
        close(ahead[1, :, 2:8], a @ b)
        assert ahead[:, :, [0, 1, 8]].isnan().all()
        with pytest.raises(RuntimeError, match="single memory location"):
            torch.mm(a, b, out=torch.ones(6).expand(4, 6))
        batches = torch.bmm(a[None], b[None], out=torch.empty(0))
        close(batches[0], a @ b)

    @pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (0, 2), (0.5, 1), (-1, 0.25)])
    def test_sums_in_place(self, beta, alpha):
        a, b, into = numbers(3, 4, 5), numbers(3, 5, 6), numbers(3, 4, 6)
        wanted = beta * into.double() + alpha * (a.double() @ b.double())
        close(into.clone().baddbmm_(a, b, beta=beta, alpha=alpha), wanted.float())
        close(into[0].clone().addmm_(a[0], b[0], beta=beta, alpha=alpha), wanted[0].float())

    def test_what_is_multiplied_by_zero_is_not_read(self):
        a, b, nothing = numbers(4, 5), numbers(5, 6), torch.full((4, 6), math.nan)
        for found in (torch.addmm(nothing, a, b, beta=0), nothing.clone().addmm_(a, b, beta=0)):
            close(found, a @ b)

    @pytest.mark.parametrize(
        "product",
        [
            lambda a: torch.mm(a, a),
            lambda a: torch.mm(a[None], a.T),
            lambda a: torch.bmm(a.expand(3, 4, 5), a.T.expand(2, 5, 4)),
            lambda a: torch.bmm(a.expand(3, 4, 5), a.T.expand(1, 5, 4)),
            lambda a: a[:, :4].clone().addmm_(a[:1], a.T),
        ],
    )
    def test_shapes_that_numpy_would_broadcast_raise(self, product):
        with pytest.raises(RuntimeError, match=r"aten::\w+ (has no product of|does not add) "):
            product(numbers(4, 5))

    @pytest.mark.parametrize(
        ("left", "right", "named"),
        [
            (torch.bfloat16, torch.bfloat16, "torch.bfloat16"),
            (torch.int64, torch.int64, "torch.int64"),
            (torch.float32, torch.float64, "torch.float32 and torch.float64"),
        ],
    )
    def test_other_types_raise(self, left, right, named):
        with pytest.raises(NotImplementedError, match=f"^aten::mm has no .* for {named};"):
            torch.mm(torch.ones(2, 2, dtype=left), torch.ones(2, 2, dtype=right))


FUNCTIONS = ("exp", "log", "sqrt", "tanh")
VALUES = torch.tensor([0.0, -0.0, 1.0, -1.0, 88.0, -104.0, 1e-45, math.inf, -math.inf, math.nan])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions(name, form, dtype):
    for shape in [(5, 7), (2, 3, 70), (0, 4)]:
        x = FORMS[form](numbers(*shape, dtype=dtype))
        wanted = getattr(torch, name)(x)
        with installed():
            found = getattr(torch, name)(x)
            close(found, wanted)
            assert found.stride() == wanted.stride() or not x.numel()
            if form != "expanded":
                in_place = FORMS[form](x.clone())
                assert getattr(in_place, f"{name}_")() is in_place
                close(in_place, wanted)
            gaps = torch.stack([x, x], -1)[..., 0]
            close(getattr(torch, name)(x, out=gaps), wanted)
            alias = x.contiguous().clone()
            assert getattr(torch, name)(alias, out=alias) is alias
            close(alias, wanted)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_special_values_and_of_no_dimension(name):
    wanted = getattr(torch, name)(VALUES)
    one = getattr(torch, name)(torch.tensor(0.5))
    with installed():
        close(getattr(torch, name)(VALUES), wanted)
        close(getattr(torch, name)(torch.tensor(0.5)), one)
        [each] = getattr(torch, f"_foreach_{name}")([VALUES])
        close(each, wanted)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_refuse_memory_that_elements_share_and_other_types(name):
    with pytest.raises(RuntimeError, match="single memory location"):
        getattr(torch.ones(1).expand(3), f"{name}_")()
    with pytest.raises(NotImplementedError, match=f"^aten::{name} has no .* for torch.int64"):
        getattr(torch, name)(torch.ones(3, dtype=torch.int64))


@pytest.mark.parametrize("exponent", [0.5, -0.5, 0, 1, 2, 3, -1, 2.5])
def test_powers(exponent):
    x = numbers(5, 7).abs() + 0.1
    wanted = x.pow(exponent)
    with installed():
        close(x.pow(exponent), wanted)
        close(x.clone().pow_(exponent), wanted)
        close(torch.pow(x, exponent, out=torch.empty(0)), wanted)
        if exponent == 0.5:
            assert (x.pow(0.5) == torch.from_numpy(x.double().numpy() ** 0.5).float()).all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_functions_and_products_in_other_modes(mode):
    x = numbers(4, 4).abs().requires_grad_()
    with installed(), mode():
        close(x @ x.exp(), (x.double() @ x.double().exp()).float())


def test_gradients_forward_and_backward():
    def loss(x, y):
        product = torch.addmm(y[0, :4], x, y.T)
        return (
            product.exp().add(1).log().sqrt().tanh().pow(0.5).sum()
            + torch.bmm(x[None], y.T[None]).square().sum()
        )

    x, y = numbers(4, 5), numbers(4, 5) + 1
    arguments = (x.double(), y.double())
    wanted = torch.func.grad(loss, (0, 1))(*arguments)
    direction = (torch.ones_like(x), torch.ones_like(y))
    with installed():
        assert torch.autograd.gradcheck(loss, [each.requires_grad_() for each in arguments])
        for found, of in zip(torch.func.grad(loss, (0, 1))(x, y), wanted, strict=True):
            torch.testing.assert_close(found, of.detach().float(), rtol=1e-4, atol=1e-4)
        _, forward = torch.func.jvp(loss, (x, y), direction)
    along = sum((of * one).sum() for of, one in zip(wanted, direction, strict=True))
    torch.testing.assert_close(forward, along.detach().float(), rtol=1e-4, atol=1e-3)


REFUSED = {
    "mv": lambda x: x @ x[0],
    "dot": lambda x: x[0] @ x[0],
    "addmv": lambda x: torch.addmv(x[0], x, x[0]),
    "cos": lambda x: x.cos(),
    "cos_": lambda x: x.cos_(),
    "cos.out": lambda x: torch.cos(x, out=x),
    "sin": lambda x: torch._foreach_sin([x]),
    "erf": lambda x: torch.erf(x),
    "logit": lambda x: torch.logit(x),
    "bernoulli_.float": lambda x: F.dropout(x, 0.5),
    "multinomial": lambda x: torch.multinomial(x, 1),
    "convolution": lambda x: F.conv1d(x[None], torch.ones(4, 4, 1)),
    "linalg_cholesky_ex": lambda x: torch.linalg.cholesky(x @ x.T),
    "linalg_inv_ex": lambda x: torch.linalg.inv(x),
    "_linalg_svd": lambda x: torch.linalg.svd(x),
    "_fft_r2c": lambda x: torch.fft.rfft(x),
    "_embedding_bag": lambda x: F.embedding_bag(torch.tensor([[0]]), x),
}


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("name", REFUSED)
def test_an_operator_without_a_portable_kernel_raises_with_its_name(name):
    with pytest.raises(NotImplementedError, match=rf"^aten::{name}\S* has no portable kernel"):
        REFUSED[name](torch.eye(4) * 0.5 + 0.1)


def test_every_refused_operator_exists_with_all_its_overloads():
    for operator in portable._REFUSED:
        overloads = portable._overloads(operator)
        assert overloads
        in_place = any(name.split(".")[0] == f"{operator}_" for name in overloads)
        assert in_place == hasattr(torch.ops.aten, f"{operator}_")


@pytest.mark.usefixtures("kernels")
def test_onednn_is_off_and_operators_have_one_thread():
    assert not torch.backends.mkldnn.enabled
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("kernels")
def test_a_second_install_does_nothing():
    library = portable._library
    portable.install()
    assert portable._library is library
    close(numbers(3, 3) @ torch.eye(3), numbers(3, 3))
