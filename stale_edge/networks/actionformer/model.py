"""The network ActionFormer, written from the description in docs/network.md.

Symbols: B batch, T snippets after padding, n true snippets, D feature width, E embedding width, H heads, C classes,
L levels, T_l = T / 2^l positions of level l, P positions of all levels. Tensors are `[B, channels, T]` inside.
Names of parameters are the published ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge.networks.actionformer.attention import global_attention, local_attention
from stale_edge.networks.actionformer.config import GLOBAL

if TYPE_CHECKING:
    from stale_edge.networks.actionformer.config import ActionFormerConfig

EPSILON: Final = 1e-5
"""Added to the variance in a layer norm."""
FIRST_SCALE: Final = 1e-4
"""A residual branch's scale before training."""
FIRST_CLASS_BIAS: Final = -math.log(99)
"""Logit of every class before training: a probability of 1 %."""


class ActionFormerOutput(NamedTuple):
    """Outputs for all levels, concatenated, the finest first."""

    class_logits: Tensor
    """[B, P, C]; 0 at padded positions."""
    offsets: Tensor
    """[B, P, 2]: from each position back to the start and on to the end, in strides of its level; 0 where padded."""


class ChannelNorm(nn.Module):
    """Layer norm over the channels of `[B, E, T]`.

    Args:
        width: E.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, width, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1))

    def forward(self, features: Tensor) -> Tensor:
        """[B, E, T] to [B, E, T]."""
        centred = features - features.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        return centred / (variance + EPSILON).sqrt() * self.weight + self.bias


class MaskedConv(nn.Module):
    """Convolution over time whose outputs beyond the video are zero, bias included.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        stride: Positions from one output to the next.
        groups: Groups of channels, as of `nn.Conv1d`.
        bias: Whether there is one.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, groups: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, stride=stride, padding=1, groups=groups, bias=bias)
        if bias:
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[B, in, T] and the mask [B, 1, T / stride] of the output to [B, out, T / stride]."""
        convolved: Tensor = self.conv(features) * mask
        return convolved


class ResidualScale(nn.Module):
    """Scale of a residual branch for each channel; in training the branch is dropped for whole samples.

    Args:
        width: E.
        drop: Share of samples that lose the branch.
    """

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.scale = nn.Parameter(torch.full((1, width, 1), FIRST_SCALE))

    def forward(self, branch: Tensor) -> Tensor:
        """[B, E, T] to [B, E, T]."""
        scaled = self.scale * branch
        if not self.training:
            return scaled
        kept = (1 - self.drop + torch.rand(len(scaled), 1, 1, dtype=scaled.dtype, device=scaled.device)).floor()
        return scaled / (1 - self.drop) * kept


class Attention(nn.Module):
    """Attention with depthwise convolutions before its projections, over windows or the whole video.

    Args:
        config: Sizes.
        stride: Positions from one output to the next.
        window: Positions that a query sees; 1 or less is all.
    """

    def __init__(self, config: ActionFormerConfig, stride: int, window: int) -> None:
        super().__init__()
        width = config.width
        self.heads, self.window = config.heads, window
        for name in ("query", "key", "value"):
            self.add_module(f"{name}_conv", MaskedConv(width, width, stride=stride, groups=width))
            self.add_module(f"{name}_norm", ChannelNorm(width))
            self.add_module(name, _pointwise(width, width))
        self.proj = _pointwise(width, width)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[B, E, T] and the mask [B, 1, T / stride] of the output to [B, E, T / stride]."""
        query, key, value = (
            self.get_submodule(name)(
                self.get_submodule(f"{name}_norm")(self.get_submodule(f"{name}_conv")(features, mask))
            )
            for name in ("query", "key", "value")
        )
        attend = global_attention if self.window <= GLOBAL else local_attention
        attended: Tensor = self.proj(attend(query, key, value, mask, self.heads, self.window // 2)) * mask
        return attended


class Block(nn.Module):
    """Transformer block, which halves the time axis where its stride is 2.

    Args:
        config: Sizes.
        stride: 1 or 2.
        window: Attention window.
    """

    def __init__(self, config: ActionFormerConfig, stride: int, window: int) -> None:
        super().__init__()
        width = config.width
        self.stride = stride
        self.ln1, self.ln2 = ChannelNorm(width), ChannelNorm(width)
        self.attn = Attention(config, stride, window)
        # As published, where dropout layers stand between: 0, GELU, dropout, 3, dropout.
        self.mlp = nn.Sequential(
            _pointwise(width, 4 * width), nn.GELU(), nn.Identity(), _pointwise(4 * width, width), nn.Identity()
        )
        if config.drop_path:
            self.drop_path_attn: nn.Module = ResidualScale(width, config.drop_path)
            self.drop_path_mlp: nn.Module = ResidualScale(width, config.drop_path)
        else:
            self.drop_path_attn, self.drop_path_mlp = nn.Identity(), nn.Identity()

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[B, E, T] and the mask [B, 1, T / stride] of the output to [B, E, T / stride]."""
        attended = self.attn(self.ln1(features), mask)
        skip = features if self.stride == 1 else F.max_pool1d(features, 3, stride=2, padding=1)
        hidden = skip * mask + self.drop_path_attn(attended)
        out: Tensor = hidden + self.drop_path_mlp(self.mlp(self.ln2(hidden)) * mask)
        return out


class Backbone(nn.Module):
    """Embedding, stem and pyramid.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.embd = nn.ModuleList([MaskedConv(config.feature_dim, width), MaskedConv(width, width)])
        self.embd_norm = nn.ModuleList([ChannelNorm(width), ChannelNorm(width)])
        self.stem = nn.ModuleList([Block(config, 1, config.windows[0]) for _ in range(config.stem_blocks)])
        self.branch = nn.ModuleList([Block(config, 2, window) for window in config.windows[1:]])

    def embed(self, features: Tensor, mask: Tensor, table_length: int) -> Tensor:
        """Embed features [B, D, T], whose mask is [B, 1, T], as [B, E, T].

        Args:
            features: Zero where padded.
            mask: Mask of the video.
            table_length: T that the position table is made for.
        """
        for conv, norm in zip(self.embd, self.embd_norm, strict=True):
            features = norm(conv(features, mask)).relu()
        if self.config.position_table:
            table = position_table(self.config.width, self.config.max_length, table_length).to(features)
            features = features + table[:, : features.shape[2]] * mask
        return features

    def forward(self, features: Tensor, masks: list[Tensor], table_length: int) -> list[Tensor]:
        """Features [B, D, T] and the mask [B, 1, T_l] of every level to [B, E, T_l] of every level."""
        features = self.embed(features, masks[0], table_length)
        for block in self.stem:
            features = block(features, masks[0])
        levels = [features]
        for block, mask in zip(self.branch, masks[1:], strict=True):
            levels.append(block(levels[-1], mask))
        return levels


class Neck(nn.Module):
    """A layer norm for every level.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        self.fpn_norms = nn.ModuleList([ChannelNorm(config.width) for _ in config.windows])

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """[B, E, T_l] of every level to the same."""
        return [norm(level) for norm, level in zip(self.fpn_norms, levels, strict=True)]


class _Head(nn.Module):
    """Two hidden layers, shared by all levels."""

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        width = config.head_width
        self.head = nn.ModuleList([MaskedConv(config.width, width), MaskedConv(width, width)])
        self.norm = nn.ModuleList([ChannelNorm(width), ChannelNorm(width)])

    def hidden(self, level: Tensor, mask: Tensor) -> Tensor:
        for conv, norm in zip(self.head, self.norm, strict=True):
            level = norm(conv(level, mask)).relu()
        return level


class ClassHead(_Head):
    """Logits of every class.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__(config)
        self.cls_head = MaskedConv(config.head_width, config.classes, bias=True)
        nn.init.constant_(self.cls_head.conv.bias, FIRST_CLASS_BIAS)  # type: ignore[arg-type]

    def forward(self, levels: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """[B, E, T_l] to [B, C, T_l] of every level."""
        return [self.cls_head(self.hidden(level, mask), mask) for level, mask in zip(levels, masks, strict=True)]


class Scale(nn.Module):
    """A factor that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Multiply values of any shape."""
        return values * self.scale


class OffsetHead(_Head):
    """Distances to start and end, in strides.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__(config)
        self.scale = nn.ModuleList([Scale() for _ in config.windows])
        self.offset_head = MaskedConv(config.head_width, 2, bias=True)

    def forward(self, levels: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """[B, E, T_l] to [B, 2, T_l] of every level."""
        return [
            scale(self.offset_head(self.hidden(level, mask), mask)).relu()
            for scale, level, mask in zip(self.scale, levels, masks, strict=True)
        ]


class ActionFormer(nn.Module):
    """Network from features to class logits and offsets of every position of every level.

    Args:
        config: Sizes.

    Attributes:
        config: Sizes.
        text_tower: None: text plays no part.
    """

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.text_tower = None
        self.backbone = Backbone(config)
        self.neck = Neck(config)
        self.cls_head = ClassHead(config)
        self.reg_head = OffsetHead(config)

    def forward(self, features: Tensor, lengths: Tensor, table_length: int | None = None) -> ActionFormerOutput:
        """Run on padded videos.

        Args:
            features: [B, T, D], zero where padded; T a multiple of the last level's stride.
            lengths: int64 [B], true snippets n of each.
            table_length: Length that the position table is made for; T by default.
        """
        masks = level_masks(lengths, features.shape[1], self.config.strides)
        levels = self.backbone(features.transpose(1, 2), masks, table_length or features.shape[1])
        levels = self.neck(levels)
        logits, offsets = self.cls_head(levels, masks), self.reg_head(levels, masks)
        return ActionFormerOutput(*(torch.cat(parts, dim=2).transpose(1, 2) for parts in (logits, offsets)))

    def detect(self, features: Tensor) -> ActionFormerOutput:
        """Run on videos of one length n as the published evaluation pads them, without its long padding.

        A tail beyond the video changes answers by being there, and not by its length; see `short_padding`.

        Args:
            features: [B, n, D].

        Returns:
            Outputs at the positions of the video alone.
        """
        snippets, table_length = features.shape[1], self.config.padded(features.shape[1])
        padded = short_padding(self.config, snippets)
        lengths = torch.full((len(features),), snippets, device=features.device)
        output = self(F.pad(features, (0, 0, 0, padded - snippets)), lengths, table_length)
        kept = torch.cat(level_masks(lengths[:1], padded, self.config.strides), dim=2)[0, 0] > 0
        return ActionFormerOutput(*(part[:, kept] for part in output))


def short_padding(config: ActionFormerConfig, snippets: int) -> int:
    """Give the least length T' whose answers are those of the published padding T.

    Args:
        config: Sizes.
        snippets: True length n.
    """
    coarsest = config.strides[-1]
    return min(config.padded(snippets), coarsest * (-(-snippets // coarsest) + 1))


def level_masks(lengths: Tensor, padded: int, strides: tuple[int, ...]) -> list[Tensor]:
    """Give the mask float [B, 1, T_l] of every level.

    Args:
        lengths: int64 [B], true snippets.
        padded: T.
        strides: Strides of the levels.
    """
    return [
        (torch.arange(padded // stride, device=lengths.device) * stride < lengths[:, None])[:, None].float()
        for stride in strides
    ]


def position_table(width: int, max_length: int, length: int) -> Tensor:
    """Give the sines and cosines of positions, float32 [E, T].

    Args:
        width: E.
        max_length: Length that the table is made for; a longer one is interpolated from it.
        length: T.
    """
    positions = torch.arange(max_length, dtype=torch.float64)
    channels = torch.arange(width, dtype=torch.float64)
    angles = positions / 10_000 ** (2 * (channels // 2) / width)[:, None]
    table: Tensor = torch.where(channels[:, None] % 2 == 0, angles.sin(), angles.cos()).float() / width**0.5
    if length <= max_length:
        return table[:, :length]
    return F.interpolate(table[None], size=length, mode="linear", align_corners=False)[0]


def _pointwise(inputs: int, outputs: int) -> nn.Conv1d:
    convolution = nn.Conv1d(inputs, outputs, 1)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution
