"""The Triton operators under torch.compile: one graph, in it the kernels that an eager call
launches, and nothing that waits for the GPU. Run by test_emulated, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._higher_order_ops import triton_kernel_wrap

import sslkernels
from sslkernels import AugmentPolicy, backends
from sslkernels.similarity.triton import configurations
from tests.augment.test_contract import TestAugment as Augment
from tests.emulation import offline
from tests.emulation.shipped_inputs import EVERY_STAGE
from tests.losses.test_clip_contract import TestCLIP as CLIP
from tests.losses.test_clip_contract import TestSigLIP as SigLIP
from tests.losses.test_nt_xent_contract import TestNTXent as NTXent
from tests.similarity.test_engine_contract import TestLogSumExp as LogSumExp
from tests.similarity.test_engine_contract import TestWeightedLogSumExp as WeightedLogSumExp
from tests.similarity.test_fixed_keys import TestFixedKeys as FixedKeys
from tests.similarity.test_pairs_contract import TestPairTerms as PairTerms
from tests.similarity.test_terms_contract import TestLogitTerms as LogitTerms

CONTRACTS = (
    LogSumExp,
    WeightedLogSumExp,
    LogitTerms,
    FixedKeys,
    PairTerms,
    NTXent,
    CLIP,
    SigLIP,
    Augment,
)
for contract in CONTRACTS:
    contract.__test__ = False  # imported for their parts
TARGET = "sm_80"
WAITS = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "unique")
"""What copies a value to the CPU, or has a shape that only the GPU knows."""


@pytest.fixture(autouse=True)
def triton_on_cpu_tensors(monkeypatch):
    monkeypatch.setattr(backends, "_interpreting", lambda: True)
    monkeypatch.setattr(configurations, "architecture", lambda: TARGET)
    torch._dynamo.reset()
    with sslkernels.backend("triton"):
        yield


class Graphs:
    """A backend of torch.compile that keeps the graphs; what they return is zeros."""

    def __init__(self) -> None:
        self.found: list[torch.fx.Graph] = []
        self.backend = aot_autograd(fw_compiler=self._keep, bw_compiler=self._keep)

    def _keep(self, module: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        self.found.append(module.graph)
        [output] = module.graph.find_nodes(op="output")
        results = [getattr(x, "meta", {}).get("val") for x in output.args[0]]

        def zeros(*args: object) -> list[Tensor | None]:
            return [None if x is None else torch.zeros(x.shape, dtype=x.dtype) for x in results]

        return make_boxed_func(zeros)

    def kernels(self) -> list[str]:
        """Of all graphs in order."""
        table = triton_kernel_wrap.kernel_side_table
        wrappers = (
            triton_kernel_wrap.triton_kernel_wrapper_functional,
            triton_kernel_wrap.triton_kernel_wrapper_mutation,
        )
        nodes = (node for graph in self.found for node in graph.nodes)
        indices = (node.kwargs["kernel_idx"] for node in nodes if node.target in wrappers)
        return [_function(table.get_kernel(index)).__name__ for index in indices]

    def calls(self) -> set[str]:
        """What is called, but kernels, without namespaces and overloads."""
        nodes = (node for graph in self.found for node in graph.nodes)
        targets = (node.target for node in nodes if node.op == "call_function")
        return {getattr(x, "_opname", x.__name__) for x in targets}


def _function(kernel: Any) -> Any:
    """What was decorated, as often as it was."""
    return _function(kernel.fn) if hasattr(kernel, "fn") else kernel


def run(function: Callable[..., Tensor], tensors: list[Tensor]) -> None:
    leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in tensors]
    value = function(*leaves)
    if value.requires_grad:
        value.sum().backward()


def check(function: Callable[..., Tensor], tensors: list[Tensor]) -> None:
    with offline.recorded(TARGET) as launched:
        run(function, tensors)
        graphs = Graphs()
        run(torch.compile(function, fullgraph=True, backend=graphs.backend), tensors)
    assert graphs.kernels() == [x.kernel for x in launched]
    assert launched
    assert graphs.calls().isdisjoint(WAITS)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_operator(contract):
    contract = contract()
    variant = next(iter(contract.variants.values()))
    tensors = contract.make(torch.float32, variant)
    check(contract.total(variant, list(tensors)), list(tensors.values()))


def test_against_itself():
    """The kernels of the symmetric path."""
    variant = LogSumExp.variants["symmetric"]
    tensors = LogSumExp().make(torch.bfloat16, variant)
    check(LogSumExp().total(variant, list(tensors)), list(tensors.values()))


@pytest.mark.parametrize("strategy", ["token", "whole_word", "span"])
def test_masking(strategy):
    settings = {"mask_token_id": 4, "vocab_size": 50, "special_ids": (0, 1), "seed": 3}
    ids, words = torch.arange(60).view(2, 30) % 50, torch.arange(60).view(2, 30) // 2

    def mask(ids: Tensor, words: Tensor) -> Tensor:
        given = {} if strategy == "token" else {"word_ids": words}
        return sslkernels.mask_tokens(ids, strategy=strategy, **given, **settings)[0]

    check(mask, [ids, words])


def test_augmentation_of_every_stage():
    policy = AugmentPolicy.from_dict(EVERY_STAGE.to_dict() | {"size": [9, 30]})
    check(lambda images: sslkernels.augment(images, policy, seed=3), [torch.rand(2, 3, 14, 11)])


def test_a_wait_is_noticed():
    graphs = Graphs()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        torch.compile(lambda x: x * x.nonzero().sum(), fullgraph=True, backend=graphs.backend)(
            torch.ones(3)
        )
    assert not graphs.calls().isdisjoint(WAITS)
