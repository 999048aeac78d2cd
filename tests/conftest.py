"""Fixtures that all test folders share. Torch is imported inside them: the runtime's tests run without it."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stale_edge.checkpoint import Checkpoint
    from stale_edge.networks.stale.config import ModelConfig

# Machines are shared: how long an example takes says nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# A shell without job control starts background jobs with Ctrl-C ignored, and their children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Clock:
    """A stand-in for the module `time`: time passes only when something sleeps, or with every look at the clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.tick_s = 0.0

    def perf_counter(self) -> float:
        self.now_s += self.tick_s
        return self.now_s

    def perf_counter_ns(self) -> int:
        return round(self.perf_counter() * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


TINY_CLASSES = ("Archery", "Long jump", "Doing kickboxing", "Rock climbing")


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run all tests in an empty folder: none finds or leaves files in `models/` or `demo/` of the project."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with contextlib.chdir(folder):
        yield
    left = [path.name for path in folder.iterdir() if path.name != ".hypothesis"]
    assert not left, f"tests left {', '.join(left)} in the working folder"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the benchmark looks at, in place of the machine's."""
    from stale_edge_runtime.bench import ceiling, decode_cost, measure

    clock = Clock()
    for module in (ceiling, decode_cost, measure):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden numbers and real annotations, where there is one."""
    folder = Path(os.environ.get("STALE_EDGE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("needs the shared/ folder beside the project (or $STALE_EDGE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """Sizes of a network that exports in seconds."""
    from stale_edge.networks.stale.config import ModelConfig, TextConfig

    text = TextConfig(width=16, layers=2, heads=2, hidden=32)
    return ModelConfig(feature_dim=32, anchors=10, heads=2, mask_channels=16, text=text)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_config: ModelConfig) -> Checkpoint:
    """A tiny network with four classes, passed off as converted."""
    from stale_edge.checkpoint import Checkpoint
    from stale_edge.seeded import seeded_network

    origin = {"source": "published", "sha256": "0" * 64}
    return Checkpoint(seeded_network(tiny_config, 3), TINY_CLASSES, origin)


@pytest.fixture(scope="session")
def tiny_file(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as a checkpoint file."""
    from stale_edge.checkpoint import save_checkpoint

    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_checkpoint(path, tiny_checkpoint)
    return path


@pytest.fixture
def brief_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure what a product reaches in a moment: right enough for tests that do not look at it."""
    from functools import partial

    from stale_edge_runtime.bench import ceiling, explain, runner

    brief = partial(ceiling.measure_ceiling, seconds=0.02)
    monkeypatch.setattr(runner, "measure_ceiling", brief)
    monkeypatch.setattr(explain, "measure_ceiling", brief)
    monkeypatch.setattr(explain, "measure_alone", partial(explain.measure_alone, seconds=0))
    monkeypatch.setattr(explain, "SECONDS", 0)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a `stale-edge` command line in this process; gives exit code, stdout and stderr."""
    from stale_edge.cli.app import run

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser for all tests that look at pages."""
    from tests.browsing import start

    found = start(tmp_path_factory.mktemp("profile"))
    yield found
    found.quit()
