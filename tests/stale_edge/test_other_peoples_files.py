"""Files as other people's tools and habits make them, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny_baked.onnx"
OPEN_MODEL = DATA / "tiny_open.onnx"
WIDTH = 8


NAMES = {
    "own ids begin with v_": ("v_00000000", "v_00000001"),
    "spaces, brackets, apostrophes": ("kid's room+stairs", "lat pulldown (2)"),
    "another script": ("客厅 03", "バレー"),
    "begins with a dash": ("-0edUL8zmA", "-1"),
}
SPELLINGS: dict[str, Callable[[str], str]] = {
    "exact": str,
    "without v_": lambda name: name.removeprefix("v_"),
    "with v_": lambda name: f"v_{name}",
    "of a video": lambda name: f"{name}.mp4",
}


def features(seed: int = 0, snippets: int = 40) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((snippets, WIDTH))).astype(np.float32)


def entry(label: str = "archery") -> dict[str, object]:
    return {"subset": "validation", "duration": 80.0, "annotations": [{"segment": [10.0, 30.0], "label": label}]}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_ids_of_two_sources_match_and_the_annotations_spelling_is_written(
    tmp_path: Path, command: Command, names: tuple[str, ...], spelling: Callable[[str], str]
) -> None:
    truth = write(tmp_path / "gt.json", {"database": {name: entry() for name in names}})
    folder, found = tmp_path / "features", tmp_path / "found.json"
    folder.mkdir()
    for name in names:
        np.save(folder / f"{spelling(name)}.npy", features())
    external = {spelling(name): {"class": "archery", "score": 0.5} for name in names}
    words = ["-g", truth, "--external", write(tmp_path / "external.json", external)]
    code, _, err = command("detect", MODEL, folder, "-o", found, *words)
    assert code == 0, err
    assert "for 2 of 2 videos" in err
    results = json.loads(found.read_text())["results"]
    assert sorted(results) == sorted(names)

    respelled = {"results": {spelling(name): rows for name, rows in results.items()}}
    maps = []
    for path in (found, write(tmp_path / "respelled.json", respelled)):
        code, out, err = command("evaluate", path, "-g", truth, "--json", "-")
        assert code == 0, err
        maps.append(json.loads(out)["average_map"])
    assert maps[0] == maps[1]

    code, out, _ = command("compare", MODEL, MODEL, "-f", folder, "-g", truth, "--json")
    assert code == 0
    assert json.loads(out)["map_a"] is not None
    code, out, _ = command("dataset", truth, "--features", folder, "--json")
    assert code == 0
    assert json.loads(out)["subsets"]["validation"] == {"videos": 2, "instances": 2, "left_out": {}}
