"""A tiny C++ library to build: seconds would be too long for tests that kill builds."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

PLAIN = """
#include "answer.h"
extern "C" __attribute__((visibility("default"))) int answer() { return inner_answer(); }
"""

# The same through torch: how load() sees a library. The namespace is the real one.
REGISTERED = """
#include <torch/csrc/stable/library.h>
#include "answer.h"

int64_t answer() { return inner_answer(); }

int64_t compiled_isa() {
#if defined(SSLK_ISA_AMX)
  return 4;
#elif defined(SSLK_ISA_AVX512_BF16)
  return 3;
#elif defined(SSLK_ISA_AVX512)
  return 2;
#elif defined(SSLK_ISA_AVX2)
  return 1;
#else
  return 0;
#endif
}

STABLE_TORCH_LIBRARY(sslkernels, m) {
  m.def("answer() -> int");
  m.def("compiled_isa() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CompositeExplicitAutograd, m) {
  m.impl("answer", TORCH_BOX(&answer));
  m.impl("compiled_isa", TORCH_BOX(&compiled_isa));
}
"""


def _write_sources(root: Path, library: str) -> Path:
    (root / "inner").mkdir(parents=True)
    (root / "library.cpp").write_text(library)
    (root / "answer.h").write_text("#pragma once\nint inner_answer();\n")
    (root / "inner" / "answer.cpp").write_text(
        '#include "answer.h"\nint inner_answer() { return 42; }\n'
    )
    return root


@pytest.fixture
def csrc(tmp_path: Path) -> Path:
    """Two sources and a header, one of them in a subfolder, as csrc has them."""
    return _write_sources(tmp_path / "csrc", PLAIN)


@pytest.fixture
def registered_csrc(tmp_path: Path) -> Path:
    """The same, registering operators with torch."""
    return _write_sources(tmp_path / "csrc", REGISTERED)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build needs, where setuptools may leave its traces."""
    if not (REPOSITORY / "setup.py").is_file():
        pytest.skip("not a checkout")
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("sslkernels", "csrc"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    return copy


@pytest.fixture
def compiler_script(tmp_path: Path):
    """Makes an executable to set CXX to: ``body`` is Python that sees ``argv`` and ``real``."""

    def make(body: str) -> Path:
        real = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        if real is None:
            pytest.skip("no C++ compiler")
        path = tmp_path / "cxx"
        head = f"#!{sys.executable}\nimport os, pathlib, sys, time\n"
        names = f"argv = sys.argv[1:]\nreal = {real!r}\nhere = pathlib.Path({str(tmp_path)!r})\n"
        tail = "os.execv(real, [real, *argv])\n"
        path.write_text(head + names + textwrap.dedent(body) + tail)
        path.chmod(0o755)
        return path

    return make
