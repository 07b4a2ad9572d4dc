"""Builds and runs the C++ kernels under sanitizers; run_sanitized.sh puts the steps together.

Where the processor has no AMX, its kernels run on the emulated tile unit. Its loads are seen, those
of a real one are not: the memory that these read is guarded where the packing code writes it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from sslkernels.augment.draws import draw
from sslkernels.augment.layout import Stage
from sslkernels.augment.policy import AugmentPolicy
from sslkernels.augment.reference import Settings
from sslkernels.augment.reference import augment as augment_reference
from sslkernels.losses.nt_xent import reference as nt_xent_reference
from sslkernels.losses.supcon import reference as supcon_reference
from sslkernels.masking.op import span_thresholds
from sslkernels.masking.reference import mask_tokens as mask_tokens_reference
from sslkernels.native import flags
from sslkernels.native.isa import cpu_features
from sslkernels.similarity.reference import logsumexp as logsumexp_reference
from tests.emulation.amx import unit

SANITIZE = (
    *("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "-Wno-maybe-uninitialized",  # GCC's own header of AVX-512, without optimization
)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Around the tile (32), the stripes (64, 128, 256) and odd everywhere.
VIEWS = ((1, 1), (2, 3), (16, 32), (33, 17), (65, 130), (300, 48))
SEQUENCES = ((0, 4), (3, 0), (1, 1), (2, 63), (3, 64), (5, 131))
# Image and view, height and width: up, down, strongly down, one pixel, around the vectors.
AUGMENTED = (
    (1, 1, 3, 2),
    (5, 7, 16, 17),
    (33, 32, 32, 32),
    (20, 48, 1, 1),
    (130, 70, 9, 6),
    (12, 13, 40, 65),
)
# The last has more rows than a band.
MATRICES = ((1, 1, 1), (3, 5, 2), (64, 128, 32), (65, 129, 33), (130, 300, 16), (1400, 70, 20))


def isas() -> list[str]:
    """The instruction sets that this CPU runs. AMX can be asked for where it is emulated."""
    features = cpu_features() or frozenset()
    names = [name for name, each in flags.ISAS.items() if each.cpu_features <= features]
    return [name for name in names if name != "AMX" or unit.is_real()]


def build(name: str, library: Path, compiler: str) -> None:
    """Compile and link everything in csrc with the package's flags and the sanitizers'."""
    root, torch_root = flags.csrc_root(), Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        commands = []
        for index, source in enumerate(flags.sources(root)):
            objects.append(f"{scratch}/{index}.o")
            options = [*flags.compile_flags(name), *SANITIZE, f"-I{root}"]
            options += unit.compiler_options() if name == "AMX" else []
            torch_headers = ["-isystem", str(torch_root / "include")]
            files = ["-c", str(source), "-o", objects[-1]]
            commands.append([compiler, *options, *torch_headers, *files])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda command: subprocess.run(command, check=True), commands))
        link = [*flags.link_flags(torch_root), "-fsanitize=address,undefined"]
        subprocess.run([compiler, *objects, *link, "-o", str(library)], check=True)


def check_nt_xent(n: int, d: int, dtype: torch.dtype, temperature: float) -> None:
    """Forward and backward of every mode; the loss against float64."""
    ops = torch.ops.sslkernels
    z1, z2 = torch.randn(n, d).to(dtype), torch.randn(n, d).to(dtype)
    scale = torch.tensor(1 / temperature)
    precisions = (0, 1, 2) if dtype is torch.float32 else (0,)
    modes = itertools.product((True, False), (False, True), precisions)
    for normalize, decoupled, precision in modes:
        if decoupled and n == 1:
            continue
        reduction = "none" if normalize == decoupled else "mean"
        settings = (normalize, decoupled, reduction, precision)
        loss, stat, inv_norm = ops.nt_xent_forward(z1, z2, scale, *settings)
        gradients = ops.nt_xent_backward(
            torch.ones_like(loss), stat, inv_norm, z1, z2, scale, *settings
        )
        if reduction == "mean":
            gradients += ops.nt_xent_forward_backward(z1, z2, scale, *settings)
        options = {"normalize": normalize, "reduction": reduction, "decoupled": decoupled}
        want = nt_xent_reference(z1.double(), z2.double(), temperature, **options)
        # Loose: this run is about memory, the tests about values.
        torch.testing.assert_close(loss.double(), want, rtol=0.05, atol=0.05 / temperature)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def check_logsumexp(m: int, n: int, d: int, dtype: torch.dtype) -> None:
    """Forward, backward and both at once, with and without keys, bias and exclusions."""
    ops = torch.ops.sslkernels
    accumulate = torch.float64 if dtype is torch.float64 else torch.float32
    q, keys = torch.randn(m, d).to(dtype), torch.randn(n, d).to(dtype)
    scale, weight = torch.tensor(0.7), torch.randn(m, dtype=accumulate)
    for k, exclude, biased in itertools.product((keys, None), ((), (0,), (0, -2)), (True, False)):
        columns = m if k is None else n
        bias = torch.randn(columns, dtype=accumulate) if biased else None
        lse = ops.logsumexp_forward(q, k, scale, bias, exclude, 0)
        if k is not None and not exclude:
            again, _ = ops.fixed_keys_forward(q, k, scale, bias, 0)
            torch.testing.assert_close(again, lse, rtol=0.05, atol=0.05)
        for with_dk in (True, False):
            ops.logsumexp_backward(weight, lse, q, k, scale, bias, exclude, with_dk, 0)
        ops.weighted_logsumexp_forward(q, k, weight, scale, bias, exclude, 0)
        want = logsumexp_reference(
            q.double(),
            None if k is None else k.double(),
            scale=0.7,
            bias=None if bias is None else bias.double(),
            exclude=exclude,
        )
        torch.testing.assert_close(lse.double(), want, rtol=0.05, atol=0.05)


def check_logit_terms(m: int, n: int, d: int, dtype: torch.dtype) -> None:
    """Forward and backward, with and without bias, class weights, softcap and ignored rows."""
    ops = torch.ops.sslkernels
    accumulate = torch.float64 if dtype is torch.float64 else torch.float32
    q, k = torch.randn(m, d).to(dtype), torch.randn(n, d).to(dtype)
    grads = torch.randn(3, m, dtype=accumulate)
    precisions = (0, 1, 2) if dtype is torch.float32 else (0,)
    for full, softcap, precision in itertools.product((True, False), (0.0, 5.0), precisions):
        vectors = torch.randn(2, n, dtype=accumulate)
        bias, weight = (vectors[0], vectors[1].abs()) if full else (None, None)
        target = torch.randint(-1, n, (m,))
        options = (torch.tensor(0.7), bias, weight, softcap)
        lse, *_ = ops.logit_terms_forward(q, k, target, *options, precision)
        for with_dk in (True, False):
            ops.logit_terms_backward(*grads, lse, q, k, target, *options, with_dk, precision)
        logits = 0.7 * q.double() @ k.double().T + (0 if bias is None else bias.double())
        if softcap:
            logits = softcap * torch.tanh(logits / softcap)
        want = logits.logsumexp(1).masked_fill(target < 0, 0.0)
        torch.testing.assert_close(lse.double(), want, rtol=0.05, atol=0.05)


def check_pairs(m: int, n: int, d: int, dtype: torch.dtype) -> None:
    """Both ways of a contrastive loss, with one shift and without, and the sigmoid loss."""
    ops = torch.ops.sslkernels
    accumulate = torch.float64 if dtype is torch.float64 else torch.float32
    m, n = min(m, n), max(m, n)
    q, k = torch.randn(m, d).to(dtype), torch.randn(n, d).to(dtype)
    grads = torch.randn(3, n, dtype=accumulate)
    precisions = (0, 1, 2) if dtype is torch.float32 else (0,)
    for scale, precision in itertools.product((0.3, 300.0), precisions):
        options = (q, k, torch.tensor(scale), n - m, precision)
        row_lse, column_lse, pair = ops.pair_terms_forward(*options)
        upstream = (grads[0, :m], grads[1], grads[2, :m])
        ops.pair_terms_backward(*upstream, row_lse, column_lse, *options)
        logits = scale * q.double() @ k.double().T
        limit = {"rtol": 0.05, "atol": 0.05 * scale}
        torch.testing.assert_close(row_lse.double(), logits.logsumexp(1), **limit)
        torch.testing.assert_close(column_lse.double(), logits.logsumexp(0), **limit)
        torch.testing.assert_close(pair.double(), logits.diagonal(n - m), **limit)
        options = (
            q,
            k,
            torch.tensor(scale),
            torch.tensor(-2.0),
            (n - m + 1) // 2,
            "mean",
            precision,
        )
        alone = ops.sigmoid_loss_forward(*options)
        torch.testing.assert_close(ops.sigmoid_loss_forward_backward(*options)[0], alone)


def check_supcon(m: int, d: int, dtype: torch.dtype) -> None:
    """Together with the gradients, with one class, several, and rows alone in theirs."""
    z, scale = torch.randn(m, d).to(dtype), torch.tensor(2.0)
    precisions = (0, 1, 2) if dtype is torch.float32 else (0,)
    for classes, normalize, precision in itertools.product(
        (1, 5, 2**40), (True, False), precisions
    ):
        labels = torch.randint(classes, (m,))
        call = (z, labels, scale, normalize, "mean", precision)
        loss, *_ = torch.ops.sslkernels.supcon_forward_backward(*call)
        want = supcon_reference(z.double(), labels, 0.5, normalize=normalize)
        torch.testing.assert_close(loss.double(), want, rtol=0.05, atol=0.05 * d)


def check_unit_rows(m: int, d: int, dtype: torch.dtype) -> None:
    """Rows over their norms, and back."""
    ops = torch.ops.sslkernels
    x, grad = torch.randn(2, m, d).to(dtype).unbind()
    z, inv_norm = ops.unit_rows_forward(x)
    limit = 4 * torch.finfo(dtype).eps
    expected = torch.nn.functional.normalize(x.double(), dim=1)
    torch.testing.assert_close(z.double(), expected, rtol=0, atol=limit)
    ops.unit_rows_backward(grad, x, inv_norm)


def check_mask_tokens(batch: int, length: int, dtype: torch.dtype) -> None:
    """Every strategy, with and without padding and words, to the bit."""
    ids, sequences = torch.randint(50, (batch, length)).to(dtype), torch.randint(2**62, (batch,))
    words = torch.randint(-1, 9, (batch, length))
    numbers = (3, 50, [0, 3, 49], -5)
    for strategy, word_ids, attention_mask, probability in itertools.product(
        ("token", "whole_word", "span"), (None, words), (None, ids > 9), (0.3, 1.0)
    ):
        if strategy == "whole_word" and word_ids is None:
            continue
        thresholds = (int(probability * 2**32), 2**31, 2**32, span_thresholds(), -100)
        call = (ids, sequences, attention_mask, word_ids, *numbers, strategy, *thresholds)
        ours, want = torch.ops.sslkernels.mask_tokens(*call), mask_tokens_reference(*call)
        assert all(map(torch.equal, ours, want)), strategy


def check_augment(height: int, width: int, h: int, w: int, dtype: torch.dtype) -> None:
    """Draws to the bit; every stage forward and back, in both layouts, to float32."""
    ops = torch.ops.sslkernels
    policy = AugmentPolicy(
        (h, w),
        crop_scale=(0.05, 1.0),
        horizontal_flip=0.5,
        vertical_flip=0.5,
        rotation=90.0,
        brightness=0.8,
        contrast=0.8,
        saturation=0.8,
        hue=0.5,
        grayscale=0.2,
        blur_probability=0.5,
        blur_kernel=min(5, 2 * min(h, w) - 1),
        solarize_probability=0.5,
        noise_probability=0.5,
        diff_contrast=(0.5, 1.5),
        translation=0.5,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        erase_probability=0.5,
    )
    numbers, ids = [*policy.numbers, *policy.numbers], torch.randint(2**62, (3,))
    draws = ops.augment_draws(ids, numbers, 7, 1, height, width)
    assert torch.equal(draws, draw(ids, numbers, 7, 1, height, width))
    everything = Settings((h, w), policy.blur_kernel, policy.mean, policy.std, 0.1, policy.stages)
    geometry = everything._replace(mean=(), std=(), stages=int(Stage.ROTATION | Stage.BLUR))
    for channels, last in itertools.product((1, 2, 3), (False, True)):
        settings = (
            geometry
            if channels == 2
            else everything._replace(mean=policy.mean[:channels], std=policy.std[:channels])
        )
        # A copy of exactly its size: what is read beyond it is poisoned.
        images = torch.rand(3, channels, height, width)
        images = (images * 255).to(dtype) if dtype is torch.uint8 else images.to(dtype)
        if last:
            images = images.contiguous(memory_format=torch.channels_last)
        for out in (torch.float32, torch.float16):
            views = ops.augment_forward(images, draws, *settings, out, last)
            if dtype is torch.float64 and out is torch.float32:
                want = augment_reference(images, draws, settings).float()
                torch.testing.assert_close(views, want, rtol=1e-3, atol=1e-3)
        if dtype is not torch.uint8:
            accumulate = torch.float64 if dtype is torch.float64 else torch.float32
            upstream = torch.randn(views.shape, dtype=accumulate)
            ops.augment_backward(upstream, images, draws, *settings)


def run(library: Path) -> None:
    """Every operator on every dtype at the sizes above."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    unit.is_real()  # which asks for its registers
    torch.ops.load_library(str(library))
    calls = 0
    for (n, d), dtype, temperature in itertools.product(VIEWS, DTYPES, (0.5, 0.01)):
        check_nt_xent(n, d, dtype, temperature)
        calls += 1
    for (m, n, d), dtype in itertools.product(MATRICES, DTYPES):
        check_logsumexp(m, n, d, dtype)
        check_logit_terms(m, n, d, dtype)
        check_pairs(m, n, d, dtype)
        check_unit_rows(m, d, dtype)
        check_supcon(m, d, dtype)
        calls += 5
    for (batch, length), dtype in itertools.product(SEQUENCES, (torch.int64, torch.int32)):
        check_mask_tokens(batch, length, dtype)
        calls += 1
    for shape, dtype in itertools.product(AUGMENTED, (*DTYPES, torch.uint8)):
        check_augment(*shape, dtype)
        calls += 1
    torch.ops.sslkernels.release_workspaces()
    print(f"{library.stem}: {calls} cases, no report")


if __name__ == "__main__":
    step, *arguments = sys.argv[1:]
    if step == "isas":
        print(*isas())
    elif step == "build":
        build(arguments[0], Path(arguments[1]), arguments[2])
    else:
        run(Path(arguments[0]))
