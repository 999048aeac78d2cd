"""Outputs: whole or not at all, through links, and never in place of a device."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stale_edge_runtime.errors import CannotWriteError
from stale_edge_runtime.formats import files
from stale_edge_runtime.formats.files import atomic_path, check_target, together, write_bytes, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupted_write(target):
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError


def test_a_fifo_gets_the_bytes_and_stays(tmp_path):
    fifo, got = tmp_path / "pipe", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    write_bytes(fifo, b"result")
    reader.join(10)
    assert got == [b"result"]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    assert names(tmp_path) == ["pipe"]


def test_a_device_stays_a_device(tmp_path):
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null.write_bytes(b"")
    except OSError as error:
        pytest.skip(f"no device node can be made here: {error}")
    check_target(null)
    write_bytes(null, b"result")
    assert stat.S_ISCHR(null.lstat().st_mode)
    assert names(tmp_path) == ["null"]


def test_a_failed_write_sends_nothing_to_a_fifo(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with pytest.raises(ZeroDivisionError):
        interrupted_write(fifo)
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert os.read(descriptor, 10) == b""
    finally:
        os.close(descriptor)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "results.json", tmp_path / "latest.json"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert names(tmp_path / "real") == ["results.json"]


def test_a_link_to_nothing_makes_the_file_it_names(tmp_path):
    link = tmp_path / "latest.json"
    link.symlink_to(tmp_path / "first.json")
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "first.json").read_bytes() == b"new"


def test_a_link_into_a_missing_folder_is_refused(tmp_path):
    link = tmp_path / "latest.json"
    link.symlink_to(tmp_path / "gone" / "first.json")
    with pytest.raises(CannotWriteError, match="does not exist"):
        write_bytes(link, b"new")


def test_a_socket_is_refused_and_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(CannotWriteError, match="is a socket"):
            write_bytes(Path("s"), b"result")
        assert stat.S_ISSOCK(Path("s").lstat().st_mode)


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    target = tmp_path / ("厅" * 85)  # 255 bytes
    write_bytes(target, b"result")
    assert target.read_bytes() == b"result"


def test_a_longer_name_is_one_error(tmp_path):
    with pytest.raises(CannotWriteError):
        write_bytes(tmp_path / ("厅" * 86), b"result")


def test_a_disk_that_cannot_unlink_does_not_undo_a_write(tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "unlink", fail)
    write_bytes(tmp_path / "results.json", b"result")
    assert (tmp_path / "results.json").read_bytes() == b"result"


KILLED = """
import os, signal, sys
from pathlib import Path
from stale_edge_runtime.formats.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(bytes(1000))
    print("writing", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("old")
    others = [tmp_path / name for name in (".out.json.abcdefgh.tmp", ".hidden", "a.stale-edge.tmp")]
    for other in others:
        other.write_text("not ours")
    killed = subprocess.run([sys.executable, "-c", KILLED, target, "die"], check=False, stdout=subprocess.PIPE)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".out.json.*.stale-edge.tmp"))) == 1
    words = [sys.executable, "-c", KILLED, str(tmp_path / "alive"), "wait"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive:
        assert alive.stdout.readline() == b"writing\n"
        assert not list(tmp_path.glob(".out.json.*.stale-edge.tmp"))  # by the process that writes another file
        write_text(tmp_path / "third", "new")
        assert len(list(tmp_path.glob(".alive.*.stale-edge.tmp"))) == 1  # which is alive
        alive.stdin.close()
        assert alive.wait() == 0
    assert (tmp_path / "alive").stat().st_size == 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["out.json", "alive", "third", *(other.name for other in others)]
    )
    assert target.read_text() == "old"


def written_together(*targets, then=lambda: None):
    with together():
        for target in targets:
            write_text(target, "newer")
        then()


def test_outputs_of_one_command_are_all_or_none(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("old")
    with together():
        write_text(first, "new")
        write_text(second, "new")
        assert first.read_text() == "old"
        assert not second.exists()
    assert first.read_text() == second.read_text() == "new"
    with pytest.raises(ZeroDivisionError):
        written_together(first, then=lambda: 1 / 0)
    with pytest.raises(CannotWriteError):
        written_together(first, tmp_path / "nowhere" / "x")
    assert first.read_text() == "new"
    assert names(tmp_path) == ["first", "second"]
    write_text(first, "alone")
    assert first.read_text() == "alone"


def test_an_output_that_cannot_take_its_place_says_what_was_written_before(tmp_path):
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    with pytest.raises(CannotWriteError, match=r"second: cannot be written .*; written before it: .*first$"):
        written_together(first, second, third, then=second.mkdir)
    assert first.read_text() == "newer"
    assert names(tmp_path) == ["first", "second"]


def test_a_folder_in_use_is_kept_and_one_that_was_left_is_removed(tmp_path):
    left = tmp_path / ".folder.abcd1234.stale-edge.tmp"
    (left / "below").mkdir(parents=True)
    (left / "below" / "x").write_bytes(b"half")
    (tmp_path / ".link.abcd1234.stale-edge.tmp").symlink_to(tmp_path / "elsewhere")
    with files.temporary_folder(tmp_path) as one:
        (one / "x").write_bytes(b"1")
        files._CLEANED.clear()
        with files.temporary_folder(tmp_path) as two:
            assert (one / "x").exists()
            assert two != one
    assert [path.name for path in tmp_path.iterdir()] == [".link.abcd1234.stale-edge.tmp"]
