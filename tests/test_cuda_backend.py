"""The CUDA kernels on a GPU: what the CPU gives, on any stream, in a graph, on any device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sslkernels import (
    AugmentPolicy,
    augment,
    backend,
    backends,
    explain,
    mask_tokens,
    nt_xent,
    policies,
)
from sslkernels.losses.nt_xent import reference as nt_xent_reference
from sslkernels.similarity import logsumexp, reference, weighted_logsumexp
from sslkernels.similarity.pairs import pair_terms
from sslkernels.similarity.sigmoid import sigmoid_loss
from sslkernels.similarity.terms import logit_terms
from tests import rounding

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

IDS = torch.randint(5, 900, (7, 130), generator=torch.Generator().manual_seed(0))
WORDS = torch.arange(130).div(3, rounding_mode="floor").expand(7, 130)
BYTES = torch.randint(
    256, (5, 3, 50, 61), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)
STRATEGIES = ("token", "whole_word", "span")
POLICIES = {
    "simclr": policies.simclr(48),
    "diffaugment": policies.diffaugment(32),
    "rotation": AugmentPolicy(40, rotation=30.0, contrast=0.5, blur_probability=1.0, blur_kernel=7),
}


@pytest.fixture(autouse=True)
def available():
    reason = backends.why_not("augment", "cuda", BYTES.cuda())
    if reason:
        pytest.skip(reason)


def masked(device: str, strategy: str, **options) -> tuple[torch.Tensor, torch.Tensor]:
    if strategy == "whole_word":
        options["word_ids"] = WORDS.to(device)
    ids = IDS.to(device)
    numbers = {"mask_token_id": 1, "vocab_size": 900, "special_ids": (0, 1, 2)}
    return mask_tokens(ids, **numbers, strategy=strategy, seed=9, **options)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masks_are_the_bits_of_the_cpu(strategy):
    expected = masked("cpu", strategy)
    with backend("cuda"):
        for ours, want in zip(masked("cuda", strategy), expected, strict=True):
            assert torch.equal(ours.cpu(), want)


def test_too_many_special_ids_name_the_operator():
    with backend("cuda"), pytest.raises(RuntimeError, match="mask_tokens: special_ids are 513"):
        mask_tokens(IDS.cuda(), mask_token_id=512, vocab_size=900, special_ids=range(512), seed=0)


@pytest.mark.parametrize("name", POLICIES)
def test_views_and_draws_are_those_of_the_cpu(name):
    expected, rows = augment(BYTES, POLICIES[name], seed=6, return_draws=True)
    with backend("cuda"):
        views, drawn = augment(BYTES.cuda(), POLICIES[name], seed=6, return_draws=True)
    assert torch.equal(drawn.cpu(), rows)
    torch.testing.assert_close(views.cpu(), expected, rtol=0, atol=2e-4)


def test_the_same_bits_twice():
    with backend("cuda"):
        first, second = (augment(BYTES.cuda(), POLICIES["simclr"], seed=2) for _ in range(2))
    assert torch.equal(first, second)


def test_on_a_stream_of_its_own():
    images, stream = BYTES.cuda(), torch.cuda.Stream()
    expected = augment(BYTES, POLICIES["simclr"], seed=6)
    stream.wait_stream(torch.cuda.current_stream())
    with backend("cuda"), torch.cuda.stream(stream):
        views = augment(images, POLICIES["simclr"], seed=6)
    stream.synchronize()
    torch.testing.assert_close(views.cpu(), expected, rtol=0, atol=2e-4)


def test_in_a_graph():
    images, graph = BYTES.cuda(), torch.cuda.CUDAGraph()
    ids = torch.arange(len(BYTES), device="cuda")
    out = torch.empty(2, 5, 3, 48, 48, device="cuda")
    options = {"sample_ids": ids, "seed": 6, "out": out}
    with backend("cuda"):
        augment(images, POLICIES["simclr"], **options)
        with torch.cuda.graph(graph):
            augment(images, POLICIES["simclr"], **options)
    expected = augment(BYTES, POLICIES["simclr"], seed=6)
    out.zero_()
    graph.replay()
    torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=2e-4)


def test_on_another_device():
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    with backend("cuda"):
        views = augment(BYTES.to("cuda:1"), POLICIES["simclr"], seed=6)
    assert views.device == torch.device("cuda:1")
    expected = augment(BYTES, POLICIES["simclr"], seed=6)
    torch.testing.assert_close(views.cpu(), expected, rtol=0, atol=2e-4)


def gradient_of(images: torch.Tensor, policy: AugmentPolicy) -> torch.Tensor:
    """Of a sum over the views with weights that are the same everywhere."""
    images = images.detach().requires_grad_()
    views = augment(images, policy, seed=6)
    weights = torch.rand(views.shape, generator=torch.Generator().manual_seed(2)).to(views)
    (gradient,) = torch.autograd.grad((views * weights).sum(), images)
    return gradient


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", POLICIES)
def test_gradients_are_those_of_the_cpu(name, dtype, last):
    layout = torch.channels_last if last else torch.contiguous_format
    images = BYTES.div(255).to(dtype).contiguous(memory_format=layout)
    expected = gradient_of(images, POLICIES[name])
    with backend("cuda"):
        gradient = gradient_of(images.cuda(), POLICIES[name])
    assert gradient.dtype is dtype and gradient.stride() == expected.stride()
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 0.01}[dtype]
    scale = float(expected.abs().max())
    torch.testing.assert_close(gradient.cpu(), expected, rtol=0, atol=tolerance * scale)


def test_gradients_have_the_same_bits_twice():
    torch.use_deterministic_algorithms(True)
    try:
        with backend("cuda"):
            images = BYTES.cuda().float() / 255
            first, second = (gradient_of(images, POLICIES["rotation"]) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, second)


def test_gradients_of_more_views_than_blocks():
    images = torch.rand(1500, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    policy = policies.simclr_cifar(16)
    expected = gradient_of(images, policy)
    with backend("cuda"):
        gradient = gradient_of(images.cuda(), policy)
    scale = float(expected.abs().max())
    torch.testing.assert_close(gradient.cpu(), expected, rtol=0, atol=1e-5 * scale)


def test_explain():
    with backend("cuda"):
        assert "CUDA kernels" in explain("augment", BYTES.cuda())


SMALL = (torch.bfloat16, torch.float16)
ROWS: dict[str, Any] = {
    "keys": {"m": 1000, "n": 777, "d": 128, "bias": True},
    "queue": {"m": 200, "n": 40000, "d": 64},
    "themselves": {"m": 3000, "d": 96, "exclude": (0, 1500)},
    "wide": {"m": 130, "n": 500, "d": 1024, "exclude": (0,)},
    "odd": {"m": 70, "n": 90, "d": 33},
}


def rows(
    dtype: torch.dtype,
    m: int,
    d: int,
    n: int | None = None,
    bias: bool = False,
    exclude: tuple[int, ...] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `logsumexp` by name: tensors on the GPU, and the others."""
    generator = torch.Generator().manual_seed(m + d)
    shapes = {"q": (m, d)} | ({} if n is None else {"k": (n, d)})
    made = {
        name: (torch.randn(shape, generator=generator) * d**-0.5).to(dtype)
        for name, shape in shapes.items()
    }
    made |= {"bias": torch.randn(n or m, generator=generator)} if bias else {}
    made |= {"scale": torch.tensor(10.0)}
    return {name: x.cuda().requires_grad_() for name, x in made.items()}, {"exclude": exclude}


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("name", ROWS)
def test_log_sum_exps_and_gradients(name, dtype):
    tensors, options = rows(dtype, **ROWS[name])
    exact: dict[str, Any] = {
        key: x.detach().cpu().double().requires_grad_() for key, x in tensors.items()
    }
    expected = reference.logsumexp(**exact, **options)
    grad = torch.linspace(-0.5, 1.5, len(expected)) / len(expected)
    wanted = torch.autograd.grad(expected, list(exact.values()), grad.double())
    with backend("cuda"):
        lse = logsumexp(**tensors, **options)
        found = torch.autograd.grad(lse, list(tensors.values()), grad.cuda())
    with torch.no_grad():
        given = (exact["q"], exact.get("k"), exact["scale"], exact.get("bias"), options["exclude"])
        bound, bounds = rounding.engine(dtype, grad.double(), *given)
    assert ((lse.cpu().double() - expected).abs() <= bound).all()
    for key, ours, want in zip(tensors, found, wanted, strict=True):
        assert ((ours.cpu().double() - want).abs() <= bounds[key]).all(), key


