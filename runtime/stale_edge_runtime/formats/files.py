"""Reading and writing files: whole or not at all.

Every output of stale-edge goes through `atomic_write`, so that after a crash at any moment the target is the
old file or the new one, never a torn one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stale_edge_runtime.errors import BadDataError, CannotWriteError, UsageError, reading, writing, writing_error
from stale_edge_runtime.formats.file_kinds import GIT_LFS, HEAD_BYTES, LFS_POINTER, Wanted, misplaced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_JSON_BYTES = 1 << 30
TEMPORARY_SUFFIX = ".stale-edge.tmp"
"""End of the names of unfinished outputs; what a killed process leaves is removed by the next that writes beside it."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character in JSON; alone it is no text."""
_ORPHAN = re.compile(r"\..*\.[a-z0-9_]{8}" + re.escape(TEMPORARY_SUFFIX), re.DOTALL)
_CLEANED: set[tuple[int, Path]] = set()


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` that replaces it when the block ends without an error.

    For writers that want a path. The temporary file exists, empty, when the block begins. A symbolic link is followed:
    the file that it names is replaced. A device or FIFO is never replaced: it gets the bytes when the block ends.
    Within `together` the target is replaced when that ends.

    Args:
        target: Target of the result; its folder must exist.

    Yields:
        The path to write to.

    Raises:
        CannotWriteError: The folder is missing or not writable, or the target is a folder, a disk or a socket.
        StorageError: The disk is full or failed.
    """
    target = Path(target)
    with writing(target):
        special = _is_special(target)
        replaced = target if special else Path(os.path.realpath(target))
        if not special and not replaced.parent.is_dir():
            folder = replaced.parent if target.is_symlink() else target.parent
            raise CannotWriteError(target, f"folder {folder} does not exist", "make the folder first")
        if not special:
            _remove_orphans(replaced.parent)
        lock, temporary = _locked_temporary(_temporary_prefix(target), None if special else replaced.parent)
    output = _Output(target, None if special else replaced, temporary, lock)
    group = _GROUP.get()
    kept = False
    try:
        with writing(target):
            yield temporary
            output.finish()
            if group is None:
                output.put()
            else:
                group.append(output)
                kept = True
    finally:
        if not kept:
            output.discard()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Write several outputs, all or none: targets are replaced when the block ends, and none where it fails.

    Raises:
        CannotWriteError: A target cannot be replaced; the message names those that were replaced before it.
        StorageError: The disk is full or failed, likewise.
    """
    group: list[_Output] = []
    token = _GROUP.set(group)
    done: list[_Output] = []
    try:
        yield
        for output in group:
            try:
                output.put()
            except OSError as error:
                failed = writing_error(output.target, error)
                before = ", ".join(str(one.target) for one in done)
                cure = f"{failed.cure}; written before it: {before}" if done else failed.cure
                raise type(failed)(failed.subject, failed.problem, cure) from error
            done.append(output)
    finally:
        _GROUP.reset(token)
        for output in group:
            output.discard()


@dataclass(frozen=True)
class _Output:
    """A finished or unfinished output and its place."""

    target: Path
    """Path that the user named."""
    replaced: Path | None
    """File that is replaced; None for a device or FIFO, which gets the bytes."""
    temporary: Path
    """File that is written to."""
    lock: int
    """Descriptor that keeps other processes from taking it for an orphan."""

    def finish(self) -> None:
        """Make what was written durable, with the mode that the target has."""
        if self.replaced is not None:
            _flush_to_disk(self.temporary)
            self.temporary.chmod(_default_mode(self.replaced))

    def put(self) -> None:
        """Put the result in its place."""
        if self.replaced is None:
            with self.temporary.open("rb") as content, self.target.open("wb") as sink:
                shutil.copyfileobj(content, sink)
        else:
            self.temporary.replace(self.replaced)
            _flush_folder(self.replaced.parent)

    def discard(self) -> None:
        """Remove what is left: nothing after a rename. A disk that fails here does not undo what was written."""
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.close(self.lock)


_GROUP: ContextVar[list[_Output] | None] = ContextVar("outputs written together", default=None)


def _locked_temporary(prefix: str, folder: Path | None) -> tuple[int, Path]:
    """Make a temporary file that is locked until its descriptor is closed, as by the end of the process."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=TEMPORARY_SUFFIX, dir=folder)
        try:
            _lock(descriptor, wait=True)
            if os.path.exists(name):  # noqa: PTH110 (no other process took it for an orphan before it was locked)
                return descriptor, Path(name)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                Path(name).unlink(missing_ok=True)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give an empty hidden folder inside another one, to write many files into before they are moved to their places.

    It is removed when the block ends; where a process is killed in the block, by the next one that writes beside it.

    Args:
        parent: Exists.

    Raises:
        CannotWriteError: It cannot be made.
        StorageError: The disk is full or failed.
    """
    _remove_orphans(parent)
    lock, path = -1, None
    try:
        path = Path(tempfile.mkdtemp(prefix=".folder.", suffix=TEMPORARY_SUFFIX, dir=parent))
        lock = os.open(path, os.O_RDONLY)
        _lock(lock, wait=True)
    except OSError as error:
        _remove_folder(lock, path)
        raise writing_error(parent, error) from error
    try:
        yield path
    finally:
        _remove_folder(lock, path)


def _remove_folder(lock: int, path: Path | None) -> None:
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
    if lock >= 0:
        os.close(lock)


def _remove_orphans(folder: Path) -> None:
    """Remove temporary files and folders of ours that nobody holds, once a process; killed processes left them."""
    if (os.getpid(), folder) in _CLEANED:
        return
    _CLEANED.add((os.getpid(), folder))
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry) for entry in entries if _ORPHAN.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_orphan(path)


def _remove_orphan(path: Path) -> None:
    """Remove a temporary file or folder.

    Raises:
        OSError: A process holds it, it is something else, or it cannot be removed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _lock(descriptor, wait=False)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> None:
    """Lock a file for as long as it is open.

    Raises:
        OSError: Another one holds it, or the system has no such locks, and `wait` is false.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError) as error:
        if not wait:
            raise OSError(errno.ENOLCK, "not free") from error


def _is_special(target: Path) -> bool:
    """Tell whether `target` is a device or FIFO, which takes bytes and must never be replaced.

    Raises:
        CannotWriteError: It is a folder, a disk or a socket, which take none.
        OSError: It cannot be looked at.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return False
    for is_kind, kind in ((stat.S_ISDIR, "folder"), (stat.S_ISBLK, "disk"), (stat.S_ISSOCK, "socket")):
        if is_kind(mode):
            raise CannotWriteError(target, f"is a {kind}", "name a file")
    return not stat.S_ISREG(mode)


def _temporary_prefix(target: Path) -> str:
    """Hidden name that begins like the target's and is never longer, in bytes, than a file system allows."""
    return f".{os.fsencode(target.name)[:80].decode(errors='ignore')}."


def make_folder(path: Path) -> None:
    """Make a folder, and those that it is in; one that is there already stays as it is.

    Raises:
        CannotWriteError: It cannot be made: a file is in its place, or nobody may write there.
        StorageError: The disk is full or failed.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise CannotWriteError(path, f"cannot be written ({error.strerror})", "name a folder with -o") from error
    except OSError as error:
        raise writing_error(path, error) from error


def check_target(target: Path, inputs: Iterable[Path] = ()) -> None:
    """Find out before long work that a result could not be written; nothing is left or changed.

    Args:
        target: Target of a later result.
        inputs: Files that are read for it; writing over one of them is refused.

    Raises:
        UsageError: The target is one of the inputs.
        CannotWriteError: The folder is missing or not writable, or the target is a folder.
        StorageError: The disk is full or failed.
    """
    if target.is_file() and any(path.exists() and path.samefile(target) for path in inputs):
        raise UsageError(target, "is an input of this command", "choose another name")
    with contextlib.suppress(_NotNowError), atomic_path(target):
        raise _NotNowError


class _NotNowError(Exception):
    """Ends a write before it replaces anything."""


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[IO[bytes]]:
    """Open a binary file object whose content replaces `target` when the block ends without an error.

    Args:
        target: Target of the result; its folder must exist.

    Raises:
        CannotWriteError: The folder is missing or not writable, or the target is a folder.
        StorageError: The disk is full or failed.
    """
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        yield stream


def write_bytes(target: Path, content: bytes) -> None:
    """Write `content` to `target`, whole or not at all."""
    with atomic_write(target) as stream:
        stream.write(content)


def write_text(target: Path, content: str) -> None:
    """Write `content` to `target` as UTF-8, whole or not at all."""
    write_bytes(target, content.encode())


def write_json(target: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write `value` to `target` as JSON; NaN and infinity are refused."""
    write_text(target, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_bytes(path: Path, *, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        InputMissingError: There is no such file, or it cannot be opened.
        BadDataError: It is larger than `limit`, or not a regular file.
        StorageError: The disk failed.
    """
    path = Path(path)
    with reading(path):
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise BadDataError(path, "is not a regular file", "name a file")
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise BadDataError(path, f"is {size:,} bytes, more than the {limit:,} allowed here")
            content = stream.read()
    if content.startswith(LFS_POINTER):  # it would pass as a list of names
        raise BadDataError(path, f"is {GIT_LFS.name}", GIT_LFS.cure)
    return content


def read_json(path: Path, *, limit: int = MAX_JSON_BYTES, finite: bool = True) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        limit: Most bytes that it may have.
        finite: Refuse NaN, infinity, and text that is not Unicode; without this the caller checks every value.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It is too large, not UTF-8, not JSON, too deeply nested, repeats a key of an object, or
            holds NaN, infinity or text that is not Unicode.
    """
    content = read_bytes(path, limit=limit)

    def refuse(constant: str) -> float:
        raise BadDataError(path, f"holds {constant}", "numbers must be finite")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # JSON allows a key twice and Python keeps the last: half of the data would be gone without a word.
        if len(found := dict(pairs)) != len(pairs):
            repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise BadDataError(path, f"has {repeated[:80]!r} twice in one object", "keep one of them")
        return found

    try:
        value = json.loads(content, parse_constant=refuse if finite else float, object_pairs_hook=unique)
        if finite and _SURROGATE.search(content):
            json.dumps(value, ensure_ascii=False).encode()
    except BadDataError:
        raise
    except (ValueError, RecursionError) as error:
        if (other := misplaced(path, content[:HEAD_BYTES], Wanted.JSON)) is not None:
            raise other from error
        raise BadDataError(path, f"is not JSON ({error})", "check the file") from error
    return value


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable; not every system can, and the file is whole either way."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _default_mode(target: Path) -> int:
    """Mode of the file that is replaced, or what the umask gives a new one."""
    with contextlib.suppress(OSError):
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
