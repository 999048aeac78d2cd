"""A tiny training, and processes that are killed while they run it or share it.

Run as a program, it imports torch once and forks: `killed FOLDER KILLS SEED` (at chosen steps), `killed-anywhere FOLDER
KILLS SEED` (from outside, at any moment), `shared FOLDER PROCESSES` or `shared-actionformer FOLDER PROCESSES`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from stale_edge.data.dataset import TrainingVideo
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.model import STALE
from stale_edge.training.run import RunOptions, StepReport, TrainingRun
from stale_edge.training.settings import TrainingSettings
from stale_edge.training.trainer import Trainer
from stale_edge_runtime.formats.annotations import Instance

CLASSES = ("Archery", "Long jump", "Doing kickboxing", "Rock climbing")
WIDTH = 32
ANCHORS = 20
TEXT, LOOKS = np.random.default_rng(0).standard_normal((2, len(CLASSES), WIDTH)).astype(np.float32)


def video(index: int, epoch: int = 0) -> TrainingVideo:
    """A video of 40 s with one action that its features show plainly, but not as its text does."""
    rng = np.random.default_rng([index, epoch])
    features = 0.3 * rng.standard_normal((40, WIDTH)).astype(np.float32) + 1
    start = 5 + 3 * (index % 4)
    features[start : start + 12] += 2 * LOOKS[index % 4]
    instance = Instance(float(start), float(start + 12), CLASSES[index % 4])
    return TrainingVideo(f"video{index}", 40.0, (instance,), features)


class Videos:
    """A number of such videos; an endless source draws new ones for every epoch."""

    classes = CLASSES

    def __init__(self, count: int, *, endless: bool = False) -> None:
        self.count, self.endless = count, endless

    def __len__(self) -> int:
        return self.count

    def video(self, index: int, epoch: int) -> TrainingVideo:
        return video(index, epoch if self.endless else 0)


def training_run(source: Videos | None = None, *, dropout: bool = True) -> TrainingRun:
    torch.manual_seed(0)
    network = STALE(ModelConfig(feature_dim=WIDTH, anchors=ANCHORS, heads=2, mask_channels=16, text=None))
    for module in network.modules() if not dropout else ():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    source = source or Videos(4)
    return TrainingRun(network, torch.from_numpy(TEXT), source, Videos(4), {"videos": len(source)}, CLASSES)


SETTINGS = TrainingSettings(epochs=5, batch_size=4, learning_rate=1e-3, patience=None)
STEPS = 5 * 4
"""Steps of 14 videos in batches of 4, over all epochs."""


def trainer(
    folder: Path,
    taught: TrainingRun | None = None,
    settings: TrainingSettings = SETTINGS,
    options: RunOptions | None = None,
    processes: int = 1,
) -> Trainer:
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto")
    fabric.launch()
    folder.mkdir(exist_ok=True)
    return Trainer(fabric, taught or training_run(), settings, folder, options)


def killed(folder: Path, kills: int, seed: int) -> None:
    """An unbroken training in `folder/whole`, and one in `folder/killed` that dies after chosen steps."""
    source, rng = Videos(14, endless=True), random.Random(seed)

    def train(where: Path, last_step: int | None, options: RunOptions) -> None:
        def on_step(report: StepReport) -> None:
            if report.step == last_step:
                os.kill(os.getpid(), signal.SIGKILL)

        job = trainer(where, training_run(source), options=replace(options, on_step=on_step))
        if (where / "state.safetensors").exists():
            job.resume()
        job.fit()

    _wait(_fork(lambda: train(folder / "whole", None, RunOptions())))
    for step in [*sorted(rng.sample(range(1, STEPS + 1), kills)), None]:
        # States are written after every step, or after epochs only: then steps are lost and come again as they were.
        options = RunOptions(save_every_s=rng.choice((0.0, 1e9)), workers=rng.choice((0, 1)))
        status = os.waitpid(_fork(partial(train, folder / "killed", step, options)), 0)[1]
        expected = 0 if step is None else -signal.SIGKILL
        assert os.waitstatus_to_exitcode(status) == expected, f"step {step}: {status}"


def killed_anywhere(folder: Path, kills: int, seed: int) -> None:
    """The same, killed from outside at any moment."""
    source, rng = Videos(14, endless=True), random.Random(seed)

    def train(where: Path, pause_s: float) -> None:
        # States are written now and then: most kills lose some steps, and those must come again as they were.
        options = RunOptions(save_every_s=0.05, workers=rng.choice((0, 1)), on_step=lambda _: time.sleep(pause_s))
        job = trainer(where, training_run(source), options=options)
        if (where / "state.safetensors").exists():
            job.resume()
        job.fit()

    _wait(_fork(lambda: train(folder / "whole", 0.0)))
    points = sorted(rng.randint(0, STEPS - 1) for _ in range(kills))
    for point in points:
        child = _fork(lambda: train(folder / "killed", 0.02))
        ended = 0
        while not ended and _rows(folder / "killed" / "training.csv") <= point:
            time.sleep(0.002)
            ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            time.sleep(rng.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        # A machine that halts this process lets the training end first.
        assert os.waitstatus_to_exitcode(status) in {-signal.SIGKILL, 0}
    _wait(_fork(lambda: train(folder / "killed", 0.0)))


def shared(folder: Path, processes: int) -> None:
    """The same training by one process and by several, without dropout, which differs between processes.

    Seven videos in batches of four are shared unequally. Then with dropout by several: unbroken, and stopped after a
    step and resumed; and without it stopped and resumed by one.
    """
    uneven = partial(training_run, Videos(7), dropout=False)
    stop = RunOptions(max_minutes=0)
    _wait(_fork(lambda: trainer(folder / "one", uneven()).fit()))
    _together(processes, lambda: trainer(folder / "several", uneven(), processes=processes).fit())
    _together(processes, lambda: trainer(folder / "fewer", uneven(), options=stop, processes=processes).fit())
    _wait(_fork(lambda: _resumed_by_one(trainer(folder / "fewer", uneven()))))
    for name, options in (("whole", RunOptions()), ("broken", RunOptions(max_minutes=0))):
        _together(processes, partial(_fit, folder / name, options, processes, resume=False))
    _together(processes, partial(_fit, folder / "broken", RunOptions(), processes, resume=True))


def shared_actionformer(folder: Path, processes: int) -> None:
    """Two epochs of seven videos by one process and by several; targets hold fractions, and the loss a state."""
    from tests.stale_edge.test_actionformer_training import CONFIG, SETTINGS, run_of

    config, settings = replace(CONFIG, drop_path=0.0), replace(SETTINGS, epochs=2, drop_last=False)
    _wait(_fork(lambda: trainer(folder / "one", run_of(Videos(7), config), settings).fit()))
    several = partial(trainer, folder / "several", settings=settings, processes=processes)
    _together(processes, lambda: several(run_of(Videos(7), config)).fit())


def _resumed_by_one(job: Trainer) -> None:
    assert job.resume().startswith("2 processes trained so far, and 1 go on: the same videos")
    job.fit()


def _fit(folder: Path, options: RunOptions, processes: int, *, resume: bool) -> None:
    job = trainer(folder, training_run(Videos(8)), options=options, processes=processes)
    if resume:
        job.resume()
    job.fit()


def _together(processes: int, work) -> None:
    """Do the same in several processes that find each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def part(rank: int) -> None:
        sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes))
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **sizes, **place})
        work()

    children = [_fork(lambda rank=rank: part(rank)) for rank in range(processes)]
    for child in children:
        _wait(child)


def _rows(path: Path) -> int:
    try:
        return path.read_text().count("\n") - 1
    except FileNotFoundError:
        return -1


def _fork(work) -> int:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 (nothing may return into the parent's code)
            traceback.print_exc()
        os._exit(code)
    return child


def _wait(child: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(f"a training ended with {status}")


if __name__ == "__main__":
    import lightning_fabric  # noqa: F401 (once, before the forks)

    torch.set_num_threads(1)
    mode, folder, *numbers = sys.argv[1:]
    modes = {
        "killed": killed,
        "killed-anywhere": killed_anywhere,
        "shared": shared,
        "shared-actionformer": shared_actionformer,
    }
    modes[mode](Path(folder), *map(int, numbers))
