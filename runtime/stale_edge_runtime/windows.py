"""Long videos in overlapping windows, merged so that no seam shows and nothing is found twice.

Every window is decoded on its own, non-maximum suppression included; what crosses a seam is settled between
the windows that see it. Two detections of one label, from different windows, show the *same action* when they
overlap by tIoU >= 0.5 in what both windows could see. Then

| the earlier one is cut by its window's end | the later one is cut by its window's start | result |
|---|---|---|
| yes | yes | one detection from the start of the first to the end of the second |
| yes | no | the later one, which saw the action whole |
| no | yes | the earlier one, which saw the action whole |
| no | no | the one with the higher score |

with the higher of the two scores. A piece cut by a window's end and a piece of the same label cut by the next one's
start are one action even where they hardly overlap: the later one knows its end.

No result begins or ends where a window does, because that says nothing about the action. A piece that is cut and
joined with nothing ends (or begins) somewhere in what its neighbour saw as well, since the neighbour does not see it
cross its own border; the middle of that is taken, and a piece that lies beyond it is dropped, because the neighbour
held it whole and did not find it. Windows that do not overlap share nothing, and keep their borders.

The rest of a cut detection is dropped where a better one covers half of it, and so is a detection of another window
that overlaps a better one by tIoU >= 0.5. Detections of one and the same window never touch each other here: decoding
has weighed them already, and weighing them twice would make scores depend on where windows fall. One window that holds
the whole video therefore changes nothing.

An action longer than the windows' overlap is never seen whole by all of them, and one longer than a window by none: it
is put together from pieces, as long as every window on its way gives it the same label.

A detection is *settled* once no later window can change it: when the next window starts after its end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import UsageError
from stale_edge_runtime.segments import paired_tiou, tiou

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from stale_edge_runtime.segments import FloatArray

SAME_ACTION_TIOU = 0.5
COVERED_SHARE = 0.5
JOINED = -1
"""View of a track that more than one window contributed to."""


@dataclass(frozen=True)
class WindowPlan:
    """Positions of windows: every `hop` snippets one of `window` snippets; the last one ends with the video."""

    window: int
    """Snippets in a window."""
    hop: int
    """Snippets from the start of one window to the start of the next."""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UsageError("--window", f"is {self.window}", "give a number of snippets from 1 up")
        if not 1 <= self.hop <= self.window:
            raise UsageError(
                "--hop",
                f"is {self.hop} for windows of {self.window}: snippets would be skipped or never end",
                f"give 1 to {self.window}",
            )

    @classmethod
    def of(cls, window: int, hop: int | None = None) -> WindowPlan:
        """Plan windows that overlap by half unless `hop` says otherwise."""
        return cls(window, max(1, window // 2) if hop is None else hop)

    def spans(self, snippets: int) -> Iterator[tuple[int, int]]:
        """First snippet and one past the last of every window of a video of `snippets` snippets."""
        first, last = 0, 0
        while last < snippets:
            last = min(first + self.window, snippets)
            yield first, last
            first += self.hop

    def count(self, snippets: int) -> int:
        """Count the windows that `spans` yields."""
        return 0 if snippets < 1 else 1 + max(0, -(-(snippets - self.window) // self.hop))


def detect_in_windows(
    detect: Callable[[FloatArray, float], Sequence[Detection]],
    features: FloatArray,
    plan: WindowPlan,
    *,
    duration_s: float,
    after_window: Callable[[int, int], None] | None = None,
) -> list[Detection]:
    """Detect in a long video window by window.

    Args:
        detect: Takes features `[window, D]` and their duration in seconds; returns detections in seconds from
            the start of the window.
        features: `[T, D]`, the whole video.
        plan: Positions of the windows.
        duration_s: Length of the whole video.
        after_window: Called with each window's first snippet and one past its last, once it is done.

    Returns:
        Detections by descending score.
    """
    snippets = len(features)
    if snippets <= plan.window:
        found = list(detect(features, duration_s))
        if after_window is not None:
            after_window(0, snippets)
        return found
    snippet_s = duration_s / snippets
    merger = WindowMerger(plan, snippet_s)
    merged: list[Detection] = []
    for first, last in plan.spans(snippets):
        merged += merger.add(first, last, detect(features[first:last], (last - first) * snippet_s))
        if after_window is not None:
            after_window(first, last)
    merged += merger.finish()
    within = [d if d.end_s <= duration_s else d._replace(end_s=duration_s) for d in merged]
    return sorted(within, key=lambda d: (-d.score, d.start_s, d.end_s, d.label))


@dataclass(slots=True)
class _Track:
    """One action of one label as the windows so far saw it; times in seconds."""

    start: float
    end: float
    score: float
    view: int
    """Index of the window whose segment this is, or JOINED."""
    border: float
    """End of the last window that contributed."""
    left_cut: bool
    """Begins where a window begins: the action may have begun earlier."""
    right_cut: bool
    """Ends where a window ends: the action may go on."""


class WindowMerger:
    """Merges the detections of successive windows; what it holds does not grow with the video.

    Args:
        plan: Positions of the windows.
        snippet_s: Seconds per snippet.
    """

    def __init__(self, plan: WindowPlan, snippet_s: float) -> None:
        self._plan = plan
        self._snippet_s = snippet_s
        self._view = 0
        self._border = 0.0
        self._live: defaultdict[str, list[_Track]] = defaultdict(list)
        self._settled: defaultdict[str, list[_Track]] = defaultdict(list)

    def add(self, first: int, last: int, detections: Iterable[Detection]) -> list[Detection]:
        """Take the detections of the next window.

        Args:
            first: First snippet of the window.
            last: One past its last snippet.
            detections: Detections in seconds from the start of the window.

        Returns:
            Detections that no later window can change, in order of start, in seconds of the video.
        """
        start, self._border = first * self._snippet_s, last * self._snippet_s
        # Decoders fade or shift at borders by about a snippet.
        near_start = start + self._snippet_s * (1 + 1e-6) if first else -np.inf
        near_end = self._border - self._snippet_s * (1 + 1e-6)
        pieces: defaultdict[str, list[_Track]] = defaultdict(list)
        for found in sorted(detections, key=lambda d: -d.score):
            a, b = found.start_s + start, found.end_s + start
            piece = _Track(a, b, found.score, self._view, self._border, a <= near_start, b >= near_end)
            pieces[found.label].append(piece)
        for label, group in pieces.items():
            self._absorb(self._live[label], group, start)
        self._view += 1
        return self._settle((first + self._plan.hop - 1) * self._snippet_s)

    def finish(self) -> list[Detection]:
        """Settle everything that is left: the last window ended with the video."""
        for tracks in self._live.values():
            for track in tracks:
                track.right_cut = track.right_cut and track.border < self._border
        return self._settle(np.inf)

    def _absorb(self, live: list[_Track], pieces: list[_Track], window_start: float) -> None:
        """Merge each piece, best first, with the track of the same action, or start a track."""
        known, rest, joined = len(live), [], set()
        overlap = _overlap_in_common_view(live, pieces, window_start) if known else np.zeros((1, len(pieces)))
        scores = np.array([track.score for track in live] or [0.0])[:, None]
        # A weak alternative that fits a little better must not take the place of the action itself.
        affinity = np.where(overlap >= SAME_ACTION_TIOU, overlap * scores, -1.0)
        for column, piece in enumerate(pieces):
            row = int(affinity[:, column].argmax())
            if affinity[row, column] < 0:
                rest.append(piece)
            else:
                live[row] = _same_action(live[row], piece)
                affinity[row] = -1.0
                joined.add(row)
        cut = [row for row in range(known) if row not in joined and live[row].right_cut]
        cut = [row for row in cut if live[row].border >= window_start]
        for piece in rest:
            if cut and piece.left_cut:
                row = max(cut, key=lambda row: live[row].score)
                live[row] = _same_action(live[row], piece)
                cut.remove(row)
            else:
                live.append(piece)

    def _settle(self, before: float) -> list[Detection]:
        """Decide on everything that ends before `before`, the earliest time that a later window can touch."""
        settled: list[Detection] = []
        for label in list(self._live):
            live = self._live[label]
            over = [t.end < before and not (t.right_cut and t.border >= self._border) for t in live]
            closed = (self._closed(t) for t, done in zip(live, over, strict=True) if done)
            ready = sorted((t for t in closed if t.start < t.end), key=lambda track: -track.score)
            rest = [t for t, done in zip(live, over, strict=True) if not done]
            rivals = self._settled[label] + rest
            for track in ready:
                if not _beaten(track, rivals):
                    rivals.append(track)
                    settled.append(Detection(track.start, track.end, label, track.score))
            kept = rivals[: len(self._settled[label])] + rivals[len(self._settled[label]) + len(rest) :]
            self._remember(label, rest, kept)
        return sorted(settled, key=lambda d: (d.start_s, d.end_s, -d.score, d.label))

    def _closed(self, track: _Track) -> _Track:
        """Take a border of the action from the middle of what a neighbour saw, where a window's border cut it."""
        shared = (self._plan.window - self._plan.hop) * self._snippet_s
        if shared and track.right_cut:
            track = replace(track, end=track.border - 0.5 * shared, right_cut=False)
        if shared and track.left_cut:
            track = replace(track, start=track.start + 0.5 * shared, left_cut=False)
        return track

    def _remember(self, label: str, live: list[_Track], settled: list[_Track]) -> None:
        """Keep only what can still matter: settled tracks that could beat a live one."""
        if not live:
            self._live.pop(label, None)
            self._settled.pop(label, None)
            return
        self._live[label] = live
        spans, past = _spans(live), _spans(settled)
        reaches = past[:, None, 1] > spans[None, :, 0]  # [settled, live]
        long_enough = 2 * (past[:, 1] - past[:, 0])[:, None] >= (spans[:, 1] - spans[:, 0])[None, :]
        useful = np.flatnonzero((reaches & long_enough).any(axis=1))
        self._settled[label] = [settled[index] for index in useful]


