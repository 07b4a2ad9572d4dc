"""The command line: a whole tiny run, and one clear line for everything that is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import cli, results, runner
from benchmarks.augment import Augment
from benchmarks.case import Case
from benchmarks.choose import chosen_cases
from benchmarks.linear_cross_entropy import LinearCrossEntropy
from benchmarks.nt_xent import NTXent

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "amx-small.json"


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave torch.compile out: it takes longer than all else here; `-m slow` has it."""
    for op in (NTXent, LinearCrossEntropy):
        kept = tuple(one for one in op.implementations if not one.compiled)
        monkeypatch.setattr(op, "implementations", kept)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("op", "shape", "own"),
    [
        ("nt_xent", "16x8", "--temperature 0.2"),
        ("linear_cross_entropy", "32x8x40", "--masked 0.5"),
        ("clip_loss", "16x8", "--temperature 0.1"),
        ("supcon", "40x10x8", "--data digits"),
    ],
)
def test_tiny_run_and_report(op: str, shape: str, own: str, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    arguments = ["run", "--quick", "--op", op, "--shape", shape, "--dtype", "float32"]
    arguments += ["--precision", "highest", *own.split(), "--threads", "1"]
    done = CliRunner().invoke(cli.app, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    run = results.load(out)
    (result,) = run.cases
    assert result.case.shape_text == shape
    names = {timing.implementation for timing in result.timings}
    assert {"ours", "eager"} <= names
    assert {memory.implementation for memory in result.memory} == {"ours", "eager"}
    # A yardstick is timed, but there is no loss of it to check.
    assert {error.implementation for error in result.errors} == names - {"products"}
    assert run.command == "python -m benchmarks " + " ".join(arguments)
    assert str(tmp_path) not in out.read_text()
    assert str(ROOT) not in out.read_text()

    pytest.importorskip("matplotlib")
    done = CliRunner().invoke(cli.app, ["report", str(out), "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.md").is_file()


def test_tiny_run_of_what_draws_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    kept = tuple(one for one in Augment.implementations if one.name in ("ours", "eager"))
    monkeypatch.setattr(Augment, "implementations", kept)
    monkeypatch.setattr(runner, "QUICK_MEMORY", ("ours",))
    out = tmp_path / "run.json"
    arguments = ["run", "--quick", "--op", "augment", "--shape", "2x8x8x8", "--dtype", "uint8"]
    arguments += ["--dtype", "float32", "--blur", "0.0", "--threads", "1"]
    done = CliRunner().invoke(cli.app, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    run = results.load(out)
    assert [result.case.kind for result in run.cases] == ["uint8", "float32"]
    assert run.gemm == []
    assert [rate.moved for rate in run.copies] == [384 + 4 * 768, 4 * 384 + 4 * 768]
    for result in run.cases:
        names = ["ours", "eager"] if result.case.kind == "uint8" else ["ours", "ours"]
        assert [timing.implementation for timing in result.timings] == names
        assert all(timing.gflops is None and timing.items_per_second for timing in result.timings)
        assert result.errors == [] and bool(result.exactness) == (result.case.kind == "uint8")
        assert [(one.implementation, one.reason) for one in result.memory] == [("ours", None)]

    pytest.importorskip("matplotlib")
    done = CliRunner().invoke(cli.app, ["report", str(out), "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.md").read_text()
    for words in ("### Exactness", "### Backward", "views/s", "best copy GB/s", "[bench,rivals]"):
        assert words in page


@pytest.mark.slow
def test_tiny_run_with_torch_compile(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    arguments = ["run", "--quick", "--shape", "16x8", "--dtype", "bfloat16", "--out", str(out)]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    (result,) = results.load(out).cases
    assert "compile" in {timing.implementation for timing in result.timings}


def test_a_shape_goes_to_every_operator_that_is_named() -> None:
    found = chosen_cases(
        quick=True, ops=["clip_loss", "nt_xent"], shapes=["16x8"], dtypes=["bfloat16"]
    )
    assert [(case.op, case.shape) for case in found] == [
        ("clip_loss", (16, 8)),
        ("nt_xent", (16, 8)),
    ]


def test_shapes_and_parameters_go_to_the_operators_that_they_fit() -> None:
    found = chosen_cases(
        quick=True,
        shapes=["16x8", "32x8x40"],
        dtypes=["bfloat16"],
        parameters={"temperature": 0.2, "masked": 0.5},
    )
    assert [(case.op, case.shape, case.parameters) for case in found] == [
        ("nt_xent", (16, 8), {"temperature": 0.2}),
        ("linear_cross_entropy", (32, 8, 40), {"masked": 0.5}),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--op", "nothing"], "--op: got 'nothing', wanted one of nt_xent"),
        (["run", "--dtype", "int8"], "--dtype: got 'int8', wanted one of bfloat16"),
        (["run", "--precision", "low"], "--precision: got 'low'"),
        (["run", "--shape", "12"], "--shape: got '12', wanted 2N x D as in 64x32 (nt_xent)"),
        (["run", "--shape", "axb"], "--shape: got 'axb', wanted 2N x D as in 64x32 (nt_xent)"),
        (["run", "--shape", "7x8"], "2N must be even"),
        (["run", "--shape", "0x8"], "must be at least 1"),
        (["run", "--shape", "8x8", "--temperature", "0"], "--temperature: must be above 0"),
        (["run", "--temperature", "0.2"], "--temperature: the grid has its own"),
        (["run", "--data", "digits"], "--data: the grid has its own"),
        (["run", "--shape", "8x8", "--data", "x"], "--data: of nt_xent wanted one of digits"),
        (
            ["run", "--op", "supcon", "--shape", "9x3x8"],
            "--shape: views must be even and at least twice the classes, got 9 and 3",
        ),
        (["run", "--masked", "1"], "--masked: the grid has its own"),
        (["run", "--shape", "8x8", "--masked", "1"], "--masked: nt_xent has no masked"),
        (["run", "--shape", "8x8x8", "--masked", "0"], "--masked: must be above 0 and at most 1"),
        (
            ["run", "--op", "linear_cross_entropy", "--shape", "8x8"],
            "got '8x8', wanted tokens x D x V as in 2048x256x8192 (linear_cross_entropy)",
        ),
        (
            ["run", "--op", "nt_xent", "--op", "linear_cross_entropy", "--shape", "8x8"],
            "--shape: got none for linear_cross_entropy, wanted tokens x D x V",
        ),
        (
            ["run", "--op", "augment", "--shape", "8x8"],
            "got '8x8', wanted images x H x W x side of a view as in 64x32x32x32 (augment)",
        ),
        (["run", "--shape", "8x8x8x3"], "views must have sides of at least 4, got 3"),
        (["run", "--shape", "8x8x8x8", "--blur", "2"], "--blur: must be at least 0 and at most 1"),
        (["run", "--shape", "8x8x8x8", "--reuse", "2"], "--reuse: must be 0 or 1"),
        (
            ["run", "--shape", "8x8x8x8", "--reuse", "1", "--dtype", "float32"],
            "--reuse: out= has no gradient",
        ),
        (
            ["run", "--shape", "8x8x8x8", "--dtype", "bfloat16"],
            "--dtype: augment takes uint8, float32, got 'bfloat16'",
        ),
        (["run", "--shape", "8x8", "--dtype", "uint8"], "--dtype: nt_xent takes bfloat16, float16"),
        (["run", "--device", "toaster"], "--device: got 'toaster'"),
        (["run", "--threads", "0"], "--threads: must be at least 1"),
        (["run", "--dtype", "float64"], "no case of the grid"),
        (["run", "--out", "/dev/null/run.json"], "--out: cannot write to /dev/null: "),
        (["run", "--out", "."], "--out: . is a folder, wanted a file name"),
        (["report", str(RESULTS), "--folder", "/dev/null"], "--folder: cannot write to /dev/null"),
        (
            ["compare", str(RESULTS), str(RESULTS), "--relative-to", "eagr"],
            "--relative-to: got 'eagr', wanted one of clock, eager, compile",
        ),
        (["report", "missing.json"], "missing.json: no such file"),
        (["compare", "missing.json", "missing.json"], "missing.json: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    error = done.stderr
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_interruption_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_all", interrupted)
    done = CliRunner().invoke(cli.app, ["run", "--out", str(tmp_path / "run.json")])
    assert done.exit_code == 130
    assert "nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("uncompiled")
def test_our_failure_is_exit_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sslkernels

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("made up")

    monkeypatch.setattr(sslkernels, "nt_xent", broken)
    case = Case("nt_xent", (16, 8), "float32", threads=1, parameters={"temperature": 0.1})
    monkeypatch.setattr(cli, "chosen_cases", lambda **_: [case])
    monkeypatch.setattr(runner, "QUICK_MEMORY", ())
    out = tmp_path / "run.json"
    done = CliRunner().invoke(cli.app, ["run", "--quick", "--out", str(out)])
    assert done.exit_code == 1
    assert "RuntimeError: made up" in done.stderr
    assert out.is_file()


def test_module_runs_from_the_checkout() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("run", "report", "compare"))
