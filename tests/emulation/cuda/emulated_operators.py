"""The operators for CUDA as torch calls them, on tensors of the CPU: the way to the kernels, and
what is said when the runtime refuses. In a process of its own, since they register as CUDA's."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sslkernels import AugmentPolicy, native, policies
from sslkernels.augment.layout import NUMBERS
from tests.emulation.cuda import build
from tests.emulation.cuda.test_augment import EVERYTHING, images_of, rows_for
from tests.emulation.cuda.test_augment_backward import settings_of, upstream
from tests.emulation.cuda.test_logsumexp import DTYPES
from tests.emulation.cuda.test_logsumexp import made as rows_of
from tests.emulation.cuda.test_mask_tokens import arguments as mask_arguments
from tests.emulation.cuda.test_terms import made as terms_of
from tests.emulation.cuda.test_terms import upstream_of as upstream_terms

ROOMS = ("augment", "masking", "similarity")
OUT_OF_MEMORY, NO_DEVICE, MISALIGNED, LAUNCH_FAILURE = 2, 100, 716, 719


@functools.cache
def library() -> ctypes.CDLL:
    native.load()
    rooms = [build.CSRC / room for room in ROOMS]
    kernels = [build.CSRC / "cuda_error.cu", *(x for room in rooms for x in room.glob("*.cu"))]
    callers = [
        *(x for room in rooms for x in room.glob("cuda_*operators.cpp")),
        build.HERE / "torch_device.cpp",
    ]
    path = build.build(kernels, "plain", callers)
    torch.ops.load_library(path)
    return ctypes.CDLL(str(path))


def emulated(op: str, *arguments: Any) -> Any:
    library().emulated_begin(2)
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    return getattr(torch.ops.sslkernels, op).default.redispatch(keys, *arguments)


def on_cpu(op: str, *arguments: Any) -> Any:
    return getattr(torch.ops.sslkernels, op)(*arguments)


def augment_arguments(last: bool = False) -> tuple[Tensor, Tensor, Any]:
    images = images_of((5, 3, 20, 17))
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, rows_for(images, EVERYTHING), settings_of(EVERYTHING, images)


@pytest.mark.parametrize("last", [False, True])
def test_augment(last):
    images, rows, settings = augment_arguments(last)
    ours, theirs = (
        run("augment_forward", images, rows, *settings, torch.float32, last)
        for run in (emulated, on_cpu)
    )
    assert ours.stride() == theirs.stride()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-5)
    grad = upstream(images, rows, settings)
    ours, theirs = (
        run("augment_backward", grad, images, rows, *settings) for run in (emulated, on_cpu)
    )
    assert ours.stride() == theirs.stride()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 * float(theirs.abs().max()))


def test_draws_and_masks():
    ids = torch.arange(7)
    numbers = list(policies.simclr(32).numbers) * 2
    assert len(numbers) == 2 * NUMBERS
    arguments = (ids, numbers, 9, 1, 40, 50)
    assert torch.equal(emulated("augment_draws", *arguments), on_cpu("augment_draws", *arguments))
    arguments = mask_arguments("span")
    for ours, theirs in zip(
        emulated("mask_tokens", *arguments), on_cpu("mask_tokens", *arguments), strict=True
    ):
        assert torch.equal(ours, theirs)


def assert_about_the_same(op: str, *arguments: Any) -> None:
    """As far as the roundings of 16 bits allow, of both."""
    ours, theirs = (run(op, *arguments) for run in (emulated, on_cpu))
    if isinstance(ours, Tensor):
        ours, theirs = (ours,), (theirs,)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape and mine.dtype is other.dtype
        error = (mine.double() - other.double()).norm()
        assert error <= 0.01 * other.double().norm(), op


def operands(dtype: torch.dtype, **options: Any) -> dict[str, Any]:
    """By name, as operators take them."""
    given = rows_of(40, 70, 24, dtype=dtype, **options)
    return {**given, "scale": torch.tensor(given["scale"]), "exclude": list(given["exclude"])}


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_sum_exps(dtype):
    logits = list(operands(dtype, bias=True, exclude=(3,)).values())
    assert_about_the_same("logsumexp_forward", *logits, 0)
    grad, lse = torch.linspace(-0.5, 1.5, 40), on_cpu("logsumexp_forward", *logits, 0)
    assert_about_the_same("logsumexp_backward", grad, lse, *logits, True, 0)
    q, k, *others = logits
    assert_about_the_same("weighted_logsumexp_forward", q, k, grad, *others, 0)


def sigmoid_arguments(dtype: torch.dtype = torch.bfloat16, reduction: str = "sum") -> list[Any]:
    given = operands(dtype)
    return [given["q"], given["k"], given["scale"], torch.tensor(-1.5), 7, reduction, 0]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_loss(dtype, reduction):
    arguments = sigmoid_arguments(dtype, reduction)
    assert_about_the_same("sigmoid_loss_forward", *arguments)
    assert_about_the_same("sigmoid_loss_forward_backward", *arguments)


def pair_arguments(dtype: torch.dtype = torch.bfloat16) -> list[Any]:
    given = operands(dtype)
    return [given["q"], given["k"], given["scale"], 7, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_pair_terms(dtype):
    arguments = pair_arguments(dtype)
    assert_about_the_same("pair_terms_forward", *arguments)
    terms = on_cpu("pair_terms_forward", *arguments)
    grads = [torch.linspace(0.5, 1.5, len(x)) for x in terms]
    assert_about_the_same("pair_terms_backward", *grads, *terms[:2], *arguments)


def terms_arguments(dtype: torch.dtype = torch.bfloat16) -> list[Any]:
    given = terms_of(40, 70, 24, dtype=dtype, softcap=1.5)
    return [*(given | {"scale": torch.tensor(given["scale"])}).values(), 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_logit_terms(dtype):
    arguments = terms_arguments(dtype)
    assert_about_the_same("logit_terms_forward", *arguments)
    lse = on_cpu("logit_terms_forward", *arguments)[0]
    *inputs, precision = arguments
    for with_dk in (True, False):
        rest = (*inputs, with_dk, precision)
        assert_about_the_same("logit_terms_backward", *upstream_terms(40), lse, *rest)


def test_what_the_engine_does_not_take_names_the_operator():
    q, k, scale, bias, first, reduction, precision = sigmoid_arguments()
    for wrong, message in (
        ((q.float(), k.float(), scale, bias, first, reduction), "sigmoid_loss: .*bfloat16"),
        ((q, k, scale, bias.expand(2).clone(), first, reduction), r"bias is not \[1\]"),
        ((q, k, scale, bias, -1, reduction), "first is negative"),
        ((q, k, scale, bias, first, "none"), "reduction is neither sum nor mean"),
    ):
        with pytest.raises(RuntimeError, match=message):
            emulated("sigmoid_loss_forward", *wrong, precision)
    for first in (-1, 31):
        with pytest.raises(RuntimeError, match="rows of q have no pair in k"):
            emulated("pair_terms_forward", q, k, scale, first, precision)


def test_what_logit_terms_does_not_take_names_it():
    q, k, target, *others = terms_arguments()
    for wrong, message in (
        ((q.float(), k.float(), target), "logit_terms: .*bfloat16"),
        ((q, k, target[1:]), r"target is not \[m\] of int64"),
    ):
        with pytest.raises(RuntimeError, match=message):
            emulated("logit_terms_forward", *wrong, *others)


def failing_calls() -> dict[str, Callable[[], Any]]:
    images, rows, settings = augment_arguments()
    grad = upstream(images, rows, settings)
    return {
        "augment_forward": lambda: emulated(
            "augment_forward", images, rows, *settings, torch.float32, False
        ),
        "augment_backward": lambda: emulated("augment_backward", grad, images, rows, *settings),
        "augment_draws": lambda: emulated(
            "augment_draws", torch.arange(3), list(EVERYTHING.numbers), 1, 0, 8, 8
        ),
        "mask_tokens": lambda: emulated("mask_tokens", *mask_arguments("token")),
        "logit_terms_forward": lambda: emulated("logit_terms_forward", *terms_arguments()),
        "pair_terms_forward": lambda: emulated("pair_terms_forward", *pair_arguments()),
        "sigmoid_loss_forward": lambda: emulated("sigmoid_loss_forward", *sigmoid_arguments()),
        "sigmoid_loss_forward_backward": lambda: emulated(
            "sigmoid_loss_forward_backward", *sigmoid_arguments()
        ),
    }


@pytest.mark.parametrize(
    ("op", "calls", "error", "message"),
    [
        ("augment_forward", 0, NO_DEVICE, "augment: .*no CUDA-capable device is detected"),
        ("augment_forward", 2, OUT_OF_MEMORY, "augment: .*out of memory"),
        ("augment_backward", 0, NO_DEVICE, "augment's gradient: .*no CUDA-capable device"),
        ("augment_backward", 2, LAUNCH_FAILURE, "augment's gradient: .*unspecified launch failure"),
        ("augment_backward", 3, MISALIGNED, "augment's gradient: .*misaligned address"),
        ("augment_draws", 0, LAUNCH_FAILURE, "augment: .*unspecified launch failure"),
        ("mask_tokens", 0, OUT_OF_MEMORY, "mask_tokens: .*out of memory"),
        *(
            (
                "pair_terms_forward",
                calls,
                LAUNCH_FAILURE,
                "pair_terms: .*unspecified launch failure",
            )
            for calls in range(3)
        ),
        *(
            ("logit_terms_forward", calls, MISALIGNED, "logit_terms: .*misaligned")
            for calls in range(3)
        ),
        ("sigmoid_loss_forward", 0, OUT_OF_MEMORY, "sigmoid_loss: .*out of memory"),
        ("sigmoid_loss_forward", 1, LAUNCH_FAILURE, "sigmoid_loss: .*unspecified launch failure"),
        *(
            ("sigmoid_loss_forward_backward", calls, MISALIGNED, "sigmoid_loss: .*misaligned")
            for calls in range(5)
        ),
    ],
)
def test_what_the_runtime_refuses_names_the_operator(op, calls, error, message):
    call = failing_calls()[op]
    library().emulated_fail(calls, error)
    with pytest.raises(RuntimeError, match=message):
        call()
    call()  # and the next one works


def test_a_launch_that_failed_writes_nothing():
    images, rows, settings = augment_arguments()
    out = torch.full((2, 5, 3, *settings.size), 7.0)
    before = images.clone(), rows.clone()
    library().emulated_fail(2, LAUNCH_FAILURE)
    with pytest.raises(RuntimeError, match="augment: the CUDA kernel was not launched"):
        emulated("augment_forward_out", images, rows, *settings, out)
    assert (out == 7).all() and torch.equal(images, before[0]) and torch.equal(rows, before[1])


def test_too_many_pixels_name_the_operator():
    images = images_of((1, 3, 4, 4))
    policy = AugmentPolicy(4)
    rows, settings = rows_for(images, policy), settings_of(policy, images)
    settings = settings._replace(size=(2**16, 2**16))
    with pytest.raises(RuntimeError, match="augment: views of 65536 x 65536 have too many pixels"):
        emulated("augment_forward", images, rows, *settings, torch.float32, False)


def test_four_channels_name_the_operator():
    images = images_of((1, 4, 8, 8))
    policy = AugmentPolicy(4)
    rows, settings = rows_for(images, policy), settings_of(policy, images)
    with pytest.raises(RuntimeError, match="augment: images have 4 channels, the CUDA"):
        emulated("augment_forward", images, rows, *settings, torch.float32, False)
