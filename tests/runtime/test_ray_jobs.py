"""Work on a Ray cluster: the results of one machine, whatever a worker or a machine does."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from stale_edge_runtime import ray_jobs
from stale_edge_runtime.errors import InputMissingError, UnavailableError
from stale_edge_runtime.jobs import Result, run_jobs
from stale_edge_runtime.ray_jobs import LOCAL, RayCluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


def squares(folder: Path, pause_s: float):
    (folder / f"opened-{os.getpid()}").touch()

    def task(item, progress):
        time.sleep(pause_s)
        with (folder / "started.txt").open("a") as log:
            log.write(f"{item}\n")
        if item == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "end the actor":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        if item == "missing":
            raise InputMissingError("x.mp4", "no such file", "check the path")
        if item == "allocate":
            raise MemoryError
        progress(1, 2)
        return {"square": item * item}

    return task


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    import test_ray_jobs

    return partial(test_ray_jobs.squares, tmp_path)


def results(events):
    found = [event for event in events if isinstance(event, Result)]
    assert len({event.index for event in found}) == len(found), "a result came twice"
    return {
        event.index: str(event.value) if isinstance(event.value, Exception) else event.value
        for event in sorted(found, key=lambda event: event.index)
    }


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match=r"needs ray, which is not installed; pip install 'stale-edge\[ray\]'"):
        list(RayCluster(LOCAL)(partial(squares, Path(), 0.0), [1]))


def test_nothing_to_do_needs_no_cluster():
    assert list(RayCluster("nowhere:1")(partial(squares, Path(), 0.0), [])) == []


@pytest.mark.parametrize(("items", "actors"), [(1, 1), (7, 2), (64, 1), (1000, 3), (200_001, 2), (50_000, 1000)])
def test_groups_hold_each_item_once_and_share_the_longest(items, actors):
    dealt = ray_jobs.groups(items, actors)
    assert sorted(index for group in dealt for index in group) == list(range(items))
    assert len(dealt) <= min(items, ray_jobs.MAX_GROUPS, ray_jobs.GROUPS_OF_AN_ACTOR * actors) + actors
    assert {len(group) for group in dealt[: len(dealt) // 2]} <= {len(dealt[0])}
    assert max(min(group) for group in dealt[:actors]) < len(dealt[:actors])


@pytest.mark.ray
class TestRay:
    @pytest.fixture(autouse=True)
    def _ray(self):
        pytest.importorskip("ray", reason="needs the extra ray: make test-ray")

    def test_results_are_those_of_one_machine(self, make, tmp_path):
        items = [2, "die", "missing", "allocate", *range(20)]
        on_ray = results(RayCluster(LOCAL, 2)(partial(make, 0.0), items))
        assert on_ray == results(run_jobs(partial(make, 0.0), items, 1))
        assert on_ray[5] == {"square": 1}
        assert "ended the process that worked on it (SIGKILL)" in on_ray[1]

    def test_an_item_that_ends_its_actor_each_time_is_a_failure(self, make, monkeypatch):
        monkeypatch.setattr(ray_jobs, "GROUPS_OF_AN_ACTOR", 1)
        found = results(RayCluster(LOCAL, 1)(partial(make, 0.0), [2, "end the actor", 3]))
        assert "end the actor: was lost with the process or machine that worked on it, 4 times" in found[1]
        assert (found[0], found[2]) == ({"square": 4}, {"square": 9})

    def test_an_address_without_a_cluster(self, make):
        with pytest.raises(UnavailableError, match=r"--ray 127\.0\.0\.1:1: is no cluster that can be reached"):
            list(RayCluster("127.0.0.1:1")(partial(make, 0.0), [1]))

    def test_a_machine_that_is_lost_loses_and_doubles_nothing(self, make, tmp_path, monkeypatch):
        import ray
        from ray.cluster_utils import Cluster

        folder = tempfile.TemporaryDirectory(prefix="ray-")  # short: sockets are in it
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setenv("RAY_TMPDIR", folder.name)
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)  # by the head
            second = cluster.add_node(**NODE)
            cluster.wait_for_nodes()
            events, found = RayCluster(cluster.address, 2)(partial(make, 0.3), list(range(24))), []
            for event in events:
                found.append(event)
                if len(found) == 6:
                    assert len(list(tmp_path.glob("opened-*"))) == 2, "both machines work"
                    cluster.remove_node(second, allow_graceful=False)
            assert results(found) == {n: {"square": n * n} for n in range(24)}
        finally:
            ray.shutdown()
            cluster.shutdown()
            folder.cleanup()
