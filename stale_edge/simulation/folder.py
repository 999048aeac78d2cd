"""A simulated world as a folder, in the formats of the real data, so that the same commands read both.

| file | what |
|---|---|
| `world.json` | all parameters: the same endless world can be made from it again |
| `annotations.json` | official ActivityNet form; subset `training` shows the seen classes, `validation` all |
| `features/v_<id>.npy` | float16 [snippets, width] |
| `text_embeddings.npy`, `classes.txt` | float32 [classes, width], and a name for each row |
| `splits/seen.list`, `splits/unseen.list` | class lists for training and for the open set |

All files are written into a hidden folder first, so that a world that was there before stays whole until the new one
is. Then they are moved: `world.json` first, so that a folder cut off half-way is known for what it is, and the
annotations last, so that nobody trains on half a world.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stale_edge.simulation.config import WorldConfig
from stale_edge_runtime.errors import BadDataError, UsageError, writing
from stale_edge_runtime.formats import files
from stale_edge_runtime.formats.annotations import SIMULATED_WORLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stale_edge.data.dataset import TrainingVideo
    from stale_edge.simulation.world import SimulatedVideos, SimulatedWorld

WORLD_FILE: Final = "world.json"
ANNOTATIONS_FILE: Final = "annotations.json"
FORMAT: Final = f"stale-edge {SIMULATED_WORLD}"
VERSION: Final = 1
_LARGEST_WORLD_BYTES = 1 << 20
_PARTS = ("features", "splits")
_OWN_FEATURES = re.compile(r"v_[tsu]\d{3}_\d{6,10}\.npy")


@dataclass(frozen=True)
class FolderSummary:
    """Summary of the written files."""

    training_videos: int
    """Videos of the training subset, all of seen classes."""
    seen_videos: int
    """Validation videos of seen classes."""
    unseen_videos: int
    """Validation videos of unseen classes."""
    instances: int
    """Instances of all of them."""
    snippets: int
    """Snippets of all of them."""


def write_world(
    folder: Path,
    world: SimulatedWorld,
    *,
    videos: int,
    validation: int,
    force: bool = False,
    step: Callable[[str], None] = lambda _: None,
) -> FolderSummary:
    """Write videos of a world with their annotations, texts and splits.

    Args:
        folder: Made where it is not there; a simulated world in it is replaced at the end: the same one, one that was
            cut off, or any with `force`.
        world: World to write.
        videos: Training videos: those of the first epoch.
        validation: Validation videos, shared between seen and unseen classes by the number of classes.
        force: Replace another world, and write into a folder that holds other things as well; they stay.
        step: Called with the id of each video written.

    Raises:
        UsageError: The folder holds another world or other things, and no `force`.
        CannotWriteError: The folder cannot be made or written to.
        StorageError: The disk is full or failed.
    """
    unseen = round(validation * len(world.unseen) / len(world.classes))
    parts = [world.training(videos), world.evaluation("seen", validation - unseen)]
    if world.unseen:
        parts.append(world.evaluation("unseen", unseen))
    description = {"format": FORMAT, "version": VERSION, "world": world.config.to_dict()}
    description |= {"videos": videos, "validation": validation}
    _prepare(folder, description, force=force)
    with files.temporary_folder(folder) as beside:
        files.write_json(beside / WORLD_FILE, description)
        for part in _PARTS:
            files.make_folder(beside / part)
        database: dict[str, Any] = {}
        snippets = 0
        for subset, video in _videos(parts):
            with files.atomic_write(beside / "features" / f"v_{video.id}.npy") as stream:
                np.save(stream, video.features.astype(np.float16), allow_pickle=False)
            database[video.id] = _annotation(subset, video)
            snippets += len(video.features)
            step(video.id)
        _write_texts(beside, world)
        files.write_json(beside / ANNOTATIONS_FILE, {"version": FORMAT, "database": database})
        with writing(folder):
            _move(beside, folder)
    return FolderSummary(
        training_videos=videos,
        seen_videos=validation - unseen if world.unseen else validation,
        unseen_videos=unseen,
        instances=sum(len(entry["annotations"]) for entry in database.values()),
        snippets=snippets,
    )


def read_world_config(path: Path) -> WorldConfig:
    """Read the parameters of a world.

    Args:
        path: A folder that `write_world` wrote, or its `world.json`.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: It does not describe a world of this version.
    """
    path = path / WORLD_FILE if path.is_dir() else path
    content = files.read_json(path, limit=_LARGEST_WORLD_BYTES)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("world"), dict):
        raise BadDataError(path, "does not describe a simulated world", "make one with stale-edge simulate")
    if content.get("version") != VERSION:
        raise BadDataError(path, f"is of version {content.get('version')!r}, not {VERSION}", "simulate it again")
    try:
        return WorldConfig.from_dict(content["world"])
    except UsageError as error:
        raise BadDataError(path, f"{error.subject} {error.problem}", "simulate it again") from error


def _prepare(folder: Path, description: dict[str, Any], *, force: bool) -> None:
    """Make the folders, or refuse."""
    with writing(folder):
        world = _world_of(folder)
        taken = folder.is_dir() and not (force or world or _is_begun(folder))
        is_older = bool(world) and world != json.loads(json.dumps(description)) and (folder / ANNOTATIONS_FILE).exists()
    if is_older and not force:
        raise UsageError(folder, "holds another simulated world", "name another folder, or replace it by --force")
    if taken:
        raise UsageError(folder, "is not empty and holds no simulated world", "name another folder, or add --force")
    files.make_folder(folder)


def _is_begun(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what a process leaves that was killed before it wrote `world.json`."""
    return all(
        path.name.endswith(files.TEMPORARY_SUFFIX)
        or (path.name in _PARTS and path.is_dir() and not any(path.iterdir()))
        for path in folder.iterdir()
    )


