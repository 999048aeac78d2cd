"""The network against numbers that the published code computed, through the path that users take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stale_edge.checkpoint import Checkpoint, load_checkpoint
from stale_edge.class_names import activitynet_classes
from stale_edge.networks.clip_text import tokenize
from stale_edge.networks.stale.config import DesignOptions, ModelConfig
from stale_edge.networks.stale.model import STALE, foreground_gate, similarity_logits
from stale_edge.networks.stale.published_names import is_unused, published_name
from stale_edge.seeded import seeded_network
from tests.published_examples import image_tower_shapes, write_published_checkpoint

DATA = Path(__file__).parents[1] / "data"
LOGITS, MASKS = 2e-4, 1e-5


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The published size, from a published-format file through `stale-edge convert`."""
    from stale_edge.cli.app import run

    folder = tmp_path_factory.mktemp("published")
    write_published_checkpoint(folder / "best.pth.tar", seed=0)
    assert run(["convert", str(folder / "best.pth.tar"), "-o", str(folder / "stale.safetensors"), "--quiet"]) == 0
    (folder / "best.pth.tar").unlink()
    checkpoint = load_checkpoint(folder / "stale.safetensors")
    (folder / "stale.safetensors").unlink()
    return checkpoint


@pytest.fixture(scope="module")
def outputs(converted: Checkpoint) -> dict[str, np.ndarray]:
    """All outputs of the published forward pass on the golden input, in the golden layout."""
    features = np.random.default_rng(1000).standard_normal((2, 512, 100)).astype(np.float32)
    token_ids = torch.from_numpy(tokenize(converted.classes))
    with torch.inference_mode():
        text = converted.network.with_background(converted.network.encode_text(token_ids))
        out = converted.network(torch.from_numpy(features).transpose(1, 2), token_ids)
    return {
        "text": text.numpy(),
        "scores": out.class_logits.transpose(1, 2).numpy(),
        "masks": out.masks.numpy(),
        "soft_mask": out.representation_mask.numpy(),
        "video_scores": out.video_logits.numpy(),
        "features": out.embedded.transpose(1, 2).numpy(),
    }


TOLERANCES = {
    "text": LOGITS,
    "scores": LOGITS,
    "masks": MASKS,
    "soft_mask": MASKS,
    "video_scores": LOGITS,
    "features": MASKS,
}


@pytest.mark.parametrize("name", TOLERANCES)
def test_meets_the_published_numbers(name: str, outputs: dict[str, np.ndarray]) -> None:
    slices = {
        "text": np.s_[::10],
        "scores": np.s_[0, :, :60],
        "masks": np.s_[0],
        "features": np.s_[1, :, :24],
    }
    golden = np.load(DATA / "forward_seed0_slice.npz")[name]
    np.testing.assert_allclose(outputs[name][slices.get(name, np.s_[:])], golden, rtol=0, atol=TOLERANCES[name])


@pytest.mark.parametrize("name", TOLERANCES)
def test_meets_all_of_the_published_numbers(name: str, outputs: dict[str, np.ndarray], shared: Path) -> None:
    golden = np.load(shared / "golden" / "forward_seed0.npz")[name]
    assert golden.shape == outputs[name].shape
    np.testing.assert_allclose(outputs[name], golden, rtol=0, atol=TOLERANCES[name])


def test_every_published_parameter_is_used_or_known_to_be_unused() -> None:
    published = {
        name: tuple(shape) for name, shape in json.loads((DATA / "published_state_shapes.json").read_text()).items()
    }
    with torch.device("meta"):
        ours = seeded_shapes(ModelConfig())
    assert all(published[name] == shape for name, shape in ours.items())
    unused = {name: shape for name, shape in published.items() if name not in ours}
    assert all(is_unused(name) for name in unused)
    assert unused == image_tower_shapes()
    assert not any(is_unused(name) for name in ours)


def seeded_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    from stale_edge.networks.stale.model import STALE

    return {published_name(name): tuple(value.shape) for name, value in STALE(config).state_dict().items()}


def test_published_name_of_an_unknown_parameter_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        published_name("nonsense.weight")


def test_class_list_is_activitynets(converted: Checkpoint) -> None:
    assert converted.classes == activitynet_classes()
    assert len(set(converted.classes)) == 200


def test_tokens_start_end_and_pad() -> None:
    ids = tokenize(["Archery", "Hanging wallpaper"])
    assert ids.dtype == np.int64
    assert (ids[:, 0] == 49406).all()
    assert (ids[:, -1] == 49407).all()
    first_end = (ids == 49407).argmax(axis=1)
    assert first_end[0] < first_end[1] == ids.shape[1] - 1


def test_a_long_class_name_is_cut_before_its_end_token() -> None:
    ids = tokenize(["word " * 200], context=77)
    assert ids.shape == (1, 77)
    assert ids[0, -1] == 49407


