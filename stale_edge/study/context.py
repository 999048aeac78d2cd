"""Where a study of learning computes, and where its trainings write."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stale_edge_runtime.formats.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_PROGRESS: Final = "training-in-progress"
"""A name that nothing of a user has: the folder is removed."""


@dataclass(frozen=True)
class Workplace:
    """What does not change what a study finds."""

    folder: Path | None = None
    """Of the study, for what a training writes meanwhile; a temporary one by default."""
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered around work that writes no file."""

    @contextlib.contextmanager
    def training(self) -> Iterator[Path]:
        """A folder for one training, gone afterwards; what a killed one has left there goes first.

        Two processes must not train in one study's folder; `Store.locked` sees to that.

        Raises:
            CannotWriteError: It cannot be made.
            StorageError: The disk is full or failed.
        """
        if self.folder is None:
            with tempfile.TemporaryDirectory(prefix="stale-edge-study-") as temporary:
                yield Path(temporary)
            return
        folder = self.folder / IN_PROGRESS
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


ANYWHERE: Final = Workplace()
"""A temporary folder, and Ctrl-C as Python has it."""
