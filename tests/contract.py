"""What every differentiable operator promises, as tests to inherit.

A new operator joins with a class that says how to make its inputs, how to call it, what its
reference is and how large errors may be:

    class TestMyLoss(OpContract):
        op = "my_loss"
        variants: ClassVar = {"plain": {}, "with option": {"option": True}}
        def make(self, dtype, variant, seed=0): ...
        def call(self, tensors, variant): ...
        def reference(self, tensors, variant): ...
        def tolerances(self, dtype, tensors, variant, upstream): ...
        def operators(self, namespace): ...

Tensors travel as a dict from argument name to tensor; all of them are differentiable.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

import sslkernels
from sslkernels.checks import FLOAT_DTYPES, accumulate_dtype

Tensors = dict[str, Tensor]
Variant = dict[str, Any]


def assert_within(actual: Tensor, expected: Tensor, tolerance: Tensor, what: str) -> None:
    """Elementwise |actual - expected| <= tolerance; equal infinities agree, NaN never does."""
    actual = actual.detach().double()
    same = actual == expected
    error = torch.where(same, 0.0, (actual - expected).abs())
    ratio = error / tolerance.expand_as(error)
    worst = float(ratio.max()) if ratio.numel() else 0.0
    assert worst <= 1.0, f"{what}: error {float(error.max()):.3g} is {worst:.3g} x the tolerance"


def assert_same_bits(left: Tensors, right: Tensors) -> None:
    for name in left:
        assert torch.equal(left[name], right[name]), f"{name} differs"


class OpContract:
    """Inherit, fill in the first part, and the second part is the operator's test suite."""

    op: str
    variants: ClassVar[dict[str, Variant]]
    # Of these the first variant runs every day, and the others with `-m traced`.
    traced: ClassVar = ("test_compile_fullgraph", "test_export")

    def make(self, dtype: torch.dtype, variant: Variant, seed: int = 0) -> Tensors:
        """Small random inputs. Parameters such as a scale have the accumulation dtype."""
        raise NotImplementedError

    def call(self, tensors: Tensors, variant: Variant) -> Tensor:
        """The public function."""
        raise NotImplementedError

    def reference(self, tensors: Tensors, variant: Variant) -> Tensor:
        """The definition, computed in the dtype of the tensors."""
        raise NotImplementedError

    def tolerances(
        self, dtype: torch.dtype, tensors: Tensors, variant: Variant, upstream: Tensor
    ) -> tuple[Tensor, Tensors]:
        """Allowed error of the value, and of the gradient of (upstream * value).sum()."""
        raise NotImplementedError

    def operators(self, namespace: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        """Registered operators of this op with sample arguments."""
        raise NotImplementedError

    # -- helpers ---------------------------------------------------------------------------------

    def run(self, tensors: Tensors, variant: Variant, upstream: Tensor | None = None) -> Tensors:
        """Value and gradients of every tensor, under the names "value" and "d" + name."""
        leaves = {name: x.detach().requires_grad_() for name, x in tensors.items()}
        value = self.call(leaves, variant)
        upstream = torch.ones_like(value) if upstream is None else upstream.to(value.dtype)
        grads = torch.autograd.grad(value, list(leaves.values()), upstream)
        return {"value": value.detach()} | {
            f"d{name}": g for name, g in zip(leaves, grads, strict=True)
        }

    def check(self, tensors: Tensors, variant: Variant, seed: int = 1) -> None:
        """Value and gradients against the reference in float64."""
        dtype = next(iter(tensors.values())).dtype
        exact = {name: x.detach().double().requires_grad_() for name, x in tensors.items()}
        expected = self.reference(exact, variant)
        generator = torch.Generator().manual_seed(seed)
        upstream = torch.randn(expected.shape, generator=generator).double()
        wanted = torch.autograd.grad(expected, list(exact.values()), upstream)
        actual = self.run(tensors, variant, upstream)
        exact = {name: x.detach() for name, x in exact.items()}
        value_tolerance, tolerances = self.tolerances(dtype, exact, variant, upstream)
        assert actual["value"].dtype is accumulate_dtype(dtype)
        assert_within(actual["value"], expected.detach(), value_tolerance, "value")
        for (name, x), gradient in zip(tensors.items(), wanted, strict=True):
            assert actual[f"d{name}"].dtype is x.dtype
            assert actual[f"d{name}"].shape == x.shape
            assert_within(actual[f"d{name}"], gradient, tolerances[name], f"d{name}")

    def total(self, variant: Variant, names: list[str]):
        """A function of the tensors in order, for torch.func and torch.compile."""
        return lambda *xs: self.call(dict(zip(names, xs, strict=True)), variant).sum()

    # -- the contract ----------------------------------------------------------------------------

    @pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
    def test_matches_the_float64_reference(self, implementation, variant, dtype):
        self.check(self.make(dtype, variant), variant)

    @pytest.mark.parametrize("layout", ["transposed", "every second", "offset", "row repeated"])
    def test_any_strides(self, implementation, variant, layout):
        tensors = {
            name: _lay_out(x, layout) for name, x in self.make(torch.float32, variant).items()
        }
        self.check(tensors, variant)

    def test_gradient_of_one_input_alone(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        together = self.run(tensors, variant)
        for name in tensors:
            leaves = {n: x.detach().requires_grad_(n == name) for n, x in tensors.items()}
            self.call(leaves, variant).sum().backward()
            for other, x in leaves.items():
                assert (x.grad is not None) == (other == name)
            assert torch.allclose(leaves[name].grad, together[f"d{name}"], rtol=1e-5, atol=1e-6)

    def test_gradcheck(self, implementation, variant):
        tensors = self.make(torch.float64, variant)
        leaves = [x.requires_grad_() for x in tensors.values()]
        names = list(tensors)
        function = lambda *xs: self.call(dict(zip(names, xs, strict=True)), variant)  # noqa: E731
        assert torch.autograd.gradcheck(function, leaves, fast_mode=True)

    def test_value_without_gradients(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        value = self.run(tensors, variant)["value"]
        with torch.no_grad():
            assert torch.allclose(self.call(tensors, variant), value)
        with torch.inference_mode():
            assert torch.allclose(self.call(tensors, variant), value)

    def test_inputs_stay_as_they_were(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        copies = {name: x.clone() for name, x in tensors.items()}
        self.run(tensors, variant)
        assert_same_bits(tensors, copies)

    def test_two_backwards_through_one_graph(self, implementation, variant):
        leaves = {n: x.requires_grad_() for n, x in self.make(torch.float32, variant).items()}
        inputs = list(leaves.values())
        value = self.call(leaves, variant).sum()
        first = torch.autograd.grad(value, inputs, torch.tensor(3.0), retain_graph=True)
        second = torch.autograd.grad(value, inputs, torch.tensor(3.0))
        for left, right in zip(first, second, strict=True):
            assert torch.equal(left, right)

    def test_upstream_gradient_of_any_stride(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        shape = self.run(tensors, variant)["value"].shape
        expanded = self.run(tensors, variant, torch.tensor(0.5).expand(shape))
        dense = self.run(tensors, variant, torch.full(shape, 0.5))
        assert_same_bits(expanded, dense)

    def test_same_bits_again(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        assert_same_bits(self.run(tensors, variant), self.run(tensors, variant))

    def test_one_and_two_threads_agree(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        before = torch.get_num_threads()
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                self.check(tensors, variant)
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_not_finite_shows(self, implementation, variant, bad):
        for name, x in self.make(torch.float32, variant).items():
            if x.dim() != 2:
                continue
            tensors = self.make(torch.float32, variant)
            tensors[name][1, 0] = bad
            assert not self.call(tensors, variant).isfinite().all(), name

    def test_compile_fullgraph(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        expected = self.run(tensors, variant)
        torch._dynamo.reset()
        function = torch.compile(
            self.total(variant, list(tensors)), fullgraph=True, backend="aot_eager"
        )
        leaves = {name: x.detach().requires_grad_() for name, x in tensors.items()}
        value = function(*leaves.values())
        grads = torch.autograd.grad(value, list(leaves.values()))
        assert torch.allclose(value, expected["value"].sum(), rtol=1e-6)
        for name, gradient in zip(leaves, grads, strict=True):
            assert torch.allclose(gradient, expected[f"d{name}"], rtol=1e-5, atol=1e-6), name

    def test_func_grad(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        expected = self.run(tensors, variant)
        argnums = tuple(range(len(tensors)))
        grads = grad(self.total(variant, list(tensors)), argnums)(*tensors.values())
        for name, gradient in zip(tensors, grads, strict=True):
            assert torch.allclose(gradient, expected[f"d{name}"], rtol=1e-5, atol=1e-6), name

    def test_vmap_of_grad_and_grad_of_vmap(self, implementation, variant):
        batch = [self.make(torch.float32, variant, seed) for seed in range(3)]
        names = list(batch[0])
        stacked = [torch.stack([tensors[name] for tensors in batch]) for name in names]
        argnums = tuple(range(len(names)))
        function = self.total(variant, names)
        inside = vmap(grad(function, argnums))(*stacked)
        outside = grad(lambda *xs: vmap(function)(*xs).sum(), argnums)(*stacked)
        for index, tensors in enumerate(batch):
            expected = self.run(tensors, variant)
            for name, left, right in zip(names, inside, outside, strict=True):
                wanted = expected[f"d{name}"]
                assert torch.allclose(left[index], wanted, rtol=1e-4, atol=1e-6), name
                assert torch.allclose(right[index], wanted, rtol=1e-4, atol=1e-6), name

    def test_vmap_over_one_input(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        names = list(tensors)
        first = torch.stack([tensors[names[0]], self.make(torch.float32, variant, 7)[names[0]]])
        function = self.total(variant, names)
        in_dims = (0,) + (None,) * (len(names) - 1)
        rest = list(tensors.values())[1:]
        grads = vmap(grad(function, tuple(range(len(names)))), in_dims)(first, *rest)
        for index in range(2):
            expected = self.run(tensors | {names[0]: first[index]}, variant)
            for name, gradient in zip(names, grads, strict=True):
                wanted = expected[f"d{name}"]
                assert torch.allclose(gradient[index], wanted, rtol=1e-4, atol=1e-6), name

    def test_export(self, implementation, variant):
        tensors = self.make(torch.float32, variant)
        names = list(tensors)
        contract = self

        class Module(torch.nn.Module):
            def forward(self, *xs):
                return contract.call(dict(zip(names, xs, strict=True)), variant)

        program = torch.export.export(Module(), tuple(tensors.values()))
        expected = self.call(tensors, variant)
        assert torch.allclose(program.module()(*tensors.values()), expected)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast(self, implementation, variant, dtype):
        """Matrices are rounded to the autocast dtype; logits and results stay float32."""
        tensors = self.make(torch.float32, variant)
        rounded = {n: x.to(dtype) if x.dim() == 2 else x for n, x in tensors.items()}
        expected = self.run(rounded, variant)
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
        with torch.autocast("cpu", dtype):
            value = self.call(leaves, variant)
        assert value.dtype is torch.float32
        assert torch.allclose(value, expected["value"], rtol=1e-6)
        value.sum().backward()
        for name, x in leaves.items():
            # Both were rounded to `dtype`, but may have been summed in another order before.
            limit = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 1e-5} if x.dim() == 2 else {}
            assert torch.allclose(x.grad, expected[f"d{name}"].float(), **limit), name

    def test_autocast_around_the_backward(self, fused, variant):
        """Products inside a fused backward are not autocast."""
        leaves = {n: x.requires_grad_() for n, x in self.make(torch.float32, variant).items()}
        expected = self.run(leaves, variant)
        value = self.call(leaves, variant).sum()
        with torch.autocast("cpu", torch.bfloat16):
            grads = torch.autograd.grad(value, list(leaves.values()))
        for name, gradient in zip(leaves, grads, strict=True):
            assert torch.allclose(gradient, expected[f"d{name}"], rtol=1e-5, atol=1e-6), name

    def test_second_derivative_is_a_clear_error(self, fused, variant):
        leaves = {n: x.requires_grad_() for n, x in self.make(torch.float32, variant).items()}
        value = self.call(leaves, variant).sum()
        first = next(iter(leaves.values()))
        (gradient,) = torch.autograd.grad(value, first, create_graph=True)
        with pytest.raises(RuntimeError, match=r"no second derivative.*backend\('reference'\)"):
            gradient.sum().backward()
        function = self.total(variant, list(leaves))
        values = [x.detach() for x in leaves.values()]
        with pytest.raises(RuntimeError, match="no second derivative"):
            grad(lambda *xs: grad(function)(*xs).sum())(*values)

    def test_second_derivative_of_the_reference(self, variant):
        leaves = [x.requires_grad_() for x in self.make(torch.float64, variant).values()]
        with sslkernels.backend("reference"):
            function = self.total(variant, list(self.make(torch.float64, variant)))
            assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)

    def test_opcheck(self, fused):
        namespace = torch.ops.sslkernels if fused == "cpu" else torch.ops.sslkernels_chunked
        samples = self.operators(namespace)
        for operator, args in samples:
            torch.library.opcheck(operator, args)

    def test_schemas_are_the_same(self):
        if self.op_missing():
            pytest.skip(self.op_missing().splitlines()[0])
        native = {str(op._schema).split("::")[1] for op, _ in self.operators(torch.ops.sslkernels)}
        chunked = self.operators(torch.ops.sslkernels_chunked)
        assert {str(op._schema).split("::")[1] for op, _ in chunked} <= native

    def op_missing(self) -> str:
        return sslkernels.backends.why_not(self.op, "cpu", torch.empty(0))


def _lay_out(x: Tensor, layout: str) -> Tensor:
    """The same kind of tensor with unusual strides; "row repeated" also changes the values."""
    if x.dim() == 0:
        return x
    if layout == "transposed":
        return x.t().contiguous().t() if x.dim() == 2 else x
    if layout == "every second":
        return x.repeat_interleave(2, dim=-1)[..., ::2]
    if layout == "offset":
        return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)
    return x[:1].expand(x.shape)
