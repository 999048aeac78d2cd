"""The loss against the published numbers, against a plain second implementation, and at its edges."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge.networks.stale.loss import LOSS_WEIGHTS, LossWeights, StaleLoss
from stale_edge.networks.stale.model import NetworkOutput
from stale_edge.networks.stale.targets import Targets

SLICE = Path(__file__).parents[1] / "data" / "loss_split50_seed10.npz"
GOLDEN_50 = {"classification": 12.840876579284668, "mask": 0.9238945245742798, "foreground": 0.9104097485542297}
"""Of golden/loss.json; the slice has no features and so no consistency."""


def golden(arrays):
    def tensor(name):
        return torch.from_numpy(np.array(arrays[name]))

    videos, snippets = arrays["gt_cls"].shape
    has_features = "features" in arrays
    embedded = tensor("features").transpose(1, 2) if has_features else torch.ones(videos, snippets, 2)
    output = NetworkOutput(
        class_logits=tensor("pred_cls").transpose(1, 2),
        masks=tensor("pred_act"),
        video_logits=tensor("pred_vid"),
        embedded=embedded,
        representation_mask=tensor("pred_soft"),
    )
    targets = Targets(
        snippet_classes=tensor("gt_cls").long(),
        masks=tensor("gt_act").bool(),
        foreground=tensor("gt_fg").bool(),
        video_classes=tensor("gt_cas").bool(),
        known=torch.ones(videos, snippets, dtype=torch.bool),
    )
    return output, targets


@pytest.mark.parametrize(("split", "preset"), [(75, "75/25"), (50, "50/50")])
def test_meets_the_published_numbers(shared, split, preset):
    name = f"split{split}_seed10"
    expected = json.loads((shared / "golden/loss.json").read_text())[name]
    with np.load(shared / f"golden/loss_{name}.npz") as arrays:
        output, targets = golden(arrays)
    found = StaleLoss(LOSS_WEIGHTS[preset], compat="stale")(output, targets)
    for term, value in found._asdict().items():
        assert value.item() == pytest.approx(expected[term], abs=1e-5), term
    weights = LOSS_WEIGHTS[preset]
    published = {"classification": "alpha", "mask": "beta", "foreground": "delta", "consistency": "sigma"}
    assert dataclasses.asdict(weights) == {term: expected[letter] for term, letter in published.items()}


def test_meets_the_published_numbers_without_the_shared_folder():
    with np.load(SLICE) as arrays:
        output, targets = golden(arrays)
    found = StaleLoss(LOSS_WEIGHTS["50/50"], compat="stale")(output, targets)
    for term, value in GOLDEN_50.items():
        assert getattr(found, term).item() == pytest.approx(value, abs=1e-5), term


def drawn(seed, videos=3, snippets=11, classes=4, width=6):
    """A random prediction and random, consistent targets."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(shape, generator=generator)

    output = NetworkOutput(
        class_logits=8 * random(videos, snippets, classes + 1) - 4,
        masks=random(videos, snippets, snippets),
        video_logits=8 * random(videos, classes) - 4,
        embedded=random(videos, snippets, width) - 0.5,
        representation_mask=random(videos, snippets),
    )
    snippet_classes = torch.randint(classes + 1, (videos, snippets), generator=generator)
    targets = Targets(
        snippet_classes=snippet_classes,
        masks=random(videos, snippets, snippets) > 0.6,
        foreground=snippet_classes < classes,
        video_classes=torch.nn.functional.one_hot(snippet_classes, classes + 1).any(dim=1)[:, :classes],
        known=random(videos, snippets) > 0.3,
    )
    return output, targets


