"""Examples for other languages and boards: run or compiled where the tools are at hand."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stale_edge_runtime import Detector
from stale_edge_runtime.synthetic import clip_like_features
from tests import emulated

EXAMPLES = Path(__file__).parents[1] / "examples"
DATA = Path(__file__).parent / "data"
HOMES = (*filter(None, [os.environ.get("ONNXRUNTIME_HOME")]), "/usr", "/usr/local", "/opt/onnxruntime")
"""Folders with `include/` and `lib/`, as onnxruntime's release packages and Debian's libonnxruntime-dev have them."""
DECLARED = """
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>
enum Level { ORT_LOGGING_LEVEL_WARNING };
enum Allocator { OrtArenaAllocator };
enum Kind { OrtMemTypeDefault };
namespace Ort {
struct Env { Env(Level, const char*); };
struct SessionOptions { SessionOptions& SetIntraOpNumThreads(int); };
struct RunOptions { explicit RunOptions(std::nullptr_t); };
struct MemoryInfo { static MemoryInfo CreateCpu(Allocator, Kind); };
struct ShapeInfo { std::vector<std::int64_t> GetShape() const; std::size_t GetElementCount() const; };
struct TypeInfo { ShapeInfo GetTensorTypeAndShapeInfo() const; };
struct AllocatorWithDefaultOptions {};
struct Metadata {
  std::unique_ptr<char> LookupCustomMetadataMapAllocated(const char*, AllocatorWithDefaultOptions&) const;
};
struct Value {
  template <typename T> static Value CreateTensor(
      const MemoryInfo&, T*, std::size_t, const std::int64_t*, std::size_t);
  template <typename T> const T* GetTensorData() const;
  ShapeInfo GetTensorTypeAndShapeInfo() const;
};
struct Session {
  Session(Env&, const char*, const SessionOptions&);
  TypeInfo GetInputTypeInfo(std::size_t) const;
  Metadata GetModelMetadata() const;
  std::vector<Value> Run(
      const RunOptions&, const char* const*, const Value*, std::size_t, const char* const*, std::size_t);
};
}
"""
"""The part of onnxruntime's C++ interface that the example uses, to check its syntax where there are no headers."""


def needed(program):
    return shutil.which(program) or pytest.skip(f"needs {program}")


def run(*words):
    return subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, timeout=300)


def headers():
    for home in map(Path, HOMES):
        for folder in (home / "include", home / "include" / "onnxruntime"):
            if (folder / "onnxruntime_cxx_api.h").is_file():
                return home, folder
    return None


def test_the_python_example_prints_what_the_detector_finds(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / "detect.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    detector = Detector(DATA / "tiny_baked.onnx")
    rows = clip_like_features(1, 20, detector.info.feature_dim)[0]
    np.save(tmp_path / "video.npy", rows)
    example.main(str(DATA / "tiny_baked.onnx"), str(tmp_path / "video.npy"))
    printed = capsys.readouterr().out.splitlines()
    found = detector.detect(rows)
    assert len(printed) == len(found) > 0
    assert printed[0].endswith(f"{found[0].score:.4f}  {found[0].label}")


@pytest.mark.parametrize("name", ["detect.cpp", "Detect.java", "Detect.swift", "detect.py"])
def test_examples_are_short_and_read_the_outputs_of_the_contract(name):
    text = (EXAMPLES / name).read_text()
    assert len(text.splitlines()) <= 45
    if name != "detect.py":
        assert all(f'"{output}"' in text for output in ("features", "segments", "labels", "scores"))


def test_emulated_tests_say_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QEMU", str(tmp_path))
    assert emulated.main(["cortex-a76", "Haswell-noTSX"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("cortex-a76: skipped, as qemu-aarch64 is missing")
    assert second.startswith("Haswell-noTSX: skipped, as qemu-x86_64 is missing")
    (tmp_path / "qemu-aarch64").write_text("#!/bin/sh\necho qemu-aarch64 version 7.2.1\n")
    (tmp_path / "qemu-aarch64").chmod(0o755)
    assert emulated.main(["cortex-a72"]) == 0
    assert "version 7.2.1, qemu-user 10 or later is needed" in capsys.readouterr().out
    assert emulated.main(["z80"]) == 2


@pytest.mark.slow
def test_the_cpp_example_is_right_cpp(tmp_path):
    compiler = needed("g++")
    found = headers()
    if found is None:
        (tmp_path / "onnxruntime_cxx_api.h").write_text(DECLARED)
    folder = tmp_path if found is None else found[1]
    flags = ("-std=c++17", "-Wall", "-Wextra", "-Werror=return-type", "-fsyntax-only", "-I", folder)
    checked = run(compiler, *flags, EXAMPLES / "detect.cpp")
    assert checked.returncode == 0, checked.stderr
    (tmp_path / "broken.cpp").write_text((EXAMPLES / "detect.cpp").read_text().replace("session.Run(", "session.Ran("))
    assert run(compiler, *flags, tmp_path / "broken.cpp").returncode != 0


@pytest.mark.slow
def test_the_java_example_is_right_java(tmp_path):
    compiler = needed("javac")
    jar = os.environ.get("ONNXRUNTIME_JAR", "")
    checked = run(compiler, "-d", tmp_path, "-Xmaxerrs", 999, "-cp", jar or tmp_path, EXAMPLES / "Detect.java")
    if jar:
        assert checked.returncode == 0, checked.stderr
        return
    # Without onnxruntime's classes only their names may be unknown; errors of syntax come before these.
    errors = [line.partition(" error: ")[2] for line in checked.stderr.splitlines() if " error: " in line]
    assert errors
    assert all(error.startswith(("package ", "cannot find symbol")) for error in errors)
