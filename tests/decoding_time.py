"""Times the decoding alone, as nodes of a graph and by numpy, and prints a table: `python tests/decoding_time.py`.

Processor time of one thread, the least of many runs, which neighbours on the machine change least.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in (".", "runtime", "export")]

import numpy as np  # noqa: E402

from stale_edge_export.detections import decoding_of  # noqa: E402
from tests.export.test_detections import VARIANTS, decoder, draw  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = (("stale", 0, 200), ("boundary-map", 0, 200), ("actionformer", 0, 1), ("actionformer", 1, 20))
"""Network, number of its settings, and classes: those of ActivityNet, and for ActionFormer then of THUMOS14."""
SNIPPETS = 200
RUNS = 200


def least_ms(run: Callable[[], object]) -> float:
    """Least processor time of a run."""
    times = []
    for _ in range(RUNS):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return 1e3 * min(times)


def main() -> None:
    """Print milliseconds for outputs of five clear actions and of noise."""
    print("| network | settings | classes | video | graph, ms | numpy, ms |\n|---|---|---|---|---|---|")
    for network, number, classes in CASES:
        info, chosen, session = decoder(network, number)
        for kind in ("clear", "noisy"):
            outputs = draw(network, SNIPPETS, classes, 0, kind)
            feeds = {name: value[None] for name, value in outputs.items()}
            feeds["features"] = np.zeros((1, SNIPPETS, 1), np.float32)
            decode = decoding_of(network).decode
            inside = least_ms(lambda feeds=feeds, session=session: session.run(None, feeds))
            outside = least_ms(
                lambda decode=decode, given=(outputs, SNIPPETS, info, chosen): decode(*given),
            )
            settings = VARIANTS[network][number] or "default"
            print(f"| {network} | {settings} | {classes} | {kind} | {inside:.2f} | {outside:.2f} |")


if __name__ == "__main__":
    main()
