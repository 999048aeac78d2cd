"""Trials to better the boundary map: one change each, by the training and the worlds of `study localization`.

A program, and no test: `python -m tests.map_trials TRIAL SEED` trains (three to eight minutes of the processor), judges
300 seen and 300 unseen simulated videos, and prints average mAP in points as a line of JSON. docs/network.md has what
came out.
"""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.boundary_map import model as map_model
from stale_edge.networks.boundary_map.loss import FIRST_THRESHOLD, THRESHOLD_RANGE, MapPrediction, map_loss
from stale_edge.networks.boundary_map.targets import PARTS, map_targets
from stale_edge.study.experiments.localization import FULL
from stale_edge.study.experiments.simulated_data import SimulatedData
from stale_edge.study.experiments.training_runs import (
    AVERAGED_PARTS,
    MAP_METHOD,
    first_network,
    fit_network,
    predictor_of,
)
from stale_edge.training.trainer import make_optimizer, update_average
from stale_edge_runtime.heads import boundary_map as head
from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from stale_edge.data.dataset import TrainingVideo
    from stale_edge.networks.boundary_map.targets import MapTargets

JUDGED = 300
LOCAL_REACHES = (32, 8)
"""Parts of a video that the first heads attend within; the others attend everywhere."""


@dataclass(frozen=True)
class Trial:
    """One change."""

    epochs: int = FULL.epochs
    mirrored: bool = False
    """Half of the videos run backwards."""
    lags: tuple[int, ...] = map_model.LAGS
    is_multi_scale: bool = False
    """Two of four heads attend to what is near."""
    is_adapted: bool = False
    """Cells pass a narrow residual layer first."""
    ranking: float = 0.0
    """Weight of a softmax over all pairs of a video, beside the loss of each pair."""
    is_moved: bool = False
    """Offsets of both edges are learned beside each pair's score."""


TRIALS = {
    "base": Trial(),
    "more steps": Trial(epochs=2 * FULL.epochs),
    "mirrored": Trial(mirrored=True),
    "eight lags": Trial(lags=(1, 2, 3, 4, 6, 8, 12, 16)),
    "multi-scale attention": Trial(is_multi_scale=True),
    "eight lags, multi-scale attention": Trial(lags=(1, 2, 3, 4, 6, 8, 12, 16), is_multi_scale=True),
    "adapter": Trial(is_adapted=True),
    "ranking": Trial(ranking=0.2),
    "regression of edges": Trial(is_moved=True),
}


class Adapter(nn.Module):
    """A narrow residual layer that begins as nothing."""

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(dim, width), nn.Linear(width, dim)
        nn.init.zeros_(self.wide.weight)
        nn.init.zeros_(self.wide.bias)

    def forward(self, cells: Tensor) -> Tensor:
        return cells + self.wide(F.relu(self.narrow(cells)))