@pytest.mark.parametrize("snippets", [1, 2, 3, 9, 10, 11, 257])
def test_runs_at_any_length_and_batch(snippets: int, tiny_checkpoint: Checkpoint) -> None:
    network = tiny_checkpoint.network
    rng = torch.Generator().manual_seed(snippets)
    features = torch.randn(3, snippets, 32, generator=rng)
    text = torch.randn(4, 32, generator=rng)
    with torch.inference_mode():
        together = network.detect(features, text)
        alone = [network.detect(item[None], text) for item in features]
    assert together.class_logits.shape == (3, snippets, 5)
    assert together.masks.shape == (3, 10, snippets)
    assert together.video_logits.shape == (3, 4)
    for index, single in enumerate(alone):
        torch.testing.assert_close(together.masks[index], single.masks[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.class_logits[index], single.class_logits[0], rtol=0, atol=1e-3)


def test_the_representation_mask_sees_the_whole_video(tiny_checkpoint: Checkpoint) -> None:
    features = torch.randn(2, 17, 32, generator=torch.Generator().manual_seed(0))
    token_ids = torch.from_numpy(tokenize(tiny_checkpoint.classes))
    with torch.inference_mode():
        mask = tiny_checkpoint.network(features, token_ids).representation_mask
        changed = tiny_checkpoint.network(features * torch.linspace(0.5, 2, 17)[:, None], token_ids).representation_mask
    assert mask.shape == (2, 17)
    assert bool(((mask > 0) & (mask < 1)).all())
    assert not torch.allclose(mask, changed)


class TestForegroundGate:
    def test_is_the_identity_where_lengths_agree(self) -> None:
        strength = torch.tensor([0.1, 0.9, 0.5, 0.3])
        masks = strength[None, :, None].expand(1, 4, 4)
        assert foreground_gate(masks).flatten().tolist() == [0, 1, 1, 0]

    def test_interpolates_anchors_to_snippets(self) -> None:
        masks = torch.tensor([0.0, 1.0])[None, :, None].expand(1, 2, 4)
        # Positions -0.25, 0.25, 0.75, 1.25 of two anchors: 0, 0.25, 0.75, 1, whose mean is 0.5.
        assert foreground_gate(masks).flatten().tolist() == [0, 0, 1, 1]

    def test_keeps_everything_where_all_are_equal(self) -> None:
        assert foreground_gate(torch.full((1, 5, 5), 0.5)).sum() == 5

    def test_keeps_the_only_snippet(self) -> None:
        assert foreground_gate(torch.rand(2, 7, 1, generator=torch.Generator().manual_seed(1))).sum() == 2


def test_a_network_without_text_tower_says_so(tiny_config: ModelConfig) -> None:
    network = seeded_network(replace(tiny_config, text=None), 0)
    with pytest.raises(ValueError, match="no text tower"):
        network.encode_text(torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize("snippets", [1, 10, 33])
def test_training_takes_the_same_products_in_another_order(snippets: int, tiny_checkpoint: Checkpoint) -> None:
    attention = tiny_checkpoint.network.temporal_embedding
    features = torch.randn(3, snippets, 32, generator=torch.Generator().manual_seed(snippets))
    query = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(
            attention._attend_folded(features, features), attention._attend(features, features), rtol=0, atol=1e-5
        )
        torch.testing.assert_close(
            attention._attend_folded(query, features), attention._attend(query, features), rtol=0, atol=1e-5
        )


class TestOurOptions:
    def network(self, config: ModelConfig, *names: str) -> STALE:
        torch.manual_seed(2)
        network = STALE(replace(config, text=None, ours=DesignOptions.named(names)))
        return network.requires_grad_(requires_grad=False).eval()

    def test_centring_takes_out_what_all_have_in_common(self, tiny_config: ModelConfig) -> None:
        rng = torch.Generator().manual_seed(0)
        features, text = torch.randn(2, 12, 32, generator=rng), torch.randn(4, 32, generator=rng)
        common, common_text = 5 * torch.randn(32, generator=rng), torch.randn(32, generator=rng)
        network = self.network(tiny_config, "centring")
        plain = network.detect(features, text)
        assert network.common is not None
        network.common.set(common, common_text)
        moved = network.detect(features + common, text + common_text)
        torch.testing.assert_close(moved.class_logits, plain.class_logits, rtol=0, atol=1e-3)
        torch.testing.assert_close(moved.masks, plain.masks, rtol=0, atol=1e-5)
        assert not torch.allclose(network.detect(features, text).class_logits, plain.class_logits, atol=1e-2)

    def test_a_signed_similarity_sees_negative_entries(self) -> None:
        text = torch.nn.functional.normalize(torch.tensor([[[1.0, -1.0], [1.0, 1.0]]]), dim=2)
        snippets = torch.tensor([[[1.0, -1.0], [1.0, -3.0]]])
        clamped, _ = similarity_logits(snippets, text)
        assert torch.allclose(clamped[0, 0], clamped[0, 1])
        signed, _ = similarity_logits(snippets, text, signed=True)
        assert signed[0, 0, 0] == pytest.approx(100)
        assert signed[0, 1, 0] < signed[0, 0, 0]

    def test_without_a_gate_no_snippet_is_silenced(self, tiny_config: ModelConfig) -> None:
        features = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(0))
        text = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
        gated, free = (self.network(tiny_config, *names).detect(features, text) for names in ((), ("no-gate",)))
        torch.testing.assert_close(free.masks, gated.masks)
        silenced = foreground_gate(gated.masks)[0, :, 0] == 0
        assert 0 < int(silenced.sum()) < 12
        spread = gated.class_logits[0, silenced].std(dim=0).max()  # all silenced snippets look alike
        assert spread < 1e-4 < free.class_logits[0, silenced].std(dim=0).max()
