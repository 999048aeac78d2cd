"""The network: cells of a video, a trunk over them, and a score for every pair of edges.

Videos of more than `MAX_CELLS` snippets are averaged into equal cells first, so cost beyond that is linear in length.
Convolutions are written as products with neighbours: training, export and int8 see the same products.

Symbols: B batch, T snippets, M cells, D feature width, E channels, K channels of a pair, C classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.boundary_map.classes import ClassesPart, TextSide
from stale_edge_runtime.heads.boundary_map import MAX_CELLS

if TYPE_CHECKING:
    from stale_edge.networks.boundary_map.config import BoundaryMapConfig

LAGS = (1, 2, 4, 8)
CHANNELS = 4 + len(LAGS)
"""Three of the guide, one of the whole video, and the self-similarities."""
WAVES = 64
"""Sines and cosines of a relative time."""
GRID = 1024
"""Relative times that waves are stored for."""
OCTAVES = 7.0
SUM_SCALE = 8.0
BLOCKS = 4
"""Parts that the starts are scored in: a later part leaves out the ends before it, three eighths of all pairs
together, and the passes over a part stay in the cache."""
DROPOUT = 0.1
PRIOR_LOGIT = -2.5
SMALLEST_DEVIATION = 1e-4
SHORTEST = 0.1
"""Length below which a difference from the video's mean is rounding, and no direction."""


class MapOutput(NamedTuple):
    """Outputs of the network; what they mean is in `stale_edge_runtime.heads.boundary_map`."""

    pair_logits: Tensor
    """[B, M, M]."""
    class_logits: Tensor
    """[B, M, C]."""
    class_gram: Tensor
    """[B, M, M]."""
    guide: Tensor
    """[B, T]."""


