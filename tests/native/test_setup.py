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


def setup(checkout: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", *words],
        cwd=checkout,
        env={**os.environ, "SSLKERNELS_CUDA": "0", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_both_ways_of_building_run_the_same_commands(
    checkout: Path, recorder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = setup(checkout, "build_ext", "--inplace", CXX=str(recorder))
    assert result.returncode == 0, result.stderr
    ahead_of_time = recorded(tmp_path)

    monkeypatch.setenv("CXX", str(recorder))
    csrc = checkout / "csrc"
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

    built = {path.name for path in (checkout / "sslkernels" / "native").glob("*.so")}
    assert built == {flags.library_name(csrc, isa) for isa in flags.ISAS}


def test_cuda_kernels_are_built_where_they_are_asked_for(
    checkout: Path, recorder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "cuda"
    for name in ("bin", "lib64"):
        (home / name).mkdir(parents=True)
    (home / "lib64" / "libcudart_static.a").touch()
    nvcc = home / "bin" / "nvcc"
    note = 'echo "$@" >> "$(dirname "$0")/calls"'
    nvcc.write_text(f'#!/bin/sh\n{note}\nwhile [ "$1" != -o ] && [ $# -gt 0 ]; do shift; done\n')
    nvcc.write_text(nvcc.read_text() + '[ -z "$2" ] || touch "$2"\necho release 99\n')
    nvcc.chmod(0o755)
    choice = {"SSLKERNELS_CUDA": "1", "CUDA_HOME": str(home), "TORCH_CUDA_ARCH_LIST": "9.0"}
    result = setup(checkout, "build_ext", "--inplace", CXX=str(recorder), **choice)
    assert result.returncode == 0, result.stderr
    csrc = checkout / "csrc"
    built = {path.name for path in (checkout / "sslkernels" / "native").glob("*.so")}
    assert built == {flags.cuda_library_name(csrc)} | {
        flags.library_name(csrc, isa) for isa in flags.ISAS
    }
    compiled = [
        call for call in (home / "bin" / "calls").read_text().splitlines() if " -c " in call
    ]
    of_kernels = [call for call in compiled if "code=sm_90" in call]
    assert len(of_kernels) == len(list(csrc.rglob("*.cu")))


def test_editable_installation_has_the_libraries_in_the_checkout(
    checkout: Path, recorder: Path, tmp_path: Path
) -> None:
    native = checkout / "sslkernels" / "native"
    result = setup(checkout, "editable_wheel", f"--dist-dir={tmp_path}", CXX=str(recorder))
    assert result.returncode == 0, result.stderr
    first = {path.name for path in native.glob("*.so")}
    assert first == {flags.library_name(checkout / "csrc", isa) for isa in flags.ISAS}

    # Libraries of sources that are gone do not pile up.
    (checkout / "csrc" / "new.h").touch()
    result = setup(checkout, "editable_wheel", f"--dist-dir={tmp_path}", CXX=str(recorder))
    assert result.returncode == 0, result.stderr
    second = {path.name for path in native.glob("*.so")}
    assert second == {flags.library_name(checkout / "csrc", isa) for isa in flags.ISAS}
    assert not first & second


def test_without_a_compiler_the_sources_alone_are_installed(checkout: Path) -> None:
    result = setup(checkout, "build", CXX="no-such-compiler")
    assert result.returncode == 0, result.stderr
    assert "the C++ kernels are not compiled now" in result.stderr
    installed = checkout / "build" / "lib" / "sslkernels"
    copied = {path.relative_to(installed / "csrc") for path in installed.rglob("csrc/**/*.cpp")}
    assert copied == {p.relative_to(checkout / "csrc") for p in checkout.glob("csrc/**/*.cpp")}
    assert not list(installed.rglob("*.so"))


def test_a_failing_compile_fails_the_installation(checkout: Path, compiler_script) -> None:
    broken = compiler_script("if '-c' in argv: sys.exit('no, says the compiler')\n")
    result = setup(checkout, "build", CXX=str(broken))
    assert result.returncode != 0
    assert "no, says the compiler" in result.stderr
