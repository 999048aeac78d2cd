"""A file from anyone runs once in a process of its own, before a command runs it in this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from stale_edge_runtime.model_file import ModelFile

TRIAL_S: Final = 120.0
"""Longest that a file may take to open and to run twice at a short length."""


def try_file(file: ModelFile, snippets: int) -> None:
    """Refuse a file that ends or hangs the process that runs it; whatever else is wrong shows when it is used.

    Args:
        file: A detector.
        snippets: Length to run it at.

    Raises:
        BadDataError: It ended the process by a signal, or was not done in `TRIAL_S`.
    """
    from stale_edge_runtime.bench.memory import ChildError, run_child
    from stale_edge_runtime.bench.onnx_contender import OnnxContender, vocabulary_for

    contender = OnnxContender(file, str(file.path), "cpu", vocabulary_for(file))
    try:
        run_child(contender.cold_start_words(1, 1, snippets), subject=str(file.path), timeout_s=TRIAL_S)
    except ChildError as error:
        if error.was_killed:
            problem = f"ends or hangs the process that runs it: {error.problem}"
            raise BadDataError(file.path, problem, "the file is damaged or hostile: do not use it") from error