def test_weighted_log_sum_exps():
    tensors, options = rows(torch.bfloat16, **ROWS["keys"])
    weight = torch.rand(len(tensors["q"]), device="cuda", requires_grad=True)
    leaves = [*tensors.values(), weight]
    with backend("cuda"):
        value = weighted_logsumexp(row_weight=weight, **tensors, **options)
        found = torch.autograd.grad(value, leaves)
        rowwise = (weight * logsumexp(**tensors, **options)).sum()
    wanted = torch.autograd.grad(rowwise, leaves)
    torch.testing.assert_close(value, rowwise)
    for ours, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, want)


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("decoupled", [False, True])
def test_nt_xent(dtype, decoupled):
    views = [torch.randn(500, 128).to(dtype) for _ in range(2)]
    exact = [x.double().requires_grad_() for x in views]
    expected = nt_xent_reference(*exact, decoupled=decoupled)
    wanted = torch.autograd.grad(expected, exact)
    on_gpu = [x.cuda().requires_grad_() for x in views]
    with backend("cuda"):
        loss = nt_xent(*on_gpu, decoupled=decoupled)
        found = torch.autograd.grad(loss, on_gpu)
    torch.testing.assert_close(loss.cpu().double(), expected, rtol=1e-2, atol=1e-3)
    for ours, want in zip(found, wanted, strict=True):
        error = (ours.cpu().double() - want).norm() / want.norm()
        assert error < 0.02


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("name", ["keys", "queue", "wide", "odd"])
def test_sigmoid_loss_and_gradients(name, dtype):
    sizes = {key: ROWS[name][key] for key in ("m", "n", "d")}
    tensors, _ = rows(dtype, **sizes)
    tensors["bias"] = torch.tensor(-5.0, device="cuda", requires_grad=True)
    exact: dict[str, Any] = {
        key: x.detach().cpu().double().requires_grad_() for key, x in tensors.items()
    }
    options: dict[str, Any] = {"first": 30, "reduction": "mean"}
    expected = reference.sigmoid_loss(**exact, **options)
    wanted = torch.autograd.grad(expected, list(exact.values()))
    with backend("cuda"):
        loss = sigmoid_loss(**tensors, **options)
        found = torch.autograd.grad(loss, list(tensors.values()))
        with torch.no_grad():
            alone = sigmoid_loss(**tensors, **options)
    for value in (loss, alone):
        torch.testing.assert_close(value.cpu().double(), expected, rtol=1e-4, atol=0)
    for key, ours, want in zip(tensors, found, wanted, strict=True):
        error = (ours.cpu().double() - want).norm() / want.norm()
        assert error < 0.02, key


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("name", ["queue", "wide", "odd"])
def test_pair_terms_and_gradients(name, dtype):
    sizes = {key: ROWS[name][key] for key in ("m", "n", "d")}
    tensors, _ = rows(dtype, **sizes)
    exact: dict[str, Any] = {
        key: x.detach().cpu().double().requires_grad_() for key, x in tensors.items()
    }
    expected = reference.pair_terms(**exact, first=10)
    grads = [torch.linspace(-0.5, 1.5, len(x)) for x in expected]
    wanted = torch.autograd.grad(expected, list(exact.values()), [x.double() for x in grads])
    with backend("cuda"):
        terms = pair_terms(**tensors, first=10)
        found = torch.autograd.grad(terms, list(tensors.values()), [x.cuda() for x in grads])
    for ours, want in zip(terms, expected, strict=True):
        torch.testing.assert_close(ours.cpu().double(), want, rtol=1e-4, atol=1e-4)
    for key, ours, want in zip(tensors, found, wanted, strict=True):
        error = (ours.cpu().double() - want).norm() / want.norm()
        assert error < 0.02, key


