"""A process that runs the cases of one group: `python -m tests.campaign.worker GROUP SEED CASES EVERY ROOM`.

Before each case its name goes to `ROOM/log`, after it its verdict: where the process dies, the log's last line names
the case that killed it.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from random import Random

from tests.campaign.cases import enter, judge, peak_mb
from tests.campaign.kinds import GROUPS


def main(group: str, seed: int, cases: int, every: int, room: Path) -> None:
    """Run `cases` cases of every n-th kind of a group."""
    kinds = list(GROUPS[group]())[::every]
    enter(room)
    case = room / "case"
    start_mb = peak_mb(anew=True)
    with (room.parent / f"{room.name}.log").open("w") as log:
        for number in range(cases):
            for kind in kinds:
                rng = Random(f"{seed} {kind.name} {number}")
                print(json.dumps({"starts": kind.name, "seed": number}), file=log, flush=True)
                case.mkdir()
                verdict = judge(kind, number, kind.build(case, rng), room)
                print(json.dumps(asdict(verdict)), file=log, flush=True)
                shutil.rmtree(case)
        print(json.dumps({"extra_mb": peak_mb() - start_mb}), file=log)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5]))
