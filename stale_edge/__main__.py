"""The `stale-edge` program: `python -m stale_edge` does the same."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit; Ctrl-C ends it quietly also while Python still imports."""
    try:
        from stale_edge.cli.app import run_process

        code = run_process(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
