"""Registration of operators with torch.

The C++ operators live in `torch.ops.sslkernels`; their plain PyTorch and Triton twins, with the
same names and schemas, in `torch.ops.sslkernels_chunked` and `torch.ops.sslkernels_triton`. All get
the same fake and the same vmap rule here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

NAMESPACES: dict[str, Any] = {
    "cpu": torch.ops.sslkernels,
    "cuda": torch.ops.sslkernels,  # the dispatcher takes the kernel of the tensors' device
    "chunked": torch.ops.sslkernels_chunked,
    "triton": torch.ops.sslkernels_triton,
}

_chunked = torch.library.Library("sslkernels_chunked", "FRAGMENT")


def define_chunked(
    name: str, schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]
) -> None:
    """Define a plain PyTorch operator that runs on any device."""
    _chunked.define(name + schema)
    _chunked.impl(name, implementation, "CompositeExplicitAutograd")
    _complete("sslkernels_chunked", name, fake)


def complete_native(**fakes: Callable[..., Any]) -> None:
    """Give loaded C++ operators what they lack: a fake and a vmap rule each."""
    for name, fake in fakes.items():
        _complete("sslkernels", name, fake)


def define_triton(module: str, **fakes: Callable[..., Any]) -> None:
    """Import the module with the Triton operators of those names, and define them.

    Triton is imported here and not before: that takes time, and a CPU build of torch has none.
    """
    implementations = importlib.import_module(module)
    for name, fake in fakes.items():
        schema = getattr(torch.ops.sslkernels_chunked, name).default._schema
        text = str(schema)
        torch.library.triton_op(
            f"sslkernels_triton::{name}",
            getattr(implementations, name),
            mutates_args=tuple(x.name for x in schema.arguments if x.is_write),
            schema=text[text.index("(") :],
        )
        _complete("sslkernels_triton", name, fake)


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Kernels are launched on the current device, which need not be that of the tensors."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def apply(function: type[Function], *args: Any) -> Any:
    """`function.apply`, by the shortest way.

    What torch.func and torch.compile need, a forward apart from its setup_context, costs every
    plain call some 40 us: those take a twin of the function that has both in one.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return function.apply(*args)
    return _eager_twin(function).apply(*args)


@functools.cache
def _eager_twin(function: type[Function]) -> type[Function]:
    def forward(ctx: Any, *args: Any) -> Any:
        output = function.forward(*args)
        function.setup_context(ctx, args, output)
        return output

    body = {"forward": staticmethod(forward), "backward": staticmethod(function.backward)}
    return type(function.__name__, (Function,), body)


def apply_in_backward(function: type[Function], *args: Any) -> Any:
    """`function.apply` where a further derivative may be asked for, else just its forward."""
    return function.apply(*args) if torch.is_grad_enabled() else function.forward(*args)


def is_one(grad: Tensor) -> bool:
    """Whether an upstream gradient changes nothing, as that of `loss.backward()`.

    True only where the answer waits for no device and no graph is traced or recorded: there the
    gradients that a forward saved may be returned as they are. Autograd copies those that outlive
    the call, and a hook that overwrites one makes a second backward fail.
    """
    plain = not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
    )
    real = type(grad) is Tensor and grad.is_cpu  # no fake, no other subclass
    return plain and real and grad.item() == 1


def second_order(op: str) -> RuntimeError:
    """The error for a second derivative through a fused operator."""
    return RuntimeError(
        f"{op}: the fused implementations have no second derivative; compute the loss inside "
        "`with sslkernels.backend('reference'):`, which is differentiable any number of times"
    )


def _complete(namespace: str, name: str, fake: Callable[..., Any]) -> None:
    torch.library.register_fake(f"{namespace}::{name}", fake)
    operator = getattr(getattr(torch.ops, namespace), name).default

    def vmap_rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        """One call for each element of the batch: a batch of losses has no larger product."""
        results = []
        for index in range(info.batch_size):
            element = [
                arg.select(dim, index).contiguous() if isinstance(dim, int) else arg
                for arg, dim in zip(args, in_dims, strict=True)
            ]
            results.append(operator(*element))
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        outputs = tuple(torch.stack(column) for column in zip(*results, strict=True))
        return outputs, (0,) * len(outputs)

    torch.library.register_vmap(f"{namespace}::{name}", vmap_rule)
