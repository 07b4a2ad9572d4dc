"""The CUDA kernels' library: which nvcc, for which GPUs; it builds and loads without a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from sslkernels import backends, native
from sslkernels.native import build, cuda, flags

CSRC = flags.csrc_root()
OPERATORS = (
    "mask_tokens",
    "augment_draws",
    "augment_forward",
    "augment_forward_out",
    "augment_backward",
    "logsumexp_forward",
    "logsumexp_backward",
    "weighted_logsumexp_forward",
)


def toolkit_or_skip(architectures=("8.0",)) -> cuda.Toolkit:
    try:
        return cuda.find_toolkit(architectures)
    except cuda.NoToolkit as error:
        pytest.skip(str(error))


class TestArchitectures:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, ("8.9", "9.0")),
            ("", ("8.9", "9.0")),
            ("8.0", ("8.0",)),
            ("8.0;9.0a 12.0+PTX,8.0", ("8.0", "9.0a", "12.0+PTX")),
        ],
    )
    def test_of_the_environment_or_else(self, value, expected):
        environ = {} if value is None else {cuda.ARCHITECTURES: value}
        assert cuda.architectures(environ, ("8.9", "9.0", "8.9")) == expected

    @pytest.mark.parametrize("value", ["Ampere", "80", "9.0+ptx", "8.0;x"])
    def test_others_are_an_error(self, value):
        with pytest.raises(native.NativeUnavailable, match="expected numbers such as 8"):
            cuda.architectures({cuda.ARCHITECTURES: value}, ())

    def test_become_flags(self):
        toolkit = cuda.Toolkit(Path("nvcc"), "", Path(), ("8.0", "9.0a", "12.0+PTX"))
        assert toolkit.code_flags() == [
            "-gencode=arch=compute_80,code=sm_80",
            "-gencode=arch=compute_90a,code=sm_90a",
            "-gencode=arch=compute_120,code=sm_120",
            "-gencode=arch=compute_120,code=compute_120",
        ]


class TestToolkit:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch, tmp_path):
        for name in ("CUDA_HOME", "CUDA_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))

    def fake(self, folder: Path, script: str = "") -> Path:
        nvcc = folder / "bin" / "nvcc"
        nvcc.parent.mkdir(parents=True)
        nvcc.write_text(f"#!/bin/sh\n{script or 'echo release 99'}\n")
        nvcc.chmod(0o755)
        return nvcc

    def test_of_cuda_home(self, monkeypatch, tmp_path):
        nvcc = self.fake(tmp_path / "home")
        (tmp_path / "home" / "lib64").mkdir()
        (tmp_path / "home" / "lib64" / "libcudart_static.a").touch()
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
        toolkit = cuda.find_toolkit(["8.0"])
        assert (toolkit.nvcc, toolkit.version) == (nvcc, "release 99")
        assert toolkit.link_flags()[0] == str(tmp_path / "home" / "lib64" / "libcudart_static.a")

    def test_a_script_in_the_place_of_nvcc(self, monkeypatch, tmp_path):
        """Its --dryrun, and not its path, says where the toolkit is."""
        real = tmp_path / "real"
        (real / "lib").mkdir(parents=True)
        (real / "lib" / "libcudart_static.a").touch()
        self.fake(tmp_path / "wrapper", f"echo '#$ TOP={real}/bin/..'")
        (real / "bin").mkdir()
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "wrapper"))
        assert cuda.find_toolkit(["8.0"]).libraries == real / "lib"

    def test_without_its_runtime(self, monkeypatch, tmp_path):
        self.fake(tmp_path / "home")
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
        with pytest.raises(cuda.NoToolkit, match="no libcudart_static"):
            cuda.find_toolkit(["8.0"])

    def test_that_does_not_run(self, monkeypatch, tmp_path):
        self.fake(tmp_path / "home", "echo broken; exit 3")
        monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
        with pytest.raises(cuda.NoToolkit, match="failed:\nbroken"):
            cuda.find_toolkit(["8.0"])


class TestAheadOfTime:
    """Without nvcc, with it and a torch for the CPU, with both."""

    @pytest.mark.parametrize(
        ("choice", "torch_cuda", "wanted"),
        [("", None, False), ("", "13.0", True), ("0", "13.0", False), ("1", None, True)],
    )
    def test_with_nvcc(self, monkeypatch, choice, torch_cuda, wanted):
        monkeypatch.setattr(cuda, "find_toolkit", lambda found: found)
        toolkit = cuda.toolkit_ahead_of_time({cuda.ENVIRONMENT: choice}, torch_cuda)
        assert toolkit == (cuda.DEFAULT_ARCHITECTURES if wanted else None)

    def test_without_nvcc(self, monkeypatch):
        def missing(wanted):
            raise cuda.NoToolkit("no nvcc")

        monkeypatch.setattr(cuda, "find_toolkit", missing)
        assert cuda.toolkit_ahead_of_time({}, "13.0") is None
        with pytest.raises(cuda.NoToolkit):
            cuda.toolkit_ahead_of_time({cuda.ENVIRONMENT: "1"}, "13.0")


def test_the_cpu_library_has_nothing_of_it():
    ours, theirs = set(flags.sources(CSRC)), set(flags.cuda_sources(CSRC))
    assert not ours & theirs
    assert ours | theirs == {*CSRC.rglob("*.cpp"), *CSRC.rglob("*.cu")}


def test_architectures_and_kernels_name_the_library(tmp_path):
    root = tmp_path / "csrc"
    shutil.copytree(CSRC, root)
    before = flags.cuda_fingerprint(root), flags.fingerprint(root, "DEFAULT")
    assert flags.cuda_fingerprint(root, ("8.0",)) != before[0]
    kernel = root / "masking" / "mask_tokens.cu"
    kernel.write_text(kernel.read_text() + "\n// changed\n")
    assert flags.cuda_fingerprint(root) != before[0]
    assert flags.fingerprint(root, "DEFAULT") == before[1]


def test_no_cuda_torch_no_gpu(monkeypatch):
    monkeypatch.setattr(native, "_cards", list)
    monkeypatch.delenv(cuda.ARCHITECTURES, raising=False)
    with pytest.raises(native.NativeUnavailable, match="there is no GPU to compile"):
        native._load_cuda(CSRC)
    monkeypatch.setenv(cuda.ENVIRONMENT, "0")
    with pytest.raises(native.NativeUnavailable, match="SSLKERNELS_CUDA is 0"):
        native._load_cuda(CSRC)


def test_explain_names_the_reason():
    assert "the tensor is on cpu" in backends.why_not("mask_tokens", "cuda", torch.zeros(1))
    no_kernels = backends.why_not("distillation_loss", "cuda", torch.zeros(1))
    assert no_kernels == "row_divergence has no CUDA kernels"
    assert "bfloat16 and float16, not float32" in backends._cuda_operators["nt_xent"](torch.ones(2))
    wide = torch.zeros(1, 1025, dtype=torch.bfloat16)
    assert "at most 1024 features, not 1025" in backends._cuda_operators["logsumexp"](wide)
    assert "1 or 3 channels, not 4" in backends._cuda_operators["augment"](torch.zeros(1, 4, 2, 2))


@pytest.mark.slow
def test_it_builds_and_loads_without_a_gpu(tmp_path, monkeypatch):
    # Nothing of it runs, and tests/emulation/cuda/test_nvcc.py has what nvcc makes of it in full.
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "-Xcicc=-O0 -Xptxas=-O0")
    native.load()
    library = tmp_path / "library.so"
    build.compile_library(
        library,
        isa=flags.CUDA_HOST,
        sources=flags.cuda_sources(CSRC),
        include=CSRC,
        torch_root=Path(torch.__file__).parent,
        compiler=build.find_compiler(),
        toolkit=toolkit_or_skip(),
    )
    torch.ops.load_library(str(library))
    for name in OPERATORS:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"sslkernels::{name}", "CUDA")
