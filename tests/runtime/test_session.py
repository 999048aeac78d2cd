"""Sessions: options that hold, and no silent fallback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from stale_edge_runtime import memory_limit, session
from stale_edge_runtime.contract import Kind, ModelInfo, Precision
from stale_edge_runtime.errors import EXIT_UNAVAILABLE, EXIT_USAGE, BadDataError, UnavailableError, UsageError
from stale_edge_runtime.memory_limit import limited_memory
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.session import check_snippets, cores, open_content, open_session, provider_of, providers

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def model():
    return read_model(DATA / "tiny_baked.onnx")


@pytest.fixture
def fresh_providers():
    """Forget what is known about this machine's providers, before and after."""

    def forget():
        session.providers.cache_clear()
        session._why_unavailable.cache_clear()

    forget()
    yield
    forget()


@pytest.mark.parametrize("snippets", [1, 2, 3, 99, 100, 101, 257])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_length_and_batch_runs(model, batch, snippets):
    features = np.random.default_rng(snippets).standard_normal((batch, snippets, 8)).astype(np.float32)
    logits, masks, video = open_session(model).run(None, {"features": features})
    assert (logits.shape, masks.shape, video.shape) == ((batch, snippets, 4), (batch, 10, snippets), (batch, 3))


def test_options_are_those_of_a_small_device(model):
    options = open_session(model).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert not options.enable_mem_pattern
    assert options.enable_cpu_mem_arena
    for entry, value in {
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        "session.force_spinning_stop": "1",
        "session.set_denormal_as_zero": "1",
    }.items():
        assert options.get_session_config_entry(entry) == value
    plain = open_session(model, optimize=False, reuse_memory=False).get_session_options()
    assert plain.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert not plain.enable_cpu_mem_arena


@pytest.mark.skipif(cores() < 2, reason="one core")
def test_several_threads_wait_awake_within_a_forward_alone(model):
    options = open_session(model, threads=2).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_the_session_says_where_it_runs(model):
    assert provider_of(open_session(model)) == "cpu"
    assert providers()[0] == "cpu"


def test_profile_is_written_where_it_was_asked_for(model, tmp_path):
    opened = open_session(model, profile=tmp_path / "profile")
    opened.run(None, {"features": np.zeros((1, 3, 8), np.float32)})
    written = Path(opened.end_profiling())
    assert written.parent == tmp_path
    assert written.stat().st_size > 0


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_is_a_usage_error(model, threads):
    with pytest.raises(UsageError, match=f"^{threads} threads: is not a number of threads; use 1 or more") as caught:
        open_session(model, threads=threads)
    assert caught.value.exit_code == EXIT_USAGE


def test_more_threads_than_cores_are_an_error(model):
    with pytest.raises(UnavailableError, match=rf"may use {cores()} cores; use at most {cores()}") as caught:
        open_session(model, threads=cores() + 1)
    assert caught.value.exit_code == EXIT_UNAVAILABLE
    assert open_session(model, threads=cores()).get_session_options().intra_op_num_threads == cores()


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert cores() == 3


@pytest.mark.parametrize("provider", ["gpu", "", "CPUExecutionProvider", "CUDA"])
def test_unknown_providers_are_a_usage_error(model, provider):
    with pytest.raises(UsageError, match="is not known; use one of cpu, cuda"):
        open_session(model, provider=provider)


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this onnxruntime has CUDA")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_provider_that_is_not_built_in_is_named_with_its_cure(model, threads):
    if threads > cores():
        pytest.skip("needs a second core")
    with pytest.raises(UnavailableError, match=r"'cuda': .*is built without it; pip install onnxruntime-gpu") as caught:
        open_session(model, provider="cuda", threads=threads)
    assert caught.value.exit_code == EXIT_UNAVAILABLE
    assert "cuda" not in providers()


