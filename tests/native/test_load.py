"""load(): which library it takes, once, and what it says when there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sslkernels import native
from sslkernels.native import build, flags

# Loads from the sources and the folder of ahead-of-time libraries given, as a fresh process would.
CHILD = """
import sys
from pathlib import Path
import torch
from sslkernels import native
native.flags.csrc_root = lambda: Path(sys.argv[1])
native.AHEAD_OF_TIME = Path(sys.argv[2])
assert native.info() is None
library = native.load()
assert native.load() is library and native.info() is library and native.isa() == library.isa
ops = torch.ops.sslkernels
print(library.isa, ops.answer(), ops.compiled_isa(), library.origin, sep="\\n")
"""


def load(csrc: Path, tmp_path: Path, **environ: str) -> tuple[str, int, int, str]:
    """What a fresh process loads: ISA, answer, the ISA that the code was compiled for, origin."""
    environ = {"TORCH_EXTENSIONS_DIR": str(tmp_path / "cache"), **environ}
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(csrc), str(tmp_path / "lib")],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    isa, answer, compiled, origin = result.stdout.splitlines()
    return isa, int(answer), int(compiled), origin


def build_ahead(csrc: Path, tmp_path: Path, isa: str) -> Path:
    output = tmp_path / "lib" / flags.library_name(csrc, isa)
    output.parent.mkdir(exist_ok=True)
    build.compile_library(
        output,
        isa=isa,
        sources=flags.sources(csrc),
        include=csrc,
        torch_root=Path(torch.__file__).parent,
        compiler=build.find_compiler(),
    )
    return output


def runnable_isas() -> list[str]:
    features = native._isa.cpu_features()
    runs = [name for name, isa in flags.ISAS.items() if isa.cpu_features <= (features or set())]
    return [name for name in runs if name != "AMX" or native._isa.allow_amx()]


@pytest.mark.parametrize("isa", runnable_isas())
def test_each_isa_loads_code_compiled_for_it(
    isa: str, registered_csrc: Path, tmp_path: Path
) -> None:
    loaded, answer, compiled, origin = load(registered_csrc, tmp_path, SSLKERNELS_CPU_ISA=isa)
    assert (loaded, answer, compiled) == (isa, 42, list(flags.ISAS).index(isa))
    assert origin.startswith("compiled now")


def test_library_built_at_installation_is_used_until_a_source_changes(
    registered_csrc: Path, tmp_path: Path
) -> None:
    default = {"SSLKERNELS_CPU_ISA": "default"}
    ahead = build_ahead(registered_csrc, tmp_path, "DEFAULT")
    loaded = load(registered_csrc, tmp_path, CXX="no-such-compiler", **default)
    assert loaded == ("DEFAULT", 42, 0, "built at installation")

    # One that this torch cannot load is passed over.
    content = ahead.read_bytes()
    ahead.write_bytes(b"not a library")
    assert load(registered_csrc, tmp_path, **default)[3].startswith("compiled now")

    # So is one made from other sources: the new answer must come.
    ahead.write_bytes(content)
    inner = registered_csrc / "inner" / "answer.cpp"
    inner.write_text(inner.read_text().replace("42", "43"))
    assert load(registered_csrc, tmp_path, **default)[:2] == ("DEFAULT", 43)


@pytest.mark.skipif("AVX512_BF16" not in runnable_isas(), reason="this machine has only AVX-512")
def test_compiler_too_old_for_the_best_serves_avx512(
    registered_csrc: Path, tmp_path: Path, compiler_script
) -> None:
    old = compiler_script("if '-mavx512bf16' in argv: sys.exit(1)\n")
    environ = {"ATEN_CPU_CAPABILITY": "avx512", "SSLKERNELS_CPU_ISA": ""}
    loaded = load(registered_csrc, tmp_path, CXX=str(old), **environ)
    assert loaded[:3] == ("AVX512", 42, 2)


def test_failure_is_readable_and_not_tried_again(
    csrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_outcome", None)
    monkeypatch.setattr(native, "AHEAD_OF_TIME", tmp_path / "lib")
    monkeypatch.setattr(flags, "csrc_root", lambda: csrc)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ImportError, match="CXX='no-such-compiler' not found") as first:
        native.load()
    monkeypatch.delenv("CXX")
    with pytest.raises(native.NativeUnavailable) as second:
        native.load()
    assert str(second.value) == str(first.value)
    assert native.info() is None


def test_refused_amx_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_outcome", None)
    monkeypatch.setattr(native._isa, "candidates", lambda *_: ["AMX", "AVX512"])
    monkeypatch.setattr(native._isa, "allow_amx", lambda: False)
    assert native.isa() == "AVX512"
    monkeypatch.setattr(native._isa, "candidates", lambda *_: ["AMX"])
    with pytest.raises(native.NativeUnavailable, match="does not let this process use AMX"):
        native.isa()


def test_threads_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    library = native.Library("DEFAULT", Path("kernels.so"), "test")
    meet = threading.Barrier(4)

    def slow_load() -> native.Library:
        calls.append(1)
        time.sleep(0.05)  # so that the others arrive while one loads
        return library

    def worker() -> None:
        meet.wait()
        assert native.load() is library

    monkeypatch.setattr(native, "_outcome", None)
    monkeypatch.setattr(native, "_load", slow_load)
    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_sources_are_found_beside_or_inside_the_package(
    csrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "sslkernels"
    monkeypatch.setattr(flags, "__file__", str(installed / "native" / "flags.py"))
    with pytest.raises(FileNotFoundError, match=r"no C\+\+ sources in .*csrc nor in .*csrc"):
        flags.csrc_root()
    installed.mkdir(parents=True)
    csrc.rename(installed / "csrc")
    assert flags.csrc_root() == installed / "csrc"
    (installed / "csrc").rename(installed.parent / "csrc")
    assert flags.csrc_root() == installed.parent / "csrc"
