"""Results of a corpus in a folder: parts of a fixed number of videos, written as they are complete, and resumed.

`part-00000.jsonl` holds a row for every video of the first part that could be used, in the order of the input;
`failures-00000.jsonl` is there where others could not, and says why. A video has one row, in one of the two.
`run.json` describes the run, and `finished.jsonl` holds the rows of parts that are not complete yet: a run that was
killed goes on after the last of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from stale_edge_runtime.errors import BadDataError, UsageError, writing
from stale_edge_runtime.formats.files import make_folder, read_bytes, read_json, together, write_json, write_text
from stale_edge_runtime.formats.result_tables import FINISHED, MAX_TABLE_BYTES, RUN, json_line, read_table, write_table
from stale_edge_runtime.formats.sole_writer import sole_writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stale_edge_runtime.formats.result_tables import Row

_FORMAT: Final = 1


class ResultFolder:
    """Folder that a run writes its results to, part after part.

    Args:
        folder: The folder; made where it does not exist.
        video_ids: Ids of all videos, in the order of the input.
        described: Properties of the run as JSON values: it is resumed only with the same.
        part_videos: Videos of a part.
        suffix: Ending of the parts, `.jsonl` or `.parquet`.
    """

    def __init__(
        self, folder: Path, video_ids: Sequence[str], described: Mapping[str, Any], part_videos: int, suffix: str
    ) -> None:
        self.folder = folder
        self._ids = video_ids
        self.part_videos = part_videos
        self._suffix = suffix
        digest = hashlib.sha256("\n".join(video_ids).encode()).hexdigest()
        self._run = {
            "format": _FORMAT,
            "videos": len(video_ids),
            "videos_sha256": digest,
            "part_videos": part_videos,
            "files": suffix,
            **described,
        }
        self._ended: dict[int, Row] = {}
        self._journal: IO[bytes] | None = None
        self._unwritten = dict.fromkeys(range(-(-len(video_ids) // part_videos)))

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[int]]:
        """Open the folder for writing until the block ends.

        Yields:
            Places of the videos that an earlier run has not finished.

        Raises:
            UsageError: The folder holds the results of another run.
            CannotWriteError: Another program is writing to it, or it cannot be written.
            StorageError: The disk is full or failed.
        """
        make_folder(self.folder)
        with sole_writer(self.folder):
            self._check_run()
            for part in [part for part in self._unwritten if self._path("part", part).exists()]:
                del self._unwritten[part]
            self._read_journal()
            for part in list(self._unwritten):
                self._write_if_complete(part)
            with (self.folder / FINISHED).open("ab") as self._journal:
                yield [place for part in self._unwritten for place in self._places(part) if place not in self._ended]
            if not self._unwritten:
                (self.folder / FINISHED).unlink()

    def put(self, place: int, row: Row) -> None:
        """Keep the row of a video; a part is written with its last.

        Args:
            place: Place of the video in the input.
            row: Row of its results, or of its failure.

        Raises:
            CannotWriteError: A file cannot be written.
            StorageError: The disk is full or failed.
        """
        assert self._journal is not None  # noqa: S101 (inside `opened`)
        with writing(self.folder / FINISHED):
            self._journal.write(json_line({"place": place, **row}).encode())
            self._journal.flush()
        self._ended[place] = row
        self._write_if_complete(place // self.part_videos)

    def failures(self) -> list[Row]:
        """Read the failures of all parts."""
        return [row for path in sorted(self.folder.glob(f"failures-*{self._suffix}")) for row in read_table(path)]

    def _places(self, part: int) -> range:
        return range(part * self.part_videos, min((part + 1) * self.part_videos, len(self._ids)))

    def _path(self, kind: str, part: int) -> Path:
        return self.folder / f"{kind}-{part:05}{self._suffix}"

    def _write_if_complete(self, part: int) -> None:
        places = self._places(part)
        if not all(place in self._ended for place in places):
            return
        rows = [self._ended[place] for place in places]
        failed = [row for row in rows if "error" in row]
        with together():
            if failed:
                write_table(self._path("failures", part), failed)
            write_table(self._path("part", part), [row for row in rows if "error" not in row])
        del self._unwritten[part]
        for place in places:
            del self._ended[place]

    def _check_run(self) -> None:
        """Write the description of the run, or compare it with the one that is there."""
        path = self.folder / RUN
        run = json.loads(json.dumps(self._run))
        if not path.exists():
            if any(self.folder.glob("part-*")):
                raise BadDataError(path, "is not there, and results are", "name another folder with -o")
            write_json(path, run)
            write_text(self.folder / FINISHED, "")
            return
        known = read_json(path)
        known = known if isinstance(known, dict) else {}
        for name in (*run, *known):
            if known.get(name) != run.get(name):
                was, now = (str(side.get(name))[:60] for side in (known, run))
                problem = f"holds results of a run with another {name.replace('_', ' ')} ({was}, now {now})"
                raise UsageError(self.folder, problem, "name another folder with -o, or start it as the first time")

    def _read_journal(self) -> None:
        """Read the rows of parts that are not complete; a line that a kill cut off is dropped."""
        path = self.folder / FINISHED
        if not path.exists():
            return
        whole = [line for line in read_bytes(path, limit=MAX_TABLE_BYTES).split(b"\n")[:-1] if line]
        try:
            for line in whole:
                row = json.loads(line)
                place = row.pop("place")
                if place // self.part_videos in self._unwritten and row["id"] == self._ids[place]:
                    self._ended[place] = row
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise BadDataError(path, f"is damaged ({error})", "remove it: its videos are done again") from error
        kept = "".join(json_line({"place": place, **row}) for place, row in self._ended.items())
        write_text(path, kept)
