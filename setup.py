"""Adds to pyproject.toml what it cannot say: where csrc goes, and what is built ahead of time.

Where torch can be imported (``pip install --no-build-isolation .``) the C++ kernels are compiled
now, one library per instruction set. Elsewhere the sources are installed and compiled on first use,
by the same code with the same flags.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

if TYPE_CHECKING:
    from sslkernels.native.cuda import Toolkit

HERE = Path(__file__).resolve().parent
CSRC = HERE / "csrc"
LIBRARIES = "sslkernels.native"
CUDA = "CUDA"


class BuildLibraries(build_ext):
    """Compiles one shared library per instruction set. They are no Python modules."""

    def get_ext_filename(self, fullname: str) -> str:
        from native import flags

        *folders, isa = fullname.split(".")
        name = flags.cuda_library_name(CSRC) if isa == CUDA else flags.library_name(CSRC, isa)
        return os.path.join(*folders, name)  # noqa: PTH118

    def build_extension(self, ext: Extension) -> None:
        import torch
        from native import build, flags

        isa = ext.name.rpartition(".")[2]
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        output.parent.mkdir(parents=True, exist_ok=True)
        remove_libraries(output.parent, f"sslkernels-{isa.lower()}-*.so")
        toolkit = cuda_toolkit() if isa == CUDA else None
        build.compile_library(
            output,
            isa=flags.CUDA_HOST if toolkit else isa,
            sources=flags.cuda_sources(CSRC) if toolkit else flags.sources(CSRC),
            include=CSRC,
            torch_root=Path(torch.__file__).parent,
            compiler=build.find_compiler(),
            toolkit=toolkit,
        )

    def copy_extensions_to_source(self) -> None:
        remove_libraries(HERE / "sslkernels" / "native", "sslkernels-*.so")
        super().copy_extensions_to_source()


def remove_libraries(folder: Path, pattern: str) -> None:
    """Libraries are named by their sources: those of an earlier build would pile up."""
    for stale in folder.glob(pattern):
        stale.unlink()


class Wheel(bdist_wheel):
    """A wheel that any Python 3 takes: the libraries know torch's stable ABI and no Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def cuda_toolkit() -> Toolkit | None:
    """The toolkit to compile the CUDA kernels with now, or None."""
    import torch
    from native import cuda

    return cuda.toolkit_ahead_of_time(os.environ, torch.version.cuda)


def libraries() -> list[Extension]:
    """What to compile ahead of time: nothing without torch or without a compiler."""
    if importlib.util.find_spec("torch") is None:
        return []
    from native import build, flags

    try:
        compiler = build.find_compiler()
    except build.NoCompiler as error:
        print(f"warning: the C++ kernels are not compiled now: {error}", file=sys.stderr)
        return []
    wanted = [isa for isa in flags.ISAS if compiler.accepts(flags.compile_flags(isa))]
    sources = {isa: flags.sources(CSRC) for isa in wanted}
    if cuda_toolkit():
        sources[CUDA] = flags.cuda_sources(CSRC)
    return [
        Extension(f"{LIBRARIES}.{name}", [str(path.relative_to(HERE)) for path in paths])
        for name, paths in sources.items()
    ]


# `native` and not `sslkernels.native`: the package itself may need more than a build has.
sys.path.insert(0, str(HERE / "sslkernels"))
setup(
    packages=[*find_packages(include=["sslkernels", "sslkernels.*"]), "sslkernels.csrc"],
    package_dir={"sslkernels.csrc": "csrc"},
    package_data={"sslkernels.csrc": ["**/*.cpp", "**/*.h", "**/*.cu"]},
    include_package_data=False,
    ext_modules=libraries(),
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": Wheel},
)
