"""The `stale-edge` program: `python -m stale_edge` does the same."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit; Ctrl-C ends it quietly also while Python still imports."""
    try:
        from stale_edge.supervisor import fork_for

        code = fork_for(sys.argv[1:])
        if code is None:
            from stale_edge.cli.app import run_process

            code = run_process(sys.argv[1:])
            if code == INTERRUPTED:  # without waiting for native code that computes on
                os._exit(code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