def test_a_provider_that_is_built_in_but_does_not_load_is_no_fallback(model, monkeypatch, capfd, fresh_providers):
    """Pretend onnxruntime-gpu on a machine without a GPU: it offers CUDA, then quietly runs on the CPU."""
    real, asked = ort.InferenceSession, []

    def quietly_on_cpu(content, options, providers, **keywords):
        asked.append(providers[0][0])
        sys.stdout.write("EP Error ... Falling back to ['CPUExecutionProvider'] and retrying.")
        return real(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", quietly_on_cpu)
    monkeypatch.setattr(ort, "preload_dlls", lambda **_: sys.stdout.write("Failed to load libcudnn"), raising=False)
    with pytest.raises(UnavailableError, match=r"could not load its libraries or find a device; pip install"):
        open_session(model, provider="cuda")
    assert asked == ["CUDAExecutionProvider"]
    assert providers() == ("cpu",)
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_raises_is_no_fallback(model, monkeypatch, fresh_providers):
    def fail(*_, **__):
        raise RuntimeError("CUDA failure 100:\n no CUDA-capable device is detected")

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", fail)
    with pytest.raises(UnavailableError, match=r"could not open it .CUDA failure 100: no CUDA-capable device"):
        open_session(model, provider="cuda")


@pytest.mark.cuda
def test_cuda_runs_where_it_is(model):
    opened = open_session(model, provider="cuda")
    assert provider_of(opened) == "cuda"
    features = np.random.default_rng(0).standard_normal((1, 50, 8)).astype(np.float32)
    for found, wanted in zip(
        *(s.run(None, {"features": features}) for s in (opened, open_session(model))), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_what_onnxruntime_refuses_is_one_line_with_the_name_of_the_file(tmp_path, capfd):
    content = (DATA / "tiny_baked.onnx").read_bytes().replace(b"hidden_relu", b"hidden_rel_")
    renamed = content.replace(b"hidden_rel_", b"hidden_relu", 1)  # the operator's output only
    path = tmp_path / "model.onnx"
    path.write_bytes(renamed)
    with pytest.raises(BadDataError, match="onnxruntime refuses it") as caught:
        open_session(read_model(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_content_that_is_no_model_is_refused():
    with pytest.raises(BadDataError, match=r"^probe: onnxruntime refuses it"):
        open_content(b"nonsense", subject="probe")


def test_lengths_outside_what_the_file_was_made_for():
    info = ModelInfo(Kind.BAKED, Precision.FP32, 10, 8, "test", ("a",), min_snippets=2, max_snippets=8192)
    for fine in (2, 3, 8192):
        check_snippets(info, fine)
    with pytest.raises(BadDataError, match="1 snippets, the model takes 2 or more"):
        check_snippets(info, 1)
    with pytest.raises(BadDataError, match=r"8,193 snippets.* at most 8,192 .*--window"):
        check_snippets(info, 8193)
    with pytest.raises(BadDataError, match="0 snippets"):
        check_snippets(replace(info, min_snippets=1), 0)


on_linux = pytest.mark.skipif(not memory_limit._STATM.exists(), reason="the ceiling needs Linux")


@on_linux
def test_the_ceiling_stops_an_allocation_and_goes_away():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_memory(64 << 20), pytest.raises(MemoryError):
        np.empty(256 << 20, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert np.empty(256 << 20, np.uint8).nbytes == 256 << 20


@on_linux
def test_ceilings_of_threads_and_nested_blocks_add_up():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_memory(64 << 20):
        one = resource.getrlimit(resource.RLIMIT_DATA)[0]
        with limited_memory(32 << 20):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == one + (32 << 20)
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == one
    threads = [threading.Thread(target=_hold_and_let_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def _hold_and_let_go():
    for _ in range(50):
        with limited_memory(64 << 20):
            pass


@on_linux
def test_the_ceiling_never_exceeds_what_the_user_set():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    own = 8 << 30
    resource.setrlimit(resource.RLIMIT_DATA, (own, before[1]))
    try:
        with limited_memory(1 << 40):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == own
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == own
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_importing_and_opening_is_quiet():
    """Nothing but results may reach stdout, whatever onnxruntime has to say."""
    program = (
        "from pathlib import Path; from stale_edge_runtime.model_file import read_model;"
        "from stale_edge_runtime.session import open_session, providers;"
        f"open_session(read_model(Path({str(DATA / 'tiny_baked.onnx')!r}))); providers()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(session.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == ""
