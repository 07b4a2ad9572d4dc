"""The Triton kernels on a GPU: what float64 gives, on any stream, in a graph, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import sslkernels
from sslkernels import backends, policies
from sslkernels.similarity import logsumexp
from tests.augment import test_contract as augmenting
from tests.contract import OpContract
from tests.losses import (
    test_clip_contract,
    test_info_nce_contract,
    test_linear_cross_entropy_contract,
    test_nt_xent_contract,
    test_supcon_contract,
)
from tests.similarity import (
    test_engine_contract,
    test_fixed_keys,
    test_pairs_contract,
    test_terms_contract,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def triton_backend():
    reason = backends.why_not("logsumexp", "triton", torch.empty(1, device=DEVICE))
    if reason:
        pytest.skip(reason)
    with sslkernels.backend("triton"):
        yield


def moved(values: dict[str, Any], device: str | torch.device = DEVICE) -> dict[str, Any]:
    return {name: x.to(device) if isinstance(x, Tensor) else x for name, x in values.items()}


class OnGPU(OpContract):
    """A contract whose tensors are on the CPU, and go to the GPU for the call alone."""

    def call(self, tensors, variant):
        return super().call(moved(tensors), moved(variant)).cpu()


class LogSumExp(OnGPU, test_engine_contract.TestLogSumExp):
    pass


class WeightedLogSumExp(OnGPU, test_engine_contract.TestWeightedLogSumExp):
    pass


class LogitTerms(OnGPU, test_terms_contract.TestLogitTerms):
    def settings(self, tensors, variant):
        return moved(super().settings(tensors, variant), tensors["q"].device)


class FixedKeys(OnGPU, test_fixed_keys.TestFixedKeys):
    def keys(self, tensors, variant):
        k, bias = super().keys(tensors, variant)
        device = tensors["q"].device
        return k.to(device), None if bias is None else bias.to(device)


class PairTerms(OnGPU, test_pairs_contract.TestPairTerms):
    pass


class NTXent(OnGPU, test_nt_xent_contract.TestNTXent):
    pass


class InfoNCE(OnGPU, test_info_nce_contract.TestInfoNCE):
    pass


class CLIP(OnGPU, test_clip_contract.TestCLIP):
    pass


class SigLIP(OnGPU, test_clip_contract.TestSigLIP):
    pass


class SupCon(OnGPU, test_supcon_contract.TestSupCon):
    variants: ClassVar = {
        name: {"labels": test_supcon_contract.LABELS} | variant
        for name, variant in test_supcon_contract.TestSupCon.variants.items()
    }


class LinearCrossEntropy(OnGPU, test_linear_cross_entropy_contract.TestLinearCrossEntropy):
    def options(self, tensors, variant):
        return moved(super().options(tensors, variant), tensors["linear_weight"].device)

    def target(self, tensors, variant):
        return super().target(tensors, variant).to(tensors["linear_weight"].device)


class Augment(OnGPU, augmenting.TestAugment):
    pass


CONTRACTS = (
    LogSumExp,
    WeightedLogSumExp,
    LogitTerms,
    FixedKeys,
    PairTerms,
    NTXent,
    InfoNCE,
    CLIP,
    SigLIP,
    SupCon,
    LinearCrossEntropy,
    Augment,
)
CASES = [
    pytest.param(contract(), variant, id=f"{contract.__name__} {name}")
    for contract in CONTRACTS
    for name, variant in contract.variants.items()
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("contract", "variant"), CASES)
def test_values_and_gradients(contract, variant, dtype):
    contract.check(contract.make(dtype, variant), variant)


LARGE = [  # more than one tile each way, ragged at the edges
    (LogSumExp(), "cross with bias", {"rows": 300, "columns": 1000, "features": 200}),
    (LogSumExp(), "symmetric", {"rows": 602, "features": 72}),
    (NTXent(), "mean", {"rows": 301, "features": 128}),
    (CLIP(), "plain", {"rows": 333, "features": 512}),
    (SigLIP(), "plain", {"rows": 333, "features": 100}),
    (FixedKeys(), "bias", {"rows": 290, "features": 130}),
]


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("contract", "name", "shape"), LARGE)
def test_many_tiles(contract, name, shape, dtype, precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        variant = contract.variants[name]
        contract.check(contract.make(dtype, variant, **shape), variant)
    finally:
        torch.set_float32_matmul_precision(before)


def views(device: str = DEVICE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(260, 128, generator=generator).bfloat16().to(device) for _ in range(2)]


def gradients(loss: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The loss, then its gradients."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    value = loss(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves)


def head(hidden: Tensor, weight: Tensor) -> Tensor:
    """A loss of labels that begin between two 16-byte addresses, every seventh ignored."""
    labels = torch.arange(len(hidden) + 1, device=hidden.device) % len(weight)
    labels = labels.masked_fill(labels % 7 == 0, -100)
    return sslkernels.linear_cross_entropy(hidden, weight, labels[1:])


def clip(image: Tensor, text: Tensor) -> Tensor:
    return sslkernels.clip_loss(image, text, 10.0)


LOSSES = {"nt_xent": sslkernels.nt_xent, "clip": clip, "head": head}


def assert_near(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for ours, want in zip(found, wanted, strict=True):
        error = (ours.double().cpu() - want.double().cpu()).norm()
        assert error <= 1e-3 * want.double().norm().cpu()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_bits_twice(loss):
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (gradients(LOSSES[loss], *views()) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("loss", LOSSES)
def test_compiled(loss):
    expected = gradients(LOSSES[loss], *views())
    torch._dynamo.reset()
    assert_near(gradients(torch.compile(LOSSES[loss], fullgraph=True), *views()), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_host_does_not_wait(loss):
    inputs = views()
    gradients(LOSSES[loss], *inputs)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients(LOSSES[loss], *inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("loss", LOSSES)
def test_on_a_stream_of_its_own(loss):
    inputs, stream = views(), torch.cuda.Stream()
    expected = gradients(LOSSES[loss], *inputs)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # what another stream did would be done before
        late = [x * 2 / 2 for x in inputs]
        found = gradients(LOSSES[loss], *late)
    stream.synchronize()
    assert_near(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_in_a_graph(loss):
    inputs, graph = views(), torch.cuda.CUDAGraph()
    expected = gradients(LOSSES[loss], *inputs)
    with torch.cuda.graph(graph):
        found = gradients(LOSSES[loss], *inputs)
    for x in found:
        x.zero_()
    graph.replay()
    assert_near(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_on_another_device(loss):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    found = gradients(LOSSES[loss], *views("cuda:1"))
    assert all(x.device == torch.device("cuda:1") for x in found)
    assert_near(found, gradients(LOSSES[loss], *views()))


def test_keys_with_more_elements_than_32_bits_count():
    """All zeros but the last, which is the only one that is not as likely as the others."""
    count, features = 2**25 + 3, 64
    if torch.cuda.mem_get_info()[0] < 3 * 2 * count * features:
        pytest.skip("needs 13 GB of free memory")
    q = torch.ones(5, features, device=DEVICE, dtype=torch.bfloat16)
    k = torch.zeros(count, features, device=DEVICE, dtype=torch.bfloat16)
    k[-1] = 0.5
    expected = torch.tensor([float(count - 1), 32.0], dtype=torch.float64)
    expected = torch.logaddexp(expected[0].log(), expected[1])
    with torch.no_grad():
        lse = logsumexp(q, k)
    torch.testing.assert_close(lse.cpu().double(), expected.expand(5), rtol=1e-5, atol=0)


def test_views_take_a_graph_and_a_stream():
    images = torch.rand(5, 3, 40, 40, device=DEVICE)
    ids, out = torch.arange(5, device=DEVICE), torch.empty(2, 5, 3, 32, 32, device=DEVICE)
    options: dict[str, Any] = {"sample_ids": ids, "seed": 3, "out": out}
    expected = sslkernels.augment(images, policies.simclr(32), **options).clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sslkernels.augment(images, policies.simclr(32), **options)
    out.zero_()
    graph.replay()
    assert torch.equal(out, expected)


@pytest.mark.parametrize("op", ["nt_xent", "linear_cross_entropy", "clip_loss", "augment"])
def test_triton_is_the_default_and_needs_no_nvcc(op):
    assert backends._default(op, torch.ones(2, 16, device=DEVICE)) == "triton"
