"""setup.py: the same compile as on first use, and nothing compiled where nothing can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sslkernels.native import build, flags

REPOSITORY = Path(__file__).resolve().parents[2]
SETUP = REPOSITORY / "setup.py"

pytestmark = pytest.mark.skipif(not SETUP.is_file(), reason="not a checkout")


@pytest.fixture
def recorder(compiler_script):
    """A compiler that compiles nothing: it notes its arguments and makes an empty output."""
    return compiler_script(
        """
        if "-o" in argv:
            pathlib.Path(argv[argv.index("-o") + 1]).touch()
            with (here / "calls.jsonl").open("a") as calls:
                calls.write(__import__("json").dumps(argv) + chr(10))
            sys.exit(0)
        """
    )


def recorded(tmp_path: Path) -> set[tuple[str, ...]]:
    """The calls since the last time, without the names of temporary files."""
    log = tmp_path / "calls.jsonl"
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    log.unlink()
    outputs = {call[call.index("-o") + 1] for call in calls}
    return {tuple(word for word in call if word not in outputs) for call in calls}


def build_ext(tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    places = [f"--build-lib={tmp_path / 'lib'}", f"--build-temp={tmp_path / 'temp'}"]
    return subprocess.run(
        [sys.executable, str(SETUP), "-q", "build_ext", *places],
        cwd=REPOSITORY,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_both_ways_of_building_run_the_same_commands(
    recorder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = build_ext(tmp_path, CXX=str(recorder))
    assert result.returncode == 0, result.stderr
    ahead_of_time = recorded(tmp_path)

    monkeypatch.setenv("CXX", str(recorder))
    csrc = REPOSITORY / "csrc"
    for isa in flags.ISAS:
        build.cached_library(
            isa,
            root=csrc,
            torch_root=Path(torch.__file__).parent,
            torch_version="test",
            cache=tmp_path / "cache",
        )
    assert recorded(tmp_path) == ahead_of_time
    assert len(ahead_of_time) == len(flags.ISAS) * len(flags.sources(csrc)) + 1  # links are alike

    built = {path.name for path in (tmp_path / "lib" / "sslkernels" / "native" / "lib").iterdir()}
    assert built == {flags.library_name(csrc, isa) for isa in flags.ISAS}


def test_without_a_compiler_the_sources_alone_are_installed(tmp_path: Path) -> None:
    result = build_ext(tmp_path, CXX="no-such-compiler")
    assert result.returncode == 0, result.stderr
    assert "the C++ kernels are not compiled now" in result.stderr
    assert not (tmp_path / "lib").exists()


def test_a_failing_compile_fails_the_installation(tmp_path: Path, compiler_script) -> None:
    broken = compiler_script("if '-c' in argv: sys.exit('no, says the compiler')\n")
    result = build_ext(tmp_path, CXX=str(broken))
    assert result.returncode != 0
    assert "no, says the compiler" in result.stderr