class BoundaryMap(nn.Module):
    """Scores every pair of edges of a video without classes, guided by what the classes part takes it for.

    Args:
        config: Sizes.
    """

    text_tower = None

    def __init__(self, config: BoundaryMapConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = ClassesPart(config.feature_dim)
        self.trunk = Trunk(config)
        self.map = PairMap(config)

    def forward(self, features: Tensor, text: Tensor) -> MapOutput:
        """Run on features [B, T, D] and text embeddings [C, D]."""
        return self.run(features, pool_cells(features), self.classes.text_side(text))

    def run(self, features: Tensor, pooled: Tensor, text: TextSide) -> MapOutput:
        """Run on features [B, T, D], the same pooled to cells [B, M, D], and what depends on text alone."""
        cells = self.classes.centred(pooled)  # [B, M, D]
        class_logits, gram, video_logits = self.classes(cells, text)
        video = cells.mean(dim=1, keepdim=True)  # [B, 1, D]
        likely, contrast = self.classes.likely(video_logits, text)  # [B, 1, D] each
        # The mean is taken off after the product: one number instead of D of each snippet.
        guide = (features - self.classes.common) @ contrast.transpose(1, 2) / self.classes.spread  # [B, T, 1]
        guide = (guide - video @ contrast.transpose(1, 2)).squeeze(2)  # [B, T]
        pair_logits = self.map(self.trunk(cells, video, likely, contrast))
        return MapOutput(pair_logits, class_logits, gram, guide)


def pool_cells(features: Tensor) -> Tensor:
    """Average [B, T, D] over cells of r = ceil(T / MAX_CELLS) snippets, [B, M, D]; the last cell may be shorter."""
    batch, snippets, dim = features.shape
    size = (snippets + MAX_CELLS - 1) // MAX_CELLS
    cells = (snippets + size - 1) // size
    padded = F.pad(features, (0, 0, 0, cells * size - snippets))
    sums = padded.reshape(batch, cells, size, dim).sum(dim=2)
    first = torch.arange(cells, device=features.device) * size
    return sums / (snippets - first).clamp(max=size)[:, None].to(features.dtype)


def waves() -> Tensor:
    """Sines and cosines [GRID, WAVES] of relative times."""
    frequency = math.pi * 2 ** (torch.arange(WAVES // 2) * (OCTAVES / (WAVES // 2 - 1)))
    angle = ((torch.arange(GRID) + 1.0) / GRID)[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def neighbours(rows: Tensor, before: int, after: int) -> Tensor:
    """Put rows [B, M, E] beside those around them, [B, M, (before + 1 + after) E]; zeros beyond the ends."""
    count = rows.shape[1]
    padded = F.pad(rows, (0, 0, before, after))  # once, so that int8 quantises and moves the same bytes
    return torch.cat([padded[:, first : first + count] for first in range(before + after + 1)], dim=2)


def lagged(likeness: Tensor, lags: tuple[int, ...]) -> Tensor:
    """Take the likeness of cells some way apart at the cell in their middle, [B, M, lags]; 0 beyond the ends.

    Args:
        likeness: Products of all cells [B, M, M].
        lags: Distances; the earlier cell lies lag // 2 before the middle.
    """
    count = likeness.shape[1]
    distance = torch.tensor(lags, device=likeness.device)
    earlier = torch.arange(count, device=likeness.device)[:, None] - distance // 2  # [M, lags]
    later = earlier + distance
    inside = ((earlier >= 0) & (later < count)).to(likeness.dtype)
    places = (earlier * count + later).clamp(min=0, max=count * count - 1)
    return likeness.flatten(1)[:, places] * inside


class Local(nn.Module):
    """A convolution over time of three or five rows, as one product.

    Args:
        source: Channels in.
        target: Channels out.
        reach: Rows to either side.
    """

    def __init__(self, source: int, target: int, reach: int = 1) -> None:
        super().__init__()
        self.reach = reach
        self.product = nn.Linear((2 * reach + 1) * source, target)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, M, source] to [B, M, target]."""
        mixed: Tensor = self.product(neighbours(rows, self.reach, self.reach))
        return mixed


class TrunkBlock(nn.Module):
    """Convolution, global attention and feed-forward part, each behind a norm and added to what came in.

    Args:
        width: E.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.local_norm, self.local = nn.LayerNorm(width), Local(width, width)
        self.norm, self.qkv, self.output = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in, self.feed_out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, M, E] to [B, M, E]."""
        rows = rows + self.drop(F.relu(self.local(self.local_norm(rows))))
        rows = rows + self.drop(self.output(self._attended(self.norm(rows))))
        fed: Tensor = rows + self.drop(self.feed_out(F.relu(self.feed_in(self.feed_norm(rows)))))
        return fed

    def _attended(self, rows: Tensor) -> Tensor:
        batch, _, width = rows.shape
        parts = self.qkv(rows).reshape(batch, -1, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0] * (width // self.heads) ** -0.5, parts[1], parts[2]  # [B, H, M, E / H]
        attended = (query @ key.transpose(2, 3)).softmax(dim=3) @ value
        joined: Tensor = attended.transpose(1, 2).reshape(batch, -1, width)
        return joined


class Trunk(nn.Module):
    """Trunk over centred cells, which gives features of cells.

    Args:
        config: Sizes.
    """

    waves: Tensor

    def __init__(self, config: BoundaryMapConfig) -> None:
        super().__init__()
        width = config.width
        self.features = nn.Linear(config.feature_dim, width, bias=False)
        self.channels = Local(CHANNELS, width, reach=2)
        self.norm, self.local = nn.LayerNorm(width), Local(width, width)
        self.register_buffer("waves", waves())
        self.position = nn.Linear(WAVES, width)
        self.blocks = nn.ModuleList(TrunkBlock(width, config.heads) for _ in range(config.blocks))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, cells: Tensor, video: Tensor, likely: Tensor, contrast: Tensor) -> Tensor:
        """Cells [B, M, D], their mean, the likely text and its contrast over time [B, 1, D] to [B, M, E]."""
        around = cells - video  # [B, M, D]
        rows = self.features(around) + self.channels(evidence(cells, around, video, likely, contrast))
        count = cells.shape[1]
        at = (2 * torch.arange(count, device=cells.device) + 1) * (GRID // 2) // count
        rows = self.local(F.relu(self.norm(rows))) + self.position(self.waves[at])
        for block in self.blocks:
            rows = block(rows)
        normed: Tensor = self.last_norm(rows)
        return normed


def evidence(cells: Tensor, around: Tensor, video: Tensor, likely: Tensor, contrast: Tensor) -> Tensor:
    """Similarities [B, M, CHANNELS] of the cells with the likely text, with one another and with the whole video."""
    guided = around @ contrast.transpose(1, 2)  # [B, M, 1]
    deviation = guided.square().mean(dim=1, keepdim=True).clamp(min=SMALLEST_DEVIATION).sqrt()
    alike = 4 * (F.normalize(cells, dim=2) @ likely.transpose(1, 2))
    unit = F.normalize(around, dim=2, eps=SHORTEST)
    likeness = unit @ unit.transpose(1, 2)  # [B, M, M]
    similar = lagged(likeness, LAGS)
    whole = 4 * (unit @ F.normalize(video, dim=2).transpose(1, 2))
    return torch.cat((guided / deviation, 0.3 * guided, alike, similar, whole), dim=2)


class Edges(NamedTuple):
    """Some edges of the cells, as starts or as ends of segments."""

    at: Tensor
    """int64 [N], position in cells."""
    terms: Tensor
    """[B, N, K], contributions to every pair with the edge."""
    sums: Tensor
    """[B, N, K], running sums up to the edge."""


class PairMap(nn.Module):
    """A logit for every pair of a first and a last cell.

    Args:
        config: Sizes.
    """

    waves: Tensor

    def __init__(self, config: BoundaryMapConfig) -> None:
        super().__init__()
        width, channels = config.width, config.pair_channels
        self.edges = nn.Linear(4 * width, 2 * channels)
        self.inside = nn.Linear(width, 2 * channels)
        self.register_buffer("waves", waves())
        self.length = nn.Linear(WAVES, channels)
        self.mix = nn.Linear(channels, channels)
        self.score = nn.Linear(channels, 1)
        nn.init.constant_(self.score.bias, PRIOR_LOGIT)

    def forward(self, rows: Tensor) -> Tensor:
        """Features [B, M, E] to logits [B, M, M]: first cell, last cell; zero below the diagonal."""
        count = rows.shape[1]
        padded = F.pad(rows, (0, 0, 0, 1))  # one edge more than cells
        start, end = self.edges(neighbours(padded, 2, 1)).chunk(2, dim=2)  # [B, M + 1, K]
        at = torch.arange(count + 1, device=rows.device)
        before = (at[:, None] > at[None, :-1]).to(rows.dtype)  # [M + 1, M]: the cells before each edge
        mean, total = (before @ self.inside(rows)).chunk(2, dim=2)  # running sums [B, M + 1, K]
        total = total * (SUM_SCALE / count)
        lengths = self.length(self.waves[at[1:] * GRID // count - 1])  # [M, K]
        logits = []
        for block in range(BLOCKS):
            first, last = count * block // BLOCKS, count * (block + 1) // BLOCKS
            starts = Edges(at[first:last], (start - total)[:, first:last], mean[:, first:last])
            ends = Edges(at[first + 1 :], (end + total)[:, first + 1 :], mean[:, first + 1 :])
            logits.append(F.pad(self._scored(starts, ends, lengths), (first, 0)))  # [B, M / BLOCKS, M]
        return torch.cat(logits, dim=1)

    def _scored(self, starts: Edges, ends: Edges, lengths: Tensor) -> Tensor:
        """Score every pair of some starts and ends, [B, starts, ends]; zero where the end is not after the start."""
        length = (ends.at - starts.at[:, None]).clamp(min=1)  # [starts, ends]
        valid = (ends.at > starts.at[:, None]).to(lengths.dtype)  # [starts, ends]
        # Below the diagonal nothing may grow large: int8 takes its range from all pairs.
        share = (ends.sums[:, None] - starts.sums[:, :, None]) * (valid / length.to(lengths.dtype))[..., None]
        pairs = F.relu(starts.terms[:, :, None] + ends.terms[:, None] + share + lengths[length - 1])  # [B, …, K]
        flat = pairs.flatten(0, 2)  # two axes: engines add bias and ReLU within such a product
        logits: Tensor = self.score(flat + F.relu(self.mix(flat))).reshape(pairs.shape[:3])
        return logits * valid
