"""Names of options: one thing has one set of names, whichever command takes it; help shows all of them."""

from __future__ import annotations

GROUND_TRUTH = ("--ground-truth", "--annotations", "-g")
PROVIDER = ("--provider", "--providers")
SNIPPET_SECONDS = "--snippet-seconds"