def plain(output, targets, rows):
    """The same terms, written number by number in float64."""
    out = {name: value.double().numpy() for name, value in output._asdict().items()}
    wanted = [tensor.numpy() for tensor in targets.tensors()]
    snippet_classes, masks, foreground, video_classes, known = wanted
    videos, snippets = snippet_classes.shape

    def cross_entropy(logits, index):
        return math.log(sum(math.exp(x) for x in logits)) - logits[index]

    def focal(x):
        return (1 - math.exp(-x)) ** 2 * x

    cells = [(b, t) for b in range(videos) for t in range(snippets) if known[b, t]]
    here = np.mean([cross_entropy(out["class_logits"][b, t], snippet_classes[b, t]) for b, t in cells])
    labelled = [b for b in range(videos) if video_classes[b].any()]
    whole = np.mean([cross_entropy(out["video_logits"][b], list(video_classes[b]).index(True)) for b in labelled])
    fore = np.mean(
        [-math.log(p if foreground[b, t] else 1 - p) for b, t in cells for p in [out["representation_mask"][b, t]]]
    )
    positive = [out["masks"][b, a, t] for b, a in cells for c, t in cells if b == c and masks[b, a, t]]
    negative = [out["masks"][b, a, t] for b, a in cells for c, t in cells if b == c and not masks[b, a, t]]
    p, n = 10 + len(positive), 20 + len(positive) + len(negative)
    ratio = n / p
    total = sum(0.5 * ratio * math.log(x + 1e-6) for x in positive)
    total += sum(0.5 * ratio / (ratio - 1) * math.log(1 - x + 1e-6) for x in negative)
    dice, apart = [], []
    for b in range(videos):
        pairs = [
            (out["masks"][b, a, t], masks[b, a, t])
            for a in range(snippets)
            for t in range(snippets)
            if known[b, a] and known[b, t]
        ]
        dice.append(1 - (sum(x for x, y in pairs if y) + 1) / (sum(x * x + y for x, y in pairs) + 1))
        by_class = []
        for logits in out["class_logits"][b, :, :rows]:
            powers = np.exp(logits - logits.max())
            by_class.append((powers / powers.sum()).max())
        by_mask = out["masks"][b].max(axis=1)
        one, two = (
            out["embedded"][b][np.array(strength) >= np.mean(strength)].mean(axis=0) for strength in (by_class, by_mask)
        )
        apart.append(1 - one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    return {
        "classification": 0.9 * focal(here) + focal(whole),
        "mask": 0.4 * -total / n + 0.6 * np.mean(dice),
        "foreground": fore,
        "consistency": np.mean(apart),
    }


@pytest.mark.parametrize(("compat", "rows"), [(None, 4), ("stale", 5)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_a_plain_implementation(seed, compat, rows):
    output, targets = drawn(seed)
    assert targets.video_classes.any(dim=1).all()
    assert not targets.known.all()
    weights = LossWeights(2.0, 3.0, 5.0, 7.0)
    found = StaleLoss(weights, compat)(output, targets)
    expected = plain(output, targets, rows)
    for term, value in expected.items():
        assert getattr(found, term).item() == pytest.approx(value, rel=1e-5, abs=1e-6), term
    total = sum(expected[term] * weight for term, weight in dataclasses.asdict(weights).items())
    assert found.total.item() == pytest.approx(total, rel=1e-5)


def test_default_consistency_leaves_the_background_out():
    output, targets = drawn(5)
    louder = output.class_logits.clone()
    louder[:, ::2, -1] += 20
    changed = output._replace(class_logits=louder)
    default, compat = StaleLoss(), StaleLoss(compat="stale")
    assert default(output, targets).consistency == default(changed, targets).consistency
    assert compat(output, targets).consistency != compat(changed, targets).consistency


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_what_is_not_known_does_not_count(seed):
    output, targets = drawn(seed)
    other_output, other_targets = drawn(seed + 1)
    known = targets.known
    both = known[:, :, None] & known[:, None, :]
    mixed_output = output._replace(
        class_logits=torch.where(known[..., None], output.class_logits, other_output.class_logits),
        masks=torch.where(both, output.masks, other_output.masks),
        representation_mask=torch.where(known, output.representation_mask, other_output.representation_mask),
    )
    mixed_targets = dataclasses.replace(
        targets,
        snippet_classes=torch.where(known, targets.snippet_classes, other_targets.snippet_classes),
        masks=torch.where(both, targets.masks, other_targets.masks),
        foreground=torch.where(known, targets.foreground, other_targets.foreground),
    )
    one, two = StaleLoss()(output, targets), StaleLoss()(mixed_output, mixed_targets)
    for term in ("classification", "mask", "foreground"):
        assert getattr(one, term) == getattr(two, term), term


def test_a_video_without_classes_teaches_no_video_class():
    output, targets = drawn(3)
    empty = dataclasses.replace(targets, video_classes=targets.video_classes & False)
    shifted = output._replace(video_logits=output.video_logits * 9)
    assert StaleLoss()(output, empty).total == StaleLoss()(shifted, empty).total


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_extremes_stay_finite_and_have_gradients(value, known):
    output, targets = drawn(4)
    targets = dataclasses.replace(targets, known=torch.full_like(targets.known, known))
    full = output._replace(
        class_logits=100 * output.class_logits.sign(),
        masks=torch.full_like(output.masks, value),
        video_logits=100 * output.video_logits.sign(),
        representation_mask=torch.full_like(output.representation_mask, value),
    )
    leaves = NetworkOutput(*(tensor.clone().requires_grad_() for tensor in full))
    found = StaleLoss()(leaves, targets)
    assert all(torch.isfinite(term) for term in found)
    found.total.backward()
    for name, leaf in leaves._asdict().items():
        assert torch.isfinite(leaf.grad).all(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    output, targets = drawn(6, videos=2, snippets=100)
    halves = NetworkOutput(*(tensor.to(dtype) for tensor in output))
    exact = StaleLoss()(NetworkOutput(*(tensor.float() for tensor in halves)), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = StaleLoss()(halves, targets)
    for name, value in found._asdict().items():
        assert value.dtype == torch.float32
        assert value == getattr(exact, name), name


def test_anchors_and_snippets_must_agree():
    output, targets = drawn(0)
    with pytest.raises(ValueError, match="as many anchors as snippets"):
        StaleLoss()(output._replace(masks=output.masks[:, :5]), targets)


def test_videos_can_change_places():
    output, targets = drawn(8, videos=5)
    turn = torch.tensor([3, 1, 4, 0, 2])
    turned = StaleLoss()(
        NetworkOutput(*(tensor[turn] for tensor in output)), Targets(*(tensor[turn] for tensor in targets.tensors()))
    )
    assert turned.total.item() == pytest.approx(StaleLoss()(output, targets).total.item(), rel=1e-6)