def near_and_far(block: map_model.TrunkBlock, rows: Tensor) -> Tensor:
    """`TrunkBlock._attended` with some heads that see only what is near."""
    batch, count, width = rows.shape
    parts = block.qkv(rows).reshape(batch, -1, 3, block.heads, width // block.heads).permute(2, 0, 3, 1, 4)
    scores = parts[0] * (width // block.heads) ** -0.5 @ parts[1].transpose(2, 3)
    distance = (torch.arange(count)[:, None] - torch.arange(count)).abs()
    near = [max(2, count // share) for share in LOCAL_REACHES]
    reach = torch.tensor([*near, *[count] * (block.heads - len(near))])
    scores = scores.masked_fill(distance > reach[:, None, None], -1e4)
    return (scores.softmax(dim=3) @ parts[2]).transpose(1, 2).reshape(batch, -1, width)


class MovedPairs(nn.Module):
    """Offsets [B, M, M, 2] of both edges of every pair, in roots of its length, from what its score is made of."""

    def __init__(self, pairs: map_model.PairMap) -> None:
        super().__init__()
        self.offset = nn.Linear(pairs.mix.in_features, 2)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.mixed: list[Tensor] = []
        pairs.score.register_forward_pre_hook(lambda _, given: self.mixed.append(given[0]))

    def forward(self, batch: int, count: int) -> Tensor:
        blocks, first = [], 0
        for block, mixed in enumerate(self.mixed):
            last = count * (block + 1) // map_model.BLOCKS
            offsets = self.offset(mixed).reshape(batch, last - first, count - first, 2)
            blocks.append(F.pad(offsets, (0, 0, first, 0)))
            first = last
        self.mixed.clear()
        return torch.cat(blocks, dim=1)


def backwards(video: TrainingVideo) -> TrainingVideo:
    end = video.duration_s
    instances = tuple(replace(item, start_s=end - item.end_s, end_s=end - item.start_s) for item in video.instances)
    return replace(video, features=video.features[::-1].copy(), instances=instances)


def loss_of(trial: Trial, logits: Tensor, targets: MapTargets) -> Tensor:
    loss = map_loss(MapPrediction(logits), targets).total
    if trial.ranking:
        wanted = ((targets.overlap.float() / PARTS - FIRST_THRESHOLD) / THRESHOLD_RANGE).clamp(0, 1) ** 2
        share = (wanted * targets.known).flatten(1)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1e-6)
        ranked = logits.masked_fill(~targets.known, -1e4).flatten(1).log_softmax(dim=1)
        loss = loss - trial.ranking * (share * ranked).sum(dim=1).mean()
    return loss


def moved_loss(offsets: Tensor, videos: list[TrainingVideo], targets: MapTargets, snippets: int) -> Tensor:
    """Mean error of the offsets of pairs that overlap an action by half or more."""
    at = torch.arange(snippets)
    pairs = torch.stack(torch.broadcast_tensors(at[:, None], at + 1), dim=2).float()  # [M, M, 2]
    root = (pairs[..., 1] - pairs[..., 0]).clamp(min=1).sqrt()[..., None]
    losses = []
    for video, given, overlap in zip(videos, offsets, targets.overlap, strict=True):
        spans = torch.tensor([(item.start_s, item.end_s) for item in video.instances]) * snippets / video.duration_s
        common = torch.minimum(pairs[..., None, 1], spans[:, 1]) - torch.maximum(pairs[..., None, 0], spans[:, 0])
        whole = (spans[:, 1] - spans[:, 0]) + (pairs[..., 1] - pairs[..., 0])[..., None] - common
        wanted = (spans[(common.clamp(min=0) / whole).argmax(dim=2)] - pairs) / root
        chosen = overlap > PARTS // 2
        losses.append(F.smooth_l1_loss(given[chosen], wanted[chosen]) if chosen.any() else given.sum() * 0)
    return torch.stack(losses).mean()


def moved_refinement(moved: MovedPairs, cells: int) -> Any:
    """`refine` of the head by the offsets of the video that the network has just seen."""

    def refine(guide: np.ndarray, segments: np.ndarray) -> np.ndarray:
        before, offsets = segments.astype(np.float64), moved(1, cells)[0].numpy()
        root = np.sqrt(before[:, 1] - before[:, 0])[:, None]
        after = np.clip(before + offsets[segments[:, 0], segments[:, 1] - 1] * root, 0, len(guide))
        return np.where(after[:, :1] < after[:, 1:], after, before)

    return refine


def run(name: str, seed: int) -> dict[str, Any]:
    trial = TRIALS[name]
    map_model.LAGS, map_model.CHANNELS = trial.lags, 4 + len(trial.lags)
    if trial.is_multi_scale:
        map_model.TrunkBlock._attended = near_and_far
    scale = replace(FULL, epochs=trial.epochs, seen=JUDGED, unseen=JUDGED)
    material = SimulatedData().endless(scale)
    network = first_network(material, MAP_METHOD, seed)
    fit_network(network, material, MAP_METHOD, scale, endless=True)
    if trial.is_adapted:
        network.trunk.adapter = Adapter(network.config.feature_dim)
        network.trunk.register_forward_pre_hook(
            lambda trunk, given: (cells := trunk.adapter(given[0]), cells.mean(dim=1, keepdim=True), *given[2:])
        )
    if trial.is_moved:
        network.moved = MovedPairs(network.map)
    settings = scale.settings(seed, method=MAP_METHOD)
    steps = settings.epochs * (scale.videos // settings.batch_size)
    decay = min(settings.average_decay, 1 - AVERAGED_PARTS / steps)
    optimizer, average = make_optimizer(network, settings, MAP_METHOD.spec.decays), deepcopy(network)
    text, snippets = torch.from_numpy(material.text), network.config.snippets
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network.train()
    for step in range(steps):
        epoch, place = divmod(step * settings.batch_size, scale.videos)
        videos = [material.source.video(place + index, epoch) for index in range(settings.batch_size)]
        if trial.mirrored:
            videos = [backwards(video) if rng.random() < 0.5 else video for video in videos]
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step, steps)
        features = torch.from_numpy(np.stack([resize(video.features, snippets) for video in videos]))
        targets = map_targets(videos, snippets)
        loss = loss_of(trial, network(features, text).pair_logits, targets)
        if trial.is_moved:
            loss = loss + 0.5 * moved_loss(network.moved(len(videos), snippets), videos, targets, snippets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimizer.step()
        update_average(average, network, decay)
    return {"trial": name, "seed": seed, **judged(average.eval(), material, trial)}


@torch.no_grad()
def judged(network: Any, material: Any, trial: Trial) -> dict[str, float]:
    if trial.is_moved:
        network.map.score._forward_pre_hooks.clear()
        network.moved = moved = deepcopy(network.moved)
        network.map.score.register_forward_pre_hook(lambda _, given: moved.mixed.append(given[0]))
        head.refine = moved_refinement(moved, network.config.snippets)
    sets = material.evaluation_sets.items()
    found = {name: each.accuracy(each.detect(predictor_of(network, each, MAP_METHOD))) for name, each in sets}
    return {name: round(100 * values["average_map"], 1) for name, values in found.items()}


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in TRIALS:
        sys.exit(f"give a trial and a seed; trials: {', '.join(TRIALS)}")
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]))))
