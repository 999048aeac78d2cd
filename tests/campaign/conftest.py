"""Figures of a campaign, shown together at its end."""

from __future__ import annotations

from collections import Counter

import pytest

FAULTS = {
    "tracebacks": ("traceback",),
    "signals": ("ended with -",),
    "torn outputs": ("torn", "failed and changed", "failed with", "old world", "old annotations"),
    "orphans after the next run": ("after the next run",),
    "raw control characters": ("raw ", "wrote ["),
    "silent outcomes": ("silent", "without a word", "nothing written", "not refused"),
    "files outside named paths": ("other files changed", ": left ["),
}
"""Kinds of violations, by words in their messages."""
FIGURES = pytest.StashKey[Counter]()
WRONG = pytest.StashKey[list]()


@pytest.fixture
def figures(request):
    """Counts of the whole campaign; tests add theirs."""
    return request.config.stash.setdefault(FIGURES, Counter())


@pytest.fixture
def wrong(request):
    """Violations of the whole campaign; tests add theirs."""
    return request.config.stash.setdefault(WRONG, [])


def pytest_terminal_summary(terminalreporter, config):
    found = config.stash.get(FIGURES, Counter())
    if not found:
        return
    violations = config.stash.get(WRONG, [])
    terminalreporter.section("campaign")
    for name, value in found.items():
        terminalreporter.line(f"{value:12,.6g} {name}")
    for name, words in FAULTS.items():
        terminalreporter.line(f"{sum(any(word in text for word in words) for text in violations):12} {name}")
    terminalreporter.line(f"{len(violations):12} violations in all")