@pytest.mark.parametrize("dtype", SMALL)
def test_pair_terms_of_several_panels_of_rows(dtype):
    tensors, _ = rows(dtype, m=8300, n=8400, d=32)
    with torch.no_grad():
        exact = {key: x.double() for key, x in tensors.items()}
        expected = reference.pair_terms(**exact, first=10)
        with backend("cuda"):
            terms = pair_terms(**tensors, first=10)
    for ours, want in zip(terms, expected, strict=True):
        torch.testing.assert_close(ours.double(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("name", ["keys", "queue", "wide", "odd"])
def test_logit_terms_and_gradients(name, dtype, softcap):
    sizes = {key: ROWS[name][key] for key in ("m", "n", "d")}
    tensors, _ = rows(dtype, **sizes, bias=True)
    m, n = sizes["m"], sizes["n"]
    target = (torch.arange(m) * 7 % n).masked_fill(torch.arange(m) % 3 == 0, -1)
    weight = torch.linspace(-1, 1, n)
    exact: dict[str, Any] = {
        key: x.detach().cpu().double().requires_grad_() for key, x in tensors.items()
    }
    expected = reference.logit_terms(
        exact["q"],
        exact["k"],
        target,
        exact["scale"],
        exact["bias"],
        weight.double(),
        softcap or 0.0,
    )
    grads = [torch.linspace(-0.5, 1.5, m), torch.linspace(1, -2, m), torch.linspace(-0.1, 0.1, m)]
    wanted = torch.autograd.grad(expected[:3], list(exact.values()), [x.double() for x in grads])
    with backend("cuda"):
        q, k = tensors["q"], tensors["k"]
        options = {"scale": tensors["scale"], "bias": tensors["bias"], "softcap": softcap}
        terms = logit_terms(q, k, target.cuda(), column_weight=weight.cuda(), **options)
        found = torch.autograd.grad(terms[:3], list(tensors.values()), [x.cuda() for x in grads])
    for ours, want in zip(terms, expected, strict=True):
        torch.testing.assert_close(ours.cpu().double(), want, rtol=1e-3, atol=1e-3)
    for key, ours, want in zip(tensors, found, wanted, strict=True):
        error = (ours.cpu().double() - want).norm() / want.norm()
        assert error < 0.02, key


def test_the_same_gradients_twice():
    tensors, options = rows(torch.bfloat16, **ROWS["queue"])
    with backend("cuda"):
        first, second = (
            torch.autograd.grad(logsumexp(**tensors, **options).sum(), list(tensors.values()))
            for _ in range(2)
        )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_log_sum_exps_in_a_graph():
    tensors, options = rows(torch.bfloat16, **ROWS["themselves"])
    graph = torch.cuda.CUDAGraph()
    with backend("cuda"), torch.no_grad():
        expected = logsumexp(**tensors, **options)
        with torch.cuda.graph(graph):
            out = logsumexp(**tensors, **options)
    out.zero_()
    graph.replay()
    assert torch.equal(out, expected)


def test_what_the_kernels_do_not_take():
    q = torch.randn(4, 8, device="cuda")
    assert "they take bfloat16 and float16, not float32" in explain("logsumexp", q)
    wide = torch.randn(4, 1025, device="cuda", dtype=torch.bfloat16)
    assert "at most 1024 features" in explain("logsumexp", wide)
    with backend("cuda"), pytest.raises(RuntimeError, match="exclude has 9 offsets"):
        logsumexp(torch.randn(20, 8, device="cuda").half(), exclude=range(9))
