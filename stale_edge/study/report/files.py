"""Files of a report within its folder, recorded so that the next report takes its own away and nothing else."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from stale_edge.study.report.figures import FIGURE_KINDS
from stale_edge_runtime.errors import BadDataError, writing_error
from stale_edge_runtime.formats.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

RECORD: Final = "report-files.json"
TABLES, FIGURES, MEASUREMENTS = "tables", "figures", "measurements"
TABLE_KINDS: Final = (".csv", ".tex", ".md")
"""Endings of the files of a table."""
_KINDS: Final = {TABLES: TABLE_KINDS, FIGURES: FIGURE_KINDS, MEASUREMENTS: (".csv",)}
"""Folders of a report, and the files that it may write there."""


class ReportFiles:
    """The files of a report, recorded beside it.

    Args:
        folder: Folder of the report; need not exist.

    Raises:
        BadDataError: The record of an earlier report is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier = _read(folder / RECORD) if (folder / RECORD).exists() else frozenset[str]()

    def begin(self, names: Collection[str]) -> None:
        """Make the folders and record what will be written: whatever happens on the way, it is known whose it is.

        Args:
            names: All files but the page, relative to the folder.

        Raises:
            CannotWriteError: The folder cannot be written.
            StorageError: The disk is full or failed.
        """
        for name in _KINDS:
            try:
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise writing_error(self._folder / name, error) from error
        self._record(self._earlier.union(names))

    def end(self, names: Collection[str]) -> None:
        """Remove what an earlier report wrote and this one did not.

        Args:
            names: Names that it was begun with.

        Raises:
            CannotWriteError: The folder cannot be written.
            StorageError: The disk failed.
        """
        for name in sorted(self._earlier.difference(names)):
            try:
                (self._folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise writing_error(self._folder / name, error) from error
        self._record(names)

    def _record(self, names: Collection[str]) -> None:
        write_json(self._folder / RECORD, sorted(names))


def _read(path: Path) -> frozenset[str]:
    names = read_json(path)
    if not isinstance(names, list) or not all(map(_is_ours, names)):
        raise BadDataError(path, "does not name files of a report", "remove it; the report is written anew")
    return frozenset(names)


def _is_ours(name: Any) -> bool:
    """Whether a report may have written a file; a record that names others must not get them removed."""
    if not isinstance(name, str) or "\\" in name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return str(path) == name and len(path.parts) == 2 and path.suffix in _KINDS.get(path.parts[0], ())
