"""The build and its cache: concurrent, killed, damaged, impossible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sslkernels.native import NativeUnavailable, build, flags

TORCH_ROOT = Path(torch.__file__).parent

# Builds or finds the library in a process of its own, loads it and calls it.
CHILD = """
import ctypes, sys
from pathlib import Path
from sslkernels.native import build
csrc, cache, torch_root = map(Path, sys.argv[1:])
entry = build.cached_library(
    "DEFAULT", root=csrc, cache=cache, torch_root=torch_root, torch_version="test"
)
print("built" if entry.built else "found", ctypes.CDLL(str(entry.path)).answer())
"""


def start(csrc: Path, cache: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(csrc), str(cache), str(TORCH_ROOT)],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


def cached(csrc: Path, cache: Path, *, isa: str = "DEFAULT", version: str = "test") -> build.Entry:
    return build.cached_library(
        isa, root=csrc, cache=cache, torch_root=TORCH_ROOT, torch_version=version
    )


def test_builds_once_and_then_finds(csrc: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert finish(start(csrc, cache)) == ["built", "42"]
    assert finish(start(csrc, cache)) == ["found", "42"]


def test_two_processes_at_once_compile_once(csrc: Path, tmp_path: Path, compiler_script) -> None:
    # Each compiler call takes half a second longer, so that the two surely meet.
    slow = compiler_script("time.sleep(0.5 if '-c' in argv else 0)\n")
    cache = tmp_path / "cache"
    processes = [start(csrc, cache, CXX=str(slow)) for _ in range(2)]
    results = [finish(process) for process in processes]
    assert sorted(results) == [["built", "42"], ["found", "42"]]


def test_killed_build_leaves_nothing_that_hurts(
    csrc: Path, tmp_path: Path, compiler_script
) -> None:
    # The first compile reports that it runs and hangs; later ones work.
    hangs_once = compiler_script(
        """
        started = here / "started"
        if "-c" in argv and not started.exists():
            started.touch()
            time.sleep(600)
        """
    )
    cache = tmp_path / "cache"
    victim = start(csrc, cache, CXX=str(hangs_once), MAX_JOBS="1")
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert victim.poll() is None, victim.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # Python alone dies; its compiler lives on, as after an out-of-memory kill.
    victim.kill()
    victim.wait()
    try:
        assert [path for path in cache.iterdir() if ".tmp" in path.name]
        assert finish(start(csrc, cache, CXX=str(hangs_once))) == ["built", "42"]
        assert finish(start(csrc, cache, CXX=str(hangs_once))) == ["found", "42"]
        assert not [path for path in cache.iterdir() if ".tmp" in path.name]
    finally:
        os.killpg(victim.pid, signal.SIGKILL)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no manifest", "bad manifest"])
def test_damaged_entry_is_rebuilt(csrc: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    library = cached(csrc, cache).path
    content, manifest = library.read_bytes(), library.with_name("manifest.json")
    if damage == "truncated":
        library.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        library.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text('{"sha256":')
    assert cached(csrc, cache).built
    assert library.read_bytes() == content
    assert not cached(csrc, cache).built


def test_everything_that_shapes_the_library_names_it(
    csrc: Path, tmp_path: Path, compiler_script, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = cached(csrc, cache)
    assert not cached(csrc, cache).built
    paths = {first.path, cached(csrc, cache, version="another torch").path}
    paths.add(cached(csrc, cache, isa=list(flags.ISAS)[-1]).path)
    with monkeypatch.context() as patch:
        patch.setattr(flags, "COMMON", (*flags.COMMON, "-DANOTHER_FLAG"))
        paths.add(cached(csrc, cache).path)
    with monkeypatch.context() as patch:
        patch.setenv("CXX", str(compiler_script("")))
        paths.add(cached(csrc, cache).path)
    header = csrc / "answer.h"
    header.write_text(header.read_text() + "// edited\n")
    paths.add(cached(csrc, cache).path)
    assert len(paths) == 6


def test_no_compiler_is_a_readable_error(
    csrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeUnavailable, match=r"no C\+\+ compiler.*Install g\+\+.*set CXX"):
        cached(csrc, tmp_path / "cache")
    monkeypatch.setenv("CXX", "no-such-compiler -pipe")
    with pytest.raises(NativeUnavailable, match="CXX='no-such-compiler -pipe' not found"):
        cached(csrc, tmp_path / "cache")


def test_cached_library_needs_no_compiler(
    csrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached(csrc, tmp_path / "cache")
    monkeypatch.setenv("CXX", "no-such-compiler")
    again = cached(csrc, tmp_path / "cache")
    assert (again.path, again.built) == (first.path, False)


def test_compile_error_shows_the_compiler_s_words(csrc: Path, tmp_path: Path) -> None:
    (csrc / "inner" / "answer.cpp").write_text("this is no C++\n")
    with pytest.raises(NativeUnavailable) as caught:
        cached(csrc, tmp_path / "cache")
    message = str(caught.value)
    assert "compiler failed" in message
    assert "answer.cpp:1:1: error" in message
    assert "-std=c++20" in message, "the command is shown, to be repeated by hand"
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_long_compiler_output_is_cut_to_its_tail(
    csrc: Path, tmp_path: Path, compiler_script, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatty = compiler_script(
        """
        if "-c" in argv:
            print("\\n".join(f"line {i}." for i in range(1000)), file=sys.stderr)
            sys.exit(1)
        """
    )
    monkeypatch.setenv("CXX", str(chatty))
    with pytest.raises(NativeUnavailable) as caught:
        cached(csrc, tmp_path / "cache")
    assert "line 999." in str(caught.value)
    assert "line 900." not in str(caught.value)


def test_unwritable_cache_names_the_way_out(csrc: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NativeUnavailable, match="set TORCH_EXTENSIONS_DIR"):
        cached(csrc, tmp_path / "file" / "cache")


def test_compiler_without_the_flags_is_told_apart(
    csrc: Path, tmp_path: Path, compiler_script, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = compiler_script("if '-mamx-bf16' in argv: sys.exit(1)\n")
    monkeypatch.setenv("CXX", str(old))
    if "AMX" not in flags.ISAS:
        pytest.skip("not an x86 machine")
    with pytest.raises(build.NoCompiler, match="does not know the flags for AMX"):
        cached(csrc, tmp_path / "cache", isa="AMX")
    assert cached(csrc, tmp_path / "cache", isa="AVX512").built


def test_failed_compile_keeps_the_old_output(csrc: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "kernels.so"
    output.parent.mkdir()
    output.write_bytes(b"old")
    (csrc / "library.cpp").write_text("#error no\n")
    with pytest.raises(NativeUnavailable, match="#error no"):
        build.compile_library(
            output,
            isa="DEFAULT",
            sources=flags.sources(csrc),
            include=csrc,
            torch_root=TORCH_ROOT,
            compiler=build.find_compiler(),
        )
    assert output.read_bytes() == b"old"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TORCH_EXTENSIONS_DIR": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a/sslkernels"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/sslkernels"),
        ({"HOME": "/c"}, "/c/.cache/sslkernels"),
    ],
)
def test_cache_root(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert str(build.cache_root()) == expected
