"""`augment`: checks, draws, choice of implementation, and the registered operators.

The reference draws through the chunked operator too: draws have no gradient, and are the same bits
whoever makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends
from sslkernels.augment import arguments, chunked, reference, schemas
from sslkernels.augment.draws import draw
from sslkernels.augment.layout import AFFINE, NUMBERS, ROW
from sslkernels.augment.policy import AugmentPolicy
from sslkernels.augment.reference import Settings
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import (
    NAMESPACES,
    apply,
    apply_in_backward,
    complete_native,
    define_chunked,
    define_triton,
    second_order,
)


def augment(
    images: Tensor,
    policy: AugmentPolicy | Sequence[AugmentPolicy],
    *,
    views: int | None = None,
    seed: int | None = None,
    epoch: int = 0,
    sample_ids: Tensor | None = None,
    draws: Tensor | None = None,
    out: Any = None,
    return_draws: bool = False,
) -> Any:
    """Draw augmentations for every view of every image, and apply them in one pass.

    What is drawn depends on nothing but (seed, epoch, sample id, view), the policy and the size of
    the images: not on how the data is cut into batches, nor on the number of workers or threads,
    the device or the implementation. So give each image its number in the data set; without
    sample_ids the same place of every batch draws the same, and only another epoch or seed helps.

    Differentiable in floating images, and twice where no stage is but crop, resize, flips,
    rotation, blur, DiffAugment's, normalisation and erasing; the reference, everywhere.

    Args:
        images: [B, C, H, W], uint8 in 0 ... 255 or floating in [0, 1], on any device, contiguous
            or channels_last (other strides are copied first). C is 1 or 3, or any where the policy
            has no colour jitter and no grayscale.
        policy: what may happen; or a sequence with a policy for each view.
        views: how many with a single policy; by default 2.
        seed: in [0, 2**64).
        epoch: in [0, 2**24).
        sample_ids: [B] integers, any values; by default 0, 1, ... B - 1.
        draws: [V, B, 32] from an earlier call with the same policy, to be applied again; then no
            seed.
        out: a tensor that the views are written into, of their shape and dtype, contiguous or with
            each view channels_last; a sequence of tensors where the result is one. No gradient.
        return_draws: return (views, draws), draws [V, B, 32] float32: see `augment.layout.Slot`.

    Returns:
        [V, B, C, h, w], of the policy's dtype, by default float64 for float64 images and else
        float32; or, where policies differ in size or dtype, a tuple of V tensors [B, C, h, w].
        Where they have 2 MiB and more, the C++ kernels put them into memory that is used again
        once nothing refers to it (up to 512 MiB are kept): such a tensor cannot be resized.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: images that are not 4-D or empty, channels that the policy cannot do, a number
            out of its range, a tensor of the wrong shape or device, neither seed nor draws or both,
            out while images require a gradient.
        RuntimeError: a second derivative where there is none.

    `sslkernels.augment.draws.draw` and `sslkernels.augment.reference.augment` are the definition.
    Generator: Philox4x32-10, SC 2011.
    """
    policies = arguments.policies(policy, views)
    arguments.images(images, policies)
    arguments.source(seed, epoch, draws)
    name = backends.choose("augment", images)
    if draws is not None:
        rows = arguments.draws(draws, len(policies), images)
    else:
        assert seed is not None
        ids = arguments.samples(sample_ids, images)
        numbers = [number for p in policies for number in p.numbers]
        signed = seed if seed < 2**63 else seed - 2**64  # operators take signed numbers
        drawing = NAMESPACES["chunked" if name == "reference" else name].augment_draws.default
        rows = drawing(ids, numbers, signed, epoch, images.shape[2], images.shape[3])
    result = _views(name, images, rows, policies, out)
    return (result, rows) if return_draws else result


class _Output(NamedTuple):
    """What views are made of and into; those for which it is the same are made together."""

    settings: Settings
    dtype: torch.dtype
    channels_last: bool


def _outputs(policies: Sequence[AugmentPolicy], images: Tensor) -> list[_Output]:
    """One for each policy.

    Stages are those of any of them: where a policy lacks one, its draws say so too, and views that
    differ in nothing else are made together.
    """
    channels = images.shape[1]
    stages = 0
    for policy in policies:
        stages |= int(policy.stages)
    outputs = []
    for policy in policies:
        assert isinstance(policy.size, tuple) and policy.blur_kernel is not None
        mean, std = policy.mean or (), policy.std or ()
        if len(mean) == 1:
            mean, std = mean * channels, std * channels
        own = stages if policy.blur_kernel // 2 < min(policy.size) else int(policy.stages)
        settings = Settings(
            policy.size, policy.blur_kernel, mean, std, float(policy.erase_value), own
        )
        dtype = accumulate_dtype(images.dtype) if policy.dtype is None else policy.dtype
        outputs.append(_Output(settings, dtype, policy.channels_last))
    return outputs


def _views(
    name: str, images: Tensor, rows: Tensor, policies: Sequence[AugmentPolicy], out: Any
) -> Any:
    """The views, in one tensor where they fit into one."""
    outputs = _outputs(policies, images)
    first = outputs[0]
    alike = all(o.settings.size == first.settings.size and o.dtype is first.dtype for o in outputs)
    together = all(o == first for o in outputs)
    images = _dense(images)
    if out is not None:
        _check_out(out, images, outputs, alike)
        if together:
            _run_into(name, images, rows, first, out)
        else:
            for index, o in enumerate(outputs):
                _run_into(name, images, rows[index : index + 1], o, out[index][None])
        return out
    if together:
        return _run(name, images, rows, first)

    views: dict[int, Tensor] = {}
    for index, o in enumerate(outputs):
        if index not in views:
            group = [i for i, other in enumerate(outputs) if other == o]
            made = _run(name, images, torch.stack([rows[i] for i in group]), o)
            views |= zip(group, made.unbind(0), strict=True)
    ordered = tuple(views[index] for index in range(len(outputs)))
    return torch.stack(ordered) if alike else ordered


def _check_out(out: Any, images: Tensor, outputs: Sequence[_Output], alike: bool) -> None:
    """`out` is what the views can be written into, and no gradient is asked for."""
    if images.requires_grad and torch.is_grad_enabled():
        raise ValueError("augment: out has no gradient: pass images.detach(), or no out")
    shapes = [(*images.shape[:2], *o.settings.size) for o in outputs]
    if alike:
        arguments.output("out", out, (len(outputs), *shapes[0]), outputs[0].dtype, images)
        return
    if not isinstance(out, Sequence) or len(out) != len(outputs):
        raise ValueError(f"augment: out must be a sequence of {len(outputs)} tensors, one a view")
    for tensor, shape, o in zip(out, shapes, outputs, strict=True):
        arguments.output("out", tensor, shape, o.dtype, images)


def _run(name: str, images: Tensor, rows: Tensor, output: _Output) -> Tensor:
    settings, dtype, channels_last = output
    if name == "reference":
        views = reference.augment(images, rows, settings).to(dtype)
        if channels_last:
            views = views.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        return views
    if not images.is_floating_point():
        forward = NAMESPACES[name].augment_forward.default
        return forward(images, rows, *settings, dtype, channels_last)
    return apply(_Augment, images, rows, *settings, dtype, channels_last, name)


def _run_into(name: str, images: Tensor, rows: Tensor, output: _Output, out: Tensor) -> None:
    if name == "reference":
        out.copy_(reference.augment(images, rows, output.settings))
    else:
        forward_out = NAMESPACES[name].augment_forward_out.default
        forward_out(images.detach(), rows, *output.settings, out)


def _dense(images: Tensor) -> Tensor:
    """Contiguous or channels_last."""
    if images.is_contiguous():
        return images
    # Inside vmap torch cannot say more.
    if torch._C._are_functorch_transforms_active():
        return images.contiguous()
    last = images.is_contiguous(memory_format=torch.channels_last)
    return images if last else images.contiguous()


class _Augment(Function):
    generate_vmap_rule = True

    # Every argument has a name: by their number Dynamo tells that there is no ctx.
    @staticmethod
    def forward(
        images, draws, size, kernel, mean, std, erase_value, stages, dtype, channels_last, name
    ):
        settings = (size, kernel, mean, std, erase_value, stages)
        forward = NAMESPACES[name].augment_forward.default
        return forward(images, draws, *settings, dtype, channels_last)

    @staticmethod
    def setup_context(ctx, inputs, output):
        images, draws, *ctx.settings, _, _, ctx.name = inputs
        ctx.save_for_backward(images, draws)

    @staticmethod
    def backward(ctx, *grads):
        images, draws = ctx.saved_tensors
        grad = grads[0].to(accumulate_dtype(images.dtype)).contiguous()
        dimages = apply_in_backward(_AugmentBackward, grad, images, draws, *ctx.settings, ctx.name)
        return dimages, *(None,) * 10


class _AugmentBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grad, images, draws, size, kernel, mean, std, erase_value, stages, name):
        backward = NAMESPACES[name].augment_backward.default
        return backward(grad, images, draws, size, kernel, mean, std, erase_value, stages)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, _, draws, *settings, _ = inputs
        ctx.settings = Settings(*settings)
        ctx.save_for_backward(draws)

    @staticmethod
    def backward(ctx, *grads):
        """This is linear in `grad`, and where all stages are affine nothing else matters to it."""
        if ctx.settings.stages & ~AFFINE:
            raise second_order("augment")
        (draws,) = ctx.saved_tensors
        dgrad = reference.linear_part(grads[0], draws, ctx.settings)
        return dgrad, *(None,) * 9


def _fake_draws(sample_ids, numbers, seed, epoch, height, width):
    shape = (len(numbers) // NUMBERS, sample_ids.shape[0], ROW)
    return sample_ids.new_empty(shape, dtype=torch.float32)


def _fake_forward(
    images, draws, size, blur_kernel, mean, std, erase_value, stages, dtype, channels_last
):
    return chunked.empty_views(images, draws, size, dtype, channels_last)


def _fake_forward_out(images, draws, *settings_and_out):
    return None


def _fake_backward(grad, images, draws, *settings):
    return torch.empty_like(images)


define_chunked("augment_draws", schemas.DRAWS, draw, _fake_draws)
define_chunked("augment_forward", schemas.FORWARD, chunked.forward, _fake_forward)
define_chunked("augment_forward_out", schemas.FORWARD_OUT, chunked.forward_out, _fake_forward_out)
define_chunked("augment_backward", schemas.BACKWARD, chunked.backward, _fake_backward)
backends.add(
    "augment",
    lambda: complete_native(
        augment_draws=_fake_draws,
        augment_forward=_fake_forward,
        augment_forward_out=_fake_forward_out,
        augment_backward=_fake_backward,
    ),
)
backends.add_triton(
    ("augment",),
    lambda: define_triton(
        "sslkernels.augment.triton.operators",
        augment_draws=_fake_draws,
        augment_forward=_fake_forward,
        augment_forward_out=_fake_forward_out,
        augment_backward=_fake_backward,
    ),
    dtypes=(torch.uint8, torch.float32, torch.bfloat16, torch.float16),
)


def _why_not_cuda(images: Tensor) -> str:
    channels = images.shape[1] if images.dim() == 4 else 3
    return "" if channels in (1, 3) else f"they take 1 or 3 channels, not {channels}"


backends.add_cuda("augment", _why_not_cuda)
