"""The command line: a whole tiny run, and one clear line for everything that is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import cli, results, runner
from benchmarks.case import Case
from benchmarks.nt_xent import NTXent

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave torch.compile out: it takes longer than all else here; `-m slow` has it."""
    kept = tuple(one for one in NTXent.implementations if not one.compiled)
    monkeypatch.setattr(NTXent, "implementations", kept)


@pytest.mark.usefixtures("uncompiled")
def test_tiny_run_and_report(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    arguments = ["run", "--quick", "--op", "nt_xent", "--shape", "16x8", "--dtype", "float32"]
    arguments += ["--precision", "highest", "--threads", "1", "--out", str(out)]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    run = results.load(out)
    (result,) = run.cases
    assert result.case.shape == (16, 8)
    names = {timing.implementation for timing in result.timings}
    assert {"ours", "eager"} <= names
    assert {memory.implementation for memory in result.memory} == {"ours", "eager"}
    assert {error.implementation for error in result.errors} == names
    assert run.command.endswith(
        "run --quick --op nt_xent --shape 16x8 --dtype float32 --precision highest --threads 1"
    )
    assert str(tmp_path) not in out.read_text()
    assert str(ROOT) not in out.read_text()

    pytest.importorskip("matplotlib")
    done = CliRunner().invoke(cli.app, ["report", str(out), "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.md").is_file()


@pytest.mark.slow
def test_tiny_run_with_torch_compile(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    arguments = ["run", "--quick", "--shape", "16x8", "--dtype", "bfloat16", "--out", str(out)]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    (result,) = results.load(out).cases
    assert "compile" in {timing.implementation for timing in result.timings}


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
        (["run", "--device", "toaster"], "--device: got 'toaster'"),
        (["run", "--threads", "0"], "--threads: must be at least 1"),
        (["run", "--dtype", "float64"], "no case of the grid"),
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
