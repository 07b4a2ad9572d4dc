"""Installed wheels: the kernels are found, whichever way they were built."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sslkernels.native import build, flags

pytestmark = pytest.mark.slow

CHILD = """
import sslkernels
from sslkernels import native
library = native.load()
print(sslkernels.__file__, library.path, library.origin, sep="\\n")
"""


def make_wheel(checkout: Path, tmp_path: Path, **environ: str) -> Path:
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, f"--wheel-dir={tmp_path}", str(checkout)],
        env={**os.environ, "SSLKERNELS_CUDA": "0", **environ},
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    return wheel


def load_from(wheel: Path, tmp_path: Path, **environ: str) -> tuple[Path, str]:
    """Unpack the wheel and load the kernels in a process that knows nothing of the checkout."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environ = {
        "PYTHONPATH": str(site),
        "TORCH_EXTENSIONS_DIR": str(tmp_path / "cache"),
        **environ,
    }
    result = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=tmp_path,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    package, library, origin = result.stdout.splitlines()
    assert Path(package).parent == site / "sslkernels"
    return Path(library), origin


def test_wheel_built_where_torch_is(checkout: Path, tmp_path: Path) -> None:
    wheel = make_wheel(checkout, tmp_path)
    assert "-py3-none-" in wheel.name, "no library in it depends on a version of Python"
    assert not wheel.name.endswith("-any.whl")
    library, origin = load_from(wheel, tmp_path, CXX="no-such-compiler")
    assert origin == "built at installation"
    compiler = build.find_compiler()
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")}
    accepted = [isa for isa in flags.ISAS if compiler.accepts(flags.compile_flags(isa))]
    assert names == {flags.library_name(checkout / "csrc", isa) for isa in accepted}
    assert library.name in names


def test_wheel_of_sources_alone(checkout: Path, tmp_path: Path, compiler_script) -> None:
    wheel = make_wheel(checkout, tmp_path, CXX="no-such-compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    folder = "sslkernels/csrc/"
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(folder)]
    sources = [path for path in (checkout / "csrc").rglob("*") if path.is_file()]
    assert sorted(names) == sorted(f"{folder}{x.relative_to(checkout / 'csrc')}" for x in sources)
    # That it compiles is the question here, not how fast its code is.
    hurried = compiler_script('argv.append("-O1")\n')
    library, origin = load_from(wheel, tmp_path, CXX=str(hurried))
    assert origin.startswith("compiled now")
    assert library.is_relative_to(tmp_path / "cache")
