"""Work in several processes: every item has one result, whatever another one does to its process."""

from __future__ import annotations

import os
import resource
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from stale_edge_runtime import jobs
from stale_edge_runtime.errors import BadDataError, InputMissingError
from stale_edge_runtime.jobs import Progress, Result, longest_first, run_jobs


def squares(folder: Path):
    (folder / f"worker-{os.getpid()}").touch()

    def task(item, progress):
        if item == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if item == "die once" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "die of memory":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "allocate":
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
            bytes(1 << 31)
        if item == "hang":
            time.sleep(60)
        if item == "missing":
            raise InputMissingError("x.mp4", "no such file", "check the path")
        os.write(1, b"what native code says")
        progress(1, 2)
        progress(2, None)
        return {"square": item * item if isinstance(item, int) else 0}

    return task


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import test_jobs

    return partial(test_jobs.squares, tmp_path)


def results(events):
    return {event.index: event.value for event in events if isinstance(event, Result)}


def test_each_item_has_its_result(make, tmp_path):
    events = list(run_jobs(make, list(range(7)), 2))
    assert results(events) == {n: {"square": n * n} for n in range(7)}
    assert [event for event in events if isinstance(event, Progress) and event.index == 3] == [
        Progress(3, 1, 2),
        Progress(3, 2, None),
    ]
    assert len(list(tmp_path.glob("worker-*"))) == 2


def test_a_death_and_an_error_are_of_their_item(make):
    found = results(run_jobs(make, [2, "die", "missing", 3], 1))
    assert found[0] == {"square": 4}
    assert found[3] == {"square": 9}
    assert isinstance(found[1], BadDataError)
    assert "die: ended the process that worked on it (SIGSEGV)" in str(found[1])
    assert isinstance(found[2], InputMissingError)


def test_a_killed_worker_has_a_second_try(make):
    assert results(run_jobs(make, ["die once", 3], 1)) == {0: {"square": 0}, 1: {"square": 9}}


def test_memory_that_is_not_there_is_a_failure_of_its_item(make):
    found = results(run_jobs(make, ["die of memory", "allocate", 3], 2))
    assert "(SIGKILL); the machine may lack memory for it, also at the second try: give fewer --jobs" in str(found[0])
    assert "memory: there is not enough" in str(found[1])
    assert found[2] == {"square": 9}


def test_the_longest_come_first_in_each_block():
    lengths = [1, 9, 5, 5, 2]
    assert longest_first(lengths) == [1, 2, 3, 4, 0]
    assert longest_first(lengths, 2) == [1, 0, 2, 3, 4]
    assert longest_first([]) == []


def test_silence_ends_a_worker(make, monkeypatch):
    monkeypatch.setattr(jobs, "SILENCE_S", 1.0)
    found = results(run_jobs(make, ["hang", 3], 1))
    assert "hang: took more than 1 s" in str(found[0])
    assert found[1] == {"square": 9}


def test_nothing_to_do():
    assert list(run_jobs(squares, [], 3)) == []
