"""Classes of pooled features in closed form: no gradient, so what CLIP knows of unseen classes is not trained away.

Features are centred and whitened by the covariance within classes; texts are centred, and mapped towards the features
by a ridge regression that is chosen by leaving classes out. A localiser needs `ClassesPart.forward` alone.

Symbols: B batch, T snippets or cells, D feature width, C classes, N pooled examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stale_edge_runtime.resampling import resize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stale_edge.networks.base import AnnotatedVideo

RIDGES = (None, 8.0, 2.0, 0.5, 0.1)
"""Weights of the ridge that are tried; None maps no text."""
WHITENINGS = (None, 0.3)
"""Shares of the mean variance that whitening adds to all; None whitens nothing."""
TEMPERATURES = (10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 70.0, 100.0)
"""Factors of the cosines that are tried."""
OVER_TIME_SHARE = 0.1
"""Share of the mean variance that is added to the covariance over time."""
FOLDS = 5
"""Parts that the classes are left out in."""
CALIBRATION_SEED = 0
SMALLEST = 1e-6
TIME_VIDEOS = 1024
"""Most videos that the covariance over time is taken from."""


class TextSide(NamedTuple):
    """Everything that depends on the text alone: constants of a file with classes inside."""

    rows: Tensor
    """[C, D], mapped texts of length one."""
    weights: Tensor
    """[C, D], products with centred features that are the temperature times those of whitened texts of length one with
    whitened features: whitened twice, so that no rounding of whitened features reaches the classes."""
    contrasts: Tensor | None = None
    """[C, D], the rows as they stand out over time; None where they are computed for the likely text alone."""


class Examples(NamedTuple):
    """Pooled features with their classes."""

    means: Tensor
    """[N, D], uncentred."""
    labels: Tensor
    """int64 [N]."""
    over_time: Tensor
    """[D, D], covariance of the snippets around the mean of their video."""
    spread: float
    """Root mean square of the snippets around the mean of all examples, over channels."""
    videos: int
    """Videos that were read."""


class ClassesPart(nn.Module):
    """Classes of pooled features; its buffers come from `fit`, and nothing in it is trained by gradients.

    Args:
        feature_dim: D.
    """

    common: Tensor
    spread: Tensor
    text_mean: Tensor
    whitening: Tensor
    text_map: Tensor
    temperature: Tensor
    over_time: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("common", torch.zeros(feature_dim))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("text_mean", torch.zeros(feature_dim))
        self.register_buffer("whitening", torch.eye(feature_dim))
        self.register_buffer("text_map", torch.eye(feature_dim))
        self.register_buffer("temperature", torch.full((), TEMPERATURES[-2]))
        self.register_buffer("over_time", torch.eye(feature_dim))

    def centred(self, features: Tensor) -> Tensor:
        """Subtract what all features [B, T, D] have in common, in units of their spread."""
        return (features - self.common) / self.spread

    def text_side(self, text: Tensor) -> TextSide:
        """Compute all that depends on text embeddings [C, D] alone."""
        rows = F.normalize(F.normalize(text - self.text_mean, dim=1) @ self.text_map, dim=1)  # [C, D]
        twice = rows @ (self.whitening @ self.whitening.T)  # [C, D]
        length = (twice * rows).sum(dim=1, keepdim=True).clamp(min=SMALLEST).sqrt()  # [C, 1], of whitened rows
        return TextSide(rows, twice * (self.temperature * rows.shape[1] ** -0.5 / length))

    def likely(self, video_logits: Tensor, text: TextSide) -> tuple[Tensor, Tensor]:
        """Mix the texts that a video resembles.

        Args:
            video_logits: [B, C].
            text: Text side.

        Returns:
            The likely text and what stands out of it over time, [B, 1, D] of length one each.
        """
        shares = video_logits.softmax(dim=1)[:, None]  # [B, 1, C]
        likely = F.normalize(shares @ text.rows, dim=2)
        contrast = likely @ self.over_time if text.contrasts is None else shares @ text.contrasts
        return likely, F.normalize(contrast, dim=2)

    def forward(self, centred: Tensor, text: TextSide) -> tuple[Tensor, Tensor, Tensor]:
        """Give what segments are classified by, and the whole video's logits.

        The logits of any set of rows are the sum of their class logits over the root of the sum of their Gram matrix:
        the cosine of the pooled whitened feature and the text, times the temperature.

        Args:
            centred: [B, T, D], from `centred`.
            text: Text side, from `text_side`.

        Returns:
            Class logits [B, T, C], Gram matrix [B, T, T], video logits [B, C].
        """
        whitened = centred @ self.whitening * centred.shape[2] ** -0.5  # [B, T, D]
        gram = whitened @ whitened.transpose(1, 2)
        evidence = centred @ text.weights.T  # [B, T, C]
        # Length of the mean whitened feature: the root of the mean of all products.
        length = gram.mean(dim=(1, 2)).clamp(min=SMALLEST**2).sqrt()[:, None]  # [B, 1]
        return evidence, gram, evidence.mean(dim=1) / length

    @torch.no_grad()
    def fit(self, examples: Examples, text: Tensor) -> Mapping[str, Any]:
        """Set everything from examples of the seen classes.

        Args:
            examples: Pooled features; at least one.
            text: Embeddings [C, D] of the seen classes.

        Returns:
            A record of what was chosen, JSON values.

        Raises:
            ValueError: There is no example.
        """
        if not len(examples.means):
            raise ValueError("the classes part needs at least one video with an action")
        self.common.copy_(examples.means.mean(dim=0))
        self.spread.fill_(max(examples.spread, SMALLEST))
        self.text_mean.copy_(text.mean(dim=0))
        self.over_time.copy_(_unit_diagonal(_precision(examples.over_time, OVER_TIME_SHARE)))
        means = (examples.means - self.common) / self.spread  # [N, D]
        present, labels = examples.labels.unique(return_inverse=True)  # classes without examples take no part
        texts = F.normalize(text - self.text_mean, dim=1)[present]
        ridge, share, temperature, held_out = _choose(means, labels, texts)
        self.whitening.copy_(_whitening(means, labels, len(present), share))
        self.text_map.copy_(_text_map(means, labels, texts, ridge))
        self.temperature.fill_(temperature)
        return {
            "videos": examples.videos,
            "examples": len(means),
            "classes with examples": len(present),
            "ridge": ridge,
            "whitening": share,
            "temperature": temperature,
            "accuracy on classes left out": held_out,
        }


def pool_examples(
    videos: Iterable[AnnotatedVideo],
    classes: Sequence[str],
    snippets: int | None,
    feature_dim: int,
) -> Examples:
    """Pool the features of every video: all of it for its only class, else what each class's actions cover.

    Args:
        videos: Videos of the seen classes.
        classes: Names of these classes.
        snippets: Length that videos are resized to; None takes them as they are.
        feature_dim: D.
    """
    index = {name: row for row, name in enumerate(classes)}
    means: list[Tensor] = []
    labels: list[int] = []
    scatter, squares, rows, count = torch.zeros(feature_dim, feature_dim), 0.0, 0, 0
    for video in videos:
        features = video.features if snippets is None else resize(video.features, snippets)
        for label, row in _pooled(features, video):
            labels.append(index[label])
            means.append(torch.from_numpy(row))
        if count < TIME_VIDEOS:
            around = torch.from_numpy(features - features.mean(axis=0))
            scatter += around.T @ around
            rows += len(around)
        count += 1
    stacked = torch.stack(means) if means else torch.zeros(0, feature_dim)
    over_time = scatter / max(rows, 1)
    if means:
        squares = float((stacked - stacked.mean(dim=0)).square().mean() + over_time.diagonal().mean())
    return Examples(stacked, torch.tensor(labels, dtype=torch.int64), over_time, squares**0.5, count)


def _pooled(features: NDArray[np.float32], video: AnnotatedVideo) -> Iterator[tuple[str, NDArray[np.float32]]]:
    names = list(dict.fromkeys(instance.label for instance in video.instances))
    if len(names) == 1 and not video.hidden:
        yield names[0], features.mean(axis=0)
        return
    centres = (np.arange(len(features)) + 0.5) * video.duration_s / len(features)
    for name in names:
        inside = np.zeros(len(features), dtype=bool)
        for instance in video.instances:
            if instance.label == name:
                inside |= (instance.start_s <= centres) & (centres < instance.end_s)
        if inside.any():
            yield name, features[inside].mean(axis=0)


def _class_means(means: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean [C, D] of each class; zeros without examples."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)[:, None]
    return means.new_zeros(classes, means.shape[1]).index_add_(0, labels, means) / counts


def _precision(covariance: Tensor, share: float) -> Tensor:
    dim = len(covariance)
    level = share * covariance.trace() / dim + SMALLEST
    inverse: Tensor = torch.linalg.inv(covariance + level * torch.eye(dim))
    return inverse


def _unit_diagonal(matrix: Tensor) -> Tensor:
    return matrix / matrix.diagonal().mean()


def _whitening(means: Tensor, labels: Tensor, classes: int, share: float | None) -> Tensor:
    """Factor L [D, D] of the inverse covariance within classes."""
    if share is None:
        return torch.eye(means.shape[1])
    around = means - _class_means(means, labels, classes)[labels]
    return _unit_diagonal(torch.linalg.cholesky(_precision(around.T @ around / len(around), share)))


def _text_map(means: Tensor, labels: Tensor, texts: Tensor, ridge: float | None) -> Tensor:
    """Map [D, D] from texts to mapped texts: ridge regression of what class means have beside their own text."""
    eye = torch.eye(means.shape[1])
    rows = labels.unique()
    if ridge is None or not len(rows):
        return eye
    given = texts[rows]  # [C, D]
    wanted = F.normalize(_class_means(means, labels, len(texts))[rows], dim=1)
    rest = wanted - given * (wanted * given).sum(dim=1, keepdim=True)
    # The dual form: as many equations as classes.
    mapped: Tensor = eye + given.T @ torch.linalg.solve(given @ given.T + ridge * torch.eye(len(given)), rest)
    return mapped


def _choose(means: Tensor, labels: Tensor, texts: Tensor) -> tuple[float | None, float | None, float, float | None]:
    """Ridge, whitening and temperature that do best on classes left out, and their accuracy there."""
    classes = len(texts)
    if classes < 2:
        return None, WHITENINGS[-1], TEMPERATURES[-2], None
    order = np.random.default_rng(CALIBRATION_SEED).permutation(classes)
    folds = [torch.from_numpy(order[first::FOLDS].copy()) for first in range(min(FOLDS, classes))]
    best: tuple[float, float | None, float | None, float, float] | None = None
    for share in WHITENINGS:
        for ridge in RIDGES:
            cosines, truth = _left_out(means, labels, texts, folds, ridge, share)
            losses = {value: float(F.cross_entropy(value * cosines, truth)) for value in TEMPERATURES}
            temperature = min(losses, key=lambda value: losses[value])
            accuracy = float((cosines.argmax(dim=1) == truth).float().mean())
            found = (losses[temperature], ridge, share, temperature, accuracy)
            best = found if best is None or found[0] < best[0] else best
    assert best is not None  # noqa: S101 (there are choices)
    return best[1], best[2], best[3], best[4]


def _left_out(
    means: Tensor, labels: Tensor, texts: Tensor, folds: Sequence[Tensor], ridge: float | None, share: float | None
) -> tuple[Tensor, Tensor]:
    """Cosines [N, C] of all examples with texts mapped by what was learned without their classes, and labels [N]."""
    cosines, truth = [], []
    for fold in folds:
        out = torch.isin(labels, fold)
        whitening = _whitening(means[~out], labels[~out], len(texts), share)
        mapped = F.normalize(texts @ _text_map(means[~out], labels[~out], texts, ridge), dim=1)
        pooled = F.normalize(means[out] @ whitening, dim=1)
        cosines.append(pooled @ F.normalize(mapped @ whitening, dim=1).T)
        truth.append(labels[out])
    return torch.cat(cosines), torch.cat(truth)
