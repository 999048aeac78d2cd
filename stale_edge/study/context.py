"""Run context of a learning study: interruption handling and the folder for its trainings."""

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
class RunContext:
    """Execution settings that do not affect results."""

    folder: Path | None = None
    """Study folder, for the files of a training in progress; a temporary one by default."""
    computing: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered around work that writes no file."""

    @contextlib.contextmanager
    def training(self) -> Iterator[Path]:
        """Make a folder for one training, gone afterwards; what a killed one has left there goes first.

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


ANYWHERE: Final = RunContext()
"""A temporary folder, and Ctrl-C as Python has it."""