def _world_of(folder: Path) -> dict[str, Any]:
    """Read what describes the world in a folder; nothing where there is none."""
    with contextlib.suppress(BadDataError, OSError):
        content = files.read_json(folder / WORLD_FILE, limit=_LARGEST_WORLD_BYTES)
        if isinstance(content, dict) and content.get("format") == FORMAT:
            return content
    return {}


def _videos(parts: list[SimulatedVideos]) -> Iterator[tuple[str, TrainingVideo]]:
    for part in parts:
        subset = "training" if part.stream == "training" else "validation"
        for video in part:
            yield subset, video


def _annotation(subset: str, video: TrainingVideo) -> dict[str, Any]:
    instances = [{"segment": [item.start_s, item.end_s], "label": item.label} for item in video.instances]
    return {"subset": subset, "duration": video.duration_s, "annotations": instances}


def _move(beside: Path, folder: Path) -> None:
    """Move the files of a world to their places, and remove those of a world that was there before; nothing else.

    Raises:
        OSError: A file cannot be moved.
    """
    (folder / ANNOTATIONS_FILE).unlink(missing_ok=True)
    (beside / WORLD_FILE).replace(folder / WORLD_FILE)
    for part in _PARTS:
        (folder / part).mkdir(exist_ok=True)
    wanted = {path.name for path in (beside / "features").iterdir()}
    for path in (folder / "features").iterdir():
        if _OWN_FEATURES.fullmatch(path.name) and path.name not in wanted:
            path.unlink(missing_ok=True)
    for part in (*_PARTS, "."):
        for path in sorted((beside / part).iterdir()):
            if path.is_file() and path.name != ANNOTATIONS_FILE:
                path.replace(folder / part / path.name)
    (beside / ANNOTATIONS_FILE).replace(folder / ANNOTATIONS_FILE)


def _write_texts(folder: Path, world: SimulatedWorld) -> None:
    with files.atomic_write(folder / "text_embeddings.npy") as stream:
        np.save(stream, world.text_embeddings, allow_pickle=False)
    lists = {
        "classes.txt": range(len(world.classes)),
        "splits/seen.list": world.seen,
        "splits/unseen.list": world.unseen,
    }
    for name, indices in lists.items():
        files.write_text(folder / name, "".join(f"{world.classes[index]}\n" for index in indices))