def _same_action(earlier: _Track, later: _Track) -> _Track:
    """Tell whether two pieces of an action make one track: the table of this module's description."""
    score = max(earlier.score, later.score)
    if earlier.right_cut and later.left_cut:
        return replace(later, start=earlier.start, score=score, view=JOINED, left_cut=earlier.left_cut)
    if earlier.right_cut or (not later.left_cut and later.score > earlier.score):
        return replace(later, score=score)
    return replace(earlier, score=score)


def _overlap_in_common_view(live: list[_Track], pieces: list[_Track], window_start: float) -> NDArray[np.float64]:
    """Overlap (tIoU) `[live, pieces]` in what both sides could see; a cut piece is taken to reach its border."""
    earlier = np.repeat(_spans(live)[:, None], len(pieces), axis=1)  # [live, pieces, 2]
    later = np.repeat(_spans(pieces)[None], len(live), axis=0)
    border = np.array([track.border for track in live])[:, None]
    cut_end = np.array([track.right_cut for track in live])[:, None]
    cut_start = np.array([piece.left_cut for piece in pieces])[None]
    earlier[..., 1] = np.where(cut_end, border, earlier[..., 1])
    later[..., 0] = np.where(cut_start, window_start, later[..., 0])
    earlier[..., 0] = np.where(cut_start, np.maximum(earlier[..., 0], window_start), earlier[..., 0])
    later[..., 1] = np.where(cut_end, np.minimum(later[..., 1], border), later[..., 1])
    # Restricting a segment that lies outside the common view turns it round: it overlaps nothing.
    earlier[..., 1] = np.maximum(earlier[..., 1], earlier[..., 0])
    later[..., 1] = np.maximum(later[..., 1], later[..., 0])
    overlap = paired_tiou(earlier, later)
    # Windows that do not overlap have no common view: pieces on both sides of the seam meet there.
    return np.where(cut_end & cut_start & np.isclose(border, window_start, rtol=1e-12), 1.0, overlap)


def _beaten(track: _Track, rivals: list[_Track]) -> bool:
    """Whether a better track of another view shows the same action."""
    others = [
        rival
        for rival in rivals
        if rival.score >= track.score
        and (rival.view != track.view or rival.view == JOINED)
        and rival.start < track.end
        and rival.end > track.start
    ]
    if not others:
        return False
    own, theirs = _spans([track]), _spans(others)
    if bool((tiou(own, theirs) >= SAME_ACTION_TIOU).any()):
        return True
    if not (track.left_cut or track.right_cut):
        return False
    shared = np.minimum(own[:, 1], theirs[:, 1]) - np.maximum(own[:, 0], theirs[:, 0])
    return bool((shared >= COVERED_SHARE * (track.end - track.start)).any())


def _spans(tracks: Sequence[_Track]) -> NDArray[np.float64]:
    return np.array([(track.start, track.end) for track in tracks], dtype=np.float64).reshape(-1, 2)
