"""Every network and role in the dictionaries is exported with parity, detects, and is timed; none can be forgotten."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from stale_edge.checkpoint import Checkpoint, save_checkpoint
from stale_edge.networks.boundary_map.config import BoundaryMapConfig
from stale_edge.networks.clip_image import ImageTowerConfig
from stale_edge.networks.clip_sources import seeded_clip
from stale_edge.networks.registry import NETWORKS
from stale_edge.seeded import seeded_network
from stale_edge_export import detections
from stale_edge_export.graphs.registry import GRAPHS
from stale_edge_runtime.contract import ACTIONFORMER, STALE_NETWORK, Role
from stale_edge_runtime.heads.boundary_map import BOUNDARY_MAP
from stale_edge_runtime.heads.registry import HEADS
from stale_edge_runtime.model_file import read_model
from tests.stale_edge.actionformer_examples import TINY as TINY_ACTIONFORMER

NAMES = ("run", "jump", "swim")
DETECTORS = (STALE_NETWORK, ACTIONFORMER, BOUNDARY_MAP)
TINY_MAP = BoundaryMapConfig(feature_dim=16, width=16, pair_channels=8, heads=2)
TOWERS = {Role.TEXT_TOWER: (STALE_NETWORK, "--text-tower")}
"""Network that has the tower, and the option that exports it."""
TINY_CLIP = ImageTowerConfig(image_size=24, patch=8, width=32, layers=2, heads=4, hidden=64, embedding_dim=16)


def test_all_are_here():
    assert set(DETECTORS) == NETWORKS.keys() == HEADS.keys() == GRAPHS.keys()
    assert {Role.DETECTOR, Role.IMAGE_TOWER, *TOWERS} == set(Role)


@pytest.fixture
def checkpoint(request, tiny_config, tmp_path):
    """A file with a tiny network of the kind that the test asks for."""
    name = request.param
    config = {STALE_NETWORK: tiny_config, ACTIONFORMER: TINY_ACTIONFORMER, BOUNDARY_MAP: TINY_MAP}[name]
    text = torch.eye(len(NAMES), TINY_MAP.feature_dim) if name == BOUNDARY_MAP else None
    origin = {"source": "file"}
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, Checkpoint(seeded_network(config, 0, name), NAMES, origin, text, network_name=name))
    return path


@pytest.mark.parametrize("checkpoint", DETECTORS, indirect=True, ids=DETECTORS)
def test_a_detector_is_exported_detects_and_is_timed(checkpoint, command, brief_ceiling, monkeypatch):
    folder = checkpoint.parent
    path = folder / "tiny.onnx"
    code, out, err = command("export", checkpoint, "-o", path)
    assert code == 0, err
    assert "agrees with PyTorch at every length checked" in out
    info = read_model(path).info
    assert info.role is Role.DETECTOR
    assert set(info.parity["max_error"]) == set(HEADS[info.network].outputs)
    features = np.random.default_rng(0).standard_normal((40, info.feature_dim)).astype(np.float32)
    np.save(folder / "video.npy", features)
    code, _, err = command("detect", path, folder / "video.npy", "-o", folder / "results.json")
    assert code == 0, err
    (found,) = json.loads((folder / "results.json").read_text())["results"].values()
    assert {each["label"] for each in found} <= set(NAMES)
    quick = ("--lengths", 30, "--runs", 2, "--no-cold-start", "--json", folder / "bench.json")
    code, out, err = command("bench", path, *quick)
    assert code == 0, err
    assert json.loads((folder / "bench.json").read_text())["rows"][0]["gmacs"] > 0
    assert "decoding at T = 30" in out
    onnx.checker.check_model(onnx.load(path), full_check=True)
    monkeypatch.setattr(detections, "LONGEST", 200)
    inside = detections.with_detections(read_model(path), detections.decoding_of(info.network).settings(info, {}))
    onnx.checker.check_model(onnx.load_model_from_string(inside.content), full_check=True)
    assert inside.info.parity["detections"]["rows"] > 0


@pytest.mark.parametrize("checkpoint", [network for network, _ in TOWERS.values()], indirect=True)
@pytest.mark.parametrize("role", TOWERS)
def test_a_tower_is_exported_and_inspected(checkpoint, role, command):
    path = checkpoint.parent / "tower.onnx"
    code, _, err = command("export", checkpoint, TOWERS[role][1], "-o", path)
    assert code == 0, err
    info = read_model(path).info
    assert info.role is role
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert max(info.parity["max_error"].values()) <= 1e-4
    assert f'"role": "{role}"' in command("inspect", path, "--json")[1]


def test_an_image_tower_is_exported_inspected_and_timed(command, brief_ceiling, tmp_path):
    source, made = tmp_path / "clip.safetensors", seeded_clip(TINY_CLIP, None)
    metadata = {"stale_edge": json.dumps({"image_tower": TINY_CLIP.to_dict()})}
    save_file({f"image_tower.{name}": value for name, value in made.image_state.items()}, source, metadata)
    code, out, err = command("export", "--clip", source, "-o", tmp_path / "towers")
    assert code == 0, err
    assert "has no text tower" in err
    path = tmp_path / "towers" / "clip-image.onnx"
    info = read_model(path).info
    assert info.role is Role.IMAGE_TOWER
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert info.parity["max_error"]["image_embeddings"] <= 1e-5
    told = json.loads(command("inspect", path, "--json", "--macs")[1])
    assert (told["role"], told["image_size"], told["tower_sha256"]) == ("image-tower", 24, made.tower_sha256)
    code, out, err = command("bench", path, "--runs", 2, "--no-cold-start", "--json", tmp_path / "bench.json")
    assert code == 0, err
    assert "Time of an image" in out
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["batch"] for row in rows] == [1, 20]
    assert rows[0]["gmacs"] * 1e9 == told["macs"]["T"]
