"""Outputs: whole or not at all, through links, and never in place of a device."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from stale_edge_runtime.errors import CannotWriteError
from stale_edge_runtime.formats.files import atomic_path, check_target, write_bytes


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
