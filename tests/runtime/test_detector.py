"""The detector: features in, detections out, on real (tiny) files."""

from __future__ import annotations

import pickle
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stale_edge_runtime
from stale_edge_runtime import Detector, decode, detector, memory_limit
from stale_edge_runtime.contract import MAX_SNIPPETS
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError, UsageError
from stale_edge_runtime.model_file import parse_model

DATA = Path(__file__).parents[1] / "data"
BAKED, OPEN = DATA / "tiny_baked.onnx", DATA / "tiny_open.onnx"
NAMES = ("archery", "long jump", "playing kora")


@pytest.fixture(scope="module")
def baked() -> Detector:
    return Detector(BAKED)


def video(snippets: int, seed: int = 0) -> np.ndarray:
    """Features that change slowly, with one action planted in the middle third."""
    rng = np.random.default_rng([seed, snippets])
    features = np.repeat(rng.standard_normal((snippets // 5 + 1, 8)), 5, axis=0)[:snippets]
    features[snippets // 3 : 2 * snippets // 3] += rng.standard_normal(8) * 2
    return features.astype(np.float32)


def text(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)


@pytest.mark.parametrize("snippets", [1, 2, 3, 99, 100, 101, 257, 512])
def test_detections_are_those_of_the_outputs(baked, snippets):
    features = video(snippets)
    outputs = baked.forward(features)
    assert outputs["class_logits"].shape == (snippets, 4)
    assert outputs["masks"].shape == (10, snippets)
    assert outputs["video_logits"].shape == (3,)
    found = baked.detect(features, 60.0)
    assert found == decode(*outputs.values(), 60.0, classes=NAMES)
    for detection in found:
        assert 0 <= detection.start_s < detection.end_s <= 60.0
        assert detection.label in NAMES
        assert 0 <= detection.score <= 1


def test_something_is_found(baked):
    assert baked.detect(video(100))
    assert baked.classes == NAMES
    assert baked.provider == "cpu"
    assert baked.info.untrained


def test_durations_come_from_the_caller_then_the_file_then_snippets(baked):
    features = video(50)
    seconds = baked.detect(features)  # the file says 2 s a snippet
    assert seconds == baked.detect(features, 100.0)
    units = Detector(OPEN, text_embeddings=text(3), classes=NAMES).detect(features)
    assert units == Detector(OPEN, text_embeddings=text(3), classes=NAMES).detect(features, 50.0)
    assert max(found.end_s for found in seconds) <= 100
    assert max(found.end_s for found in units) <= 50


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble])
def test_any_float_type_gives_the_same(baked, dtype):
    features = video(40).astype(np.float16)  # values that every type can hold
    assert baked.detect(features.astype(dtype)) == baked.detect(features)


def test_layouts_in_memory_do_not_matter(baked):
    features = video(40)
    before = features.copy()
    wide = np.zeros((80, 16), np.float32)
    wide[::2, ::2] = features
    assert baked.detect(wide[::2, ::2]) == baked.detect(np.asfortranarray(features)) == baked.detect(features)
    np.testing.assert_array_equal(features, before)


@given(st.lists(st.integers(1, 120), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_ragged_batches_equal_single_runs_in_any_order(lengths, random):
    found = Detector(BAKED)
    videos = [video(length, seed) for seed, length in enumerate(lengths)]
    durations = [3.0 * length for length in lengths]
    single = [found.detect(features, duration) for features, duration in zip(videos, durations, strict=True)]
    assert found.detect_batch(videos, durations) == single
    order = list(range(len(videos)))
    random.shuffle(order)
    assert found.detect_batch([videos[i] for i in order], [durations[i] for i in order]) == [single[i] for i in order]


def test_batches_without_durations_and_of_nothing(baked):
    assert baked.detect_batch([video(9), video(5)]) == [baked.detect(video(9)), baked.detect(video(5))]
    assert baked.detect_batch([]) == []
    with pytest.raises(UsageError, match="1 for 2 videos"):
        baked.detect_batch([video(9), video(5)], [1.0])


def test_external_verdicts_and_published_decoding_are_passed_on(baked):
    features = video(100)
    outputs = baked.forward(features)
    assert {found.label for found in baked.detect(features, external=("surfing", 1.0))} == {"surfing"}
    assert baked.detect(features, 9.0, compat="stale") == decode(*outputs.values(), 9.0, classes=NAMES, compat="stale")


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_open_vocabularies_are_chosen_at_construction_or_call(rows):
    names = tuple(f"class {index}" for index in range(rows))
    at_construction = Detector(OPEN, text_embeddings=text(rows), classes=names)
    at_call = Detector(OPEN)
    features = video(60)
    found = at_construction.detect(features)
    assert at_construction.classes == names
    assert at_call.classes == ()
    assert found == at_call.detect(features, text_embeddings=text(rows).astype(np.float64), classes=list(names))
    assert at_call.forward(features, text_embeddings=text(rows))["video_logits"].shape == (rows,)
    other = at_construction.detect(features, text_embeddings=text(2, 5), classes=("x", "y"))
    assert {detection.label for detection in other} <= {"x", "y"}
    assert at_construction.detect(features) == found


def test_a_vocabulary_that_does_not_fit_is_refused(baked):
    features = video(10)
    opened = Detector(OPEN)
    cases = (
        (lambda: opened.detect(features), "open-vocabulary file; give it text_embeddings and the names"),
        (lambda: opened.forward(features), "open-vocabulary file"),
        (lambda: opened.detect(features, text_embeddings=text(2)), "open-vocabulary file"),
        (lambda: Detector(OPEN, classes=NAMES), "open-vocabulary file"),
        (lambda: Detector(OPEN, text_embeddings=text(2), classes=NAMES), "3 different names for 2 text embeddings"),
        (lambda: Detector(OPEN, text_embeddings=text(2), classes=("a", "a")), "1 different names for 2"),
        (lambda: Detector(BAKED, text_embeddings=text(3), classes=NAMES), "has its classes baked in; export it with"),
        (lambda: baked.detect(features, classes=NAMES), "has its classes baked in"),
        (lambda: baked.forward(features, text_embeddings=text(3)), "has its classes baked in"),
    )
    for call, message in cases:
        with pytest.raises(UsageError, match=message):
            call()
    for embeddings, message in (
        (np.zeros((3, 9)), r"is \[3, 9\], not \[text rows, 8\]"),
        (np.full((3, 8), np.nan), "3 of 3 text rows hold NaN"),
        (np.zeros((0, 8)), "holds no text rows"),
    ):
        with pytest.raises(BadDataError, match=message):
            Detector(OPEN, text_embeddings=embeddings, classes=NAMES)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((0, 8)), "holds no snippets"),
        (np.zeros((5, 7)), r"is \[5, 7\], not \[snippets, 8\]"),
        (np.zeros((8, 30)), "published layout"),
        (np.zeros(8), "1 axes"),
        (np.zeros((1, 5, 8)), "3 axes"),
        (np.zeros((5, 8), int), "not floats"),
        (np.full((5, 8), "a"), "not floats"),
        (np.full((5, 8), None), "not floats"),
        ([[1, 2], [3, 4]], "not floats"),
        (np.full((5, 8), np.nan), "5 of 5 snippets hold NaN or infinity, the first is snippet 0"),
        (np.full((5, 8), 1e39), "beyond float32"),
        (np.full((5, 8), 3e38), "gives NaN or infinity in class_logits for features up to 3e.38"),
        (np.zeros((513, 8)), "513 snippets, the model takes at most 512 in one piece; run it in windows with --window"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_features_that_cannot_be_used_are_refused(baked, features, message):
    with pytest.raises(BadDataError, match=message):
        baked.detect(features)


def test_outputs_of_another_shape_than_announced_are_refused(tmp_path):
    content = BAKED.read_bytes()
    assert content.count(b"keepdims\x18\0") == 1  # of the mean over snippets
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(b"keepdims\x18\0", b"keepdims\x18\1"))
    with pytest.raises(BadDataError, match=r"gives video_logits \[1, 0, 4\], not \[1, 3\]"):
        Detector(path).detect(video(9))


@pytest.mark.parametrize("duration", [0.0, -1.0, np.nan, np.inf])
def test_durations_that_are_none_are_refused(baked, duration):
    with pytest.raises(BadDataError, match="duration_s"):
        baked.detect(video(9), duration)


def test_files_providers_and_threads_that_cannot_be_had(tmp_path):
    with pytest.raises(InputMissingError, match="no such file"):
        Detector(tmp_path / "missing.onnx")
    with pytest.raises(BadDataError, match="not an ONNX file"):
        Detector(Path(__file__))
    with pytest.raises(UsageError, match="is not known"):
        Detector(BAKED, provider="tpu")
    with pytest.raises(UnavailableError, match="threads"):
        Detector(BAKED, threads=10_000)
    with pytest.raises(FileNotFoundError):
        Detector(str(tmp_path / "missing.onnx"))


def test_kinds_that_cannot_detect_are_named(monkeypatch):
    monkeypatch.setattr(detector, "_CURES", {"baked": "use another"})
    with pytest.raises(UsageError, match="is a baked file, which cannot detect; use another"):
        Detector(BAKED)


def test_the_file_may_go_once_it_is_open(tmp_path):
    path = tmp_path / "model.onnx"
    shutil.copy(BAKED, path)
    found = Detector(path)
    path.unlink()
    assert found.detect(video(30)) == Detector(BAKED).detect(video(30))


def test_threads_may_share_a_detector(baked):
    videos = [video(length) for length in range(1, 60)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(baked.detect, videos)) == baked.detect_batch(videos)


def test_memory_is_predicted_and_refused_before_the_run():
    limited = Detector(BAKED, max_memory_mb=100)
    assert limited.detect(video(100)) == Detector(BAKED, max_memory_mb=None).detect(video(100))
    needed = limited.predict_memory_mb(512)
    assert 80 < limited.predict_memory_mb(1) < limited.predict_memory_mb(100) < needed
    with pytest.raises(BadDataError, match=rf"512 snippets need about {needed:,.0f} MiB, 85 are allowed; .*--window"):
        Detector(BAKED, max_memory_mb=85).detect(video(512))


def test_the_longest_video_of_the_published_size_is_allowed_by_default(monkeypatch):
    """What the default must not refuse: 8192 snippets of width 512, 200 classes, one piece."""
    found = Detector(BAKED)
    monkeypatch.setattr(found, "_file_bytes", 40 << 20)
    monkeypatch.setattr(found, "_block", MAX_SNIPPETS)
    object.__setattr__(found.info, "feature_dim", 512)
    object.__setattr__(found.info, "anchors", 100)
    assert 2000 < found._predict_mb(MAX_SNIPPETS, 200) < detector.MAX_MEMORY_MB


# VmHWM, because what getrusage tells of a child starts at the size of its parent.
GREEDY = """
import re, sys
from pathlib import Path
import numpy as np
from stale_edge_runtime import Detector
from stale_edge_runtime.errors import BadDataError
try:
    Detector(sys.argv[1], max_memory_mb=float(sys.argv[2])).detect(np.zeros((3, 8)))
    print("answered", end=" ")
except BadDataError as error:
    print("refused", end=" ")
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(not memory_limit._STATM.exists(), reason="the ceiling needs Linux")
@pytest.mark.parametrize(("values", "outcome"), [(1 << 29, "refused"), (1 << 36, "refused"), (1 << 20, "answered")])
def test_a_graph_that_asks_for_gigabytes_does_not_get_them(tmp_path, values, outcome):
    """`greedy.onnx` is the tiny network plus a constant of as many values as one number in the file says."""
    placeholder = (123_456_789).to_bytes(8, "little")
    content = (DATA / "greedy.onnx").read_bytes()
    assert content.count(placeholder) == 1
    path = tmp_path / "greedy.onnx"
    path.write_bytes(content.replace(placeholder, values.to_bytes(8, "little")))
    environment = {"PYTHONPATH": str(Path(stale_edge_runtime.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", GREEDY, str(path), "256"], capture_output=True, text=True, env=environment, check=True
    )
    said, peak_mb = done.stdout.split()
    assert said == outcome
    assert int(peak_mb) < 600


def test_a_thousand_videos_of_fifty_lengths_do_not_grow_memory(baked):
    lengths = np.random.default_rng(0).permutation(np.repeat(np.arange(4, 204, 4), 20))
    for length in range(4, 204, 4):
        baked.forward(video(length))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for length in lengths:
        baked.forward(video(int(length)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # kB


def test_a_pickled_detector_opens_its_file_again():
    names = ("a", "b")
    detector = Detector(OPEN, text_embeddings=text(2), classes=names, max_memory_mb=1000.0)
    copy = pickle.loads(pickle.dumps(detector))
    features = video(60)
    assert copy.classes == names
    assert copy.detect(features, 60.0) == detector.detect(features, 60.0)
    assert copy.predict_memory_mb(60) == detector.predict_memory_mb(60)


def test_a_detector_of_a_file_that_is_nowhere_is_pickled_with_it(tmp_path):
    detector = Detector(parse_model(BAKED.read_bytes(), tmp_path / "not-written.onnx"))
    copy = pickle.loads(pickle.dumps(detector))
    features = video(60)
    assert copy.path == detector.path == tmp_path / "not-written.onnx"
    assert copy.detect(features, 60.0) == detector.detect(features, 60.0) == Detector(BAKED).detect(features, 60.0)


def test_the_package_lists_what_it_offers():
    import stale_edge_runtime

    assert dir(stale_edge_runtime) == ["Detection", "Detector", "StaleEdgeError", "decode"]
