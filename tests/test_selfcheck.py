"""`python -m sslkernels`: it passes here, and fails when an operator does."""

from __future__ import annotations

import importlib
import io
import itertools

import pytest
import torch
from rich.console import Console
from torch._subclasses.fake_tensor import FakeTensorMode
from typer.testing import CliRunner

from sslkernels import backends
from sslkernels.__main__ import app
from sslkernels.selfcheck import compare, report
from sslkernels.selfcheck.cases import CASES, Case
from sslkernels.selfcheck.compare import TOLERANCE, Availability, Result, check

CPU = torch.device("cpu")
DOUBLE = Case("double", lambda x: 2 * x, lambda x: 2 * x, ((3, 2),))


def run_with(
    monkeypatch: pytest.MonkeyPatch, *cases: Case, require: tuple[str, ...] = ()
) -> tuple[bool, str]:
    """A run over cases of our own, available as `reference` alone."""
    available = [Availability("cpu", "reference", case.op, "") for case in cases]
    available.append(Availability("cpu", "triton", cases[0].op, "no [card] here"))
    monkeypatch.setattr(report, "availability", lambda _: available)
    console = Console(file=io.StringIO(), width=100)
    passed = report.run(console, require, cases)
    return passed, console.file.getvalue()


def test_this_machine_passes() -> None:
    console = Console(file=io.StringIO(), width=100)
    precision = torch.get_float32_matmul_precision()
    assert report.run(console), console.file.getvalue()
    assert torch.get_float32_matmul_precision() == precision


def test_right_operator_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, shown = run_with(monkeypatch, DOUBLE)
    assert passed
    assert "all 4 checks passed" in shown
    assert "no: no [card] here" in shown


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: 2.1 * x,
        lambda x: 2 * x.detach() + 0 * x,  # right value, no gradient
        lambda x: 2 * x.flip(0),
        lambda x: 2 * x * torch.tensor(float("nan")),
        lambda x: torch.where(x == x.max(), x * float("nan"), 2 * x),  # NaN in one place
    ],
    ids=["value", "gradient", "order", "nan", "one nan"],
)
def test_wrong_operator_fails(wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, shown = run_with(monkeypatch, DOUBLE, Case("wrong", wrong, DOUBLE.call, ((3, 2),)))
    assert not passed
    assert "4 of 8 checks failed" in shown


def test_dtypes_that_an_implementation_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Triton's kernels lack float64."""
    why_not = backends.why_not

    def no_float64(op: str, name: str, tensor: torch.Tensor) -> str:
        lacks = name == "chunked" and tensor.dtype is torch.float64
        return "not float64" if lacks else why_not(op, name, tensor)

    monkeypatch.setattr(backends, "why_not", no_float64)
    monkeypatch.setattr(compare, "devices", lambda: [CPU])
    console = Console(file=io.StringIO(), width=100)
    assert report.run(console, cases=CASES[:1]), console.file.getvalue()
    [row] = [x for x in console.file.getvalue().splitlines() if "chunked" in x and "e-" in x]
    assert [cell.strip() for cell in row.split("\u2502")][4] == "-"


def test_a_wrong_mask_fails() -> None:
    [case] = [case for case in CASES if case.op == "mask_tokens"]

    def wrong(x: torch.Tensor) -> torch.Tensor:
        value = case.call(x)
        return torch.cat([value[:1], case.call(x.flip(0))[1:]])

    assert check(case, "chunked", CPU, torch.bfloat16).passed
    broken = Case(case.op, wrong, case.definition, case.shapes)
    assert not check(broken, "chunked", CPU, torch.float64).passed


def test_raising_operator_is_reported_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no [such] kernel")

    passed, shown = run_with(monkeypatch, Case("broken", broken, DOUBLE.call, ((3, 2),)), DOUBLE)
    assert not passed
    assert "broken, reference on cpu, float64: RuntimeError: no [such] kernel" in shown
    assert "4 of 8 checks failed" in shown


def test_required_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with(monkeypatch, DOUBLE, require=("reference",))[0]
    passed, shown = run_with(monkeypatch, DOUBLE, require=("triton",))
    assert not passed
    assert "triton is required, and cannot run here" in shown
    with pytest.raises(ValueError, match="require: 'abacus' is none of cpu, triton"):
        run_with(monkeypatch, DOUBLE, require=("abacus",))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
def test_definitions_agree_with_themselves(case: Case) -> None:
    result = check(case, "reference", CPU, torch.float64)
    assert isinstance(result, Result)
    assert result.error < 1e-13


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_exit_code(passed: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(report, "run", lambda _, require: asked.append(require) or passed)
    assert CliRunner().invoke(app, ["--require", "cpu"]).exit_code == code
    assert asked == [["cpu"]]


def test_unknown_requirement_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["--require", "abacus"])
    assert result.exit_code == 2
    assert "abacus" in result.output


def test_train_takes_its_own_options() -> None:
    result = CliRunner().invoke(app, ["train", "simclr", "--help"])
    assert result.exit_code == 0
    assert "--temperature" in result.output


@pytest.mark.parametrize("name", ["triton", "cuda", "chunked"])
def test_on_a_gpu_what_is_available_takes_the_calls(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU: tensors that have a device and no content."""
    if name == "triton":
        pytest.importorskip("triton")
        importlib.import_module("sslkernels.augment.triton.operators")  # computes constants
    monkeypatch.setattr(backends, "_card_problem", lambda card: "")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: None)
    monkeypatch.setattr(backends.native, "load_cuda", lambda: None)
    caches = (backends._prepare_triton, backends._prepare_cuda)
    for cache in caches:
        cache.cache_clear()
    ran = set()
    with FakeTensorMode():
        for case, dtype in itertools.product(CASES, TOLERANCE):
            if case.why_not(name, torch.device("cuda"), dtype):
                continue
            with backends.backend(name):
                inputs = [torch.randn(shape, device="cuda").to(dtype) for shape in case.shapes]
                assert case.call(*(x.requires_grad_() for x in inputs)).is_cuda
            ran.add(case.op)
    for cache in caches:
        cache.cache_clear()
    assert {"nt_xent", "augment", "mask_tokens"} <= ran
