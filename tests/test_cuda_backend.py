"""The CUDA kernels on a GPU: what the CPU gives, on any stream, in a graph, on any device."""

from __future__ import annotations

import pytest
import torch

from sslkernels import AugmentPolicy, augment, backend, backends, explain, mask_tokens, policies

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
