"""Checkpoints: round trips, and refusal of everything else with one line that names the key and the cure."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stale_edge.checkpoint import METADATA_KEY, Checkpoint, load_checkpoint, read_published, save_checkpoint
from stale_edge.networks.clip_sources import read_clip
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.published_names import published_name
from stale_edge.seeded import seeded_network
from stale_edge_runtime.errors import BadDataError, CannotWriteError, InputMissingError
from tests.published_examples import write_published_checkpoint

DATA = Path(__file__).parents[1] / "data"
Command = Callable[..., tuple[int, str, str]]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def published_state(tiny_config: ModelConfig) -> State:
    return {published_name(name): value for name, value in seeded_network(tiny_config, 5).state_dict().items()}


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


class TestSafetensors:
    def test_round_trip(self, tiny_checkpoint: Checkpoint, tiny_file: Path) -> None:
        loaded = load_checkpoint(tiny_file)
        assert loaded.classes == tiny_checkpoint.classes
        assert loaded.network.config == tiny_checkpoint.network.config
        assert loaded.origin == tiny_checkpoint.origin
        assert not loaded.untrained
        for name, value in tiny_checkpoint.network.state_dict().items():
            assert torch.equal(loaded.network.state_dict()[name], value)

    def test_marks_seeded_weights(self, tiny_config: ModelConfig, tmp_path: Path) -> None:
        save_checkpoint(
            tmp_path / "a.safetensors", Checkpoint(seeded_network(tiny_config, 0), (), {"source": "seeded"})
        )
        assert load_checkpoint(tmp_path / "a.safetensors").untrained

    def test_same_content_gives_same_bytes(self, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
        for name in ("a", "b"):
            save_checkpoint(tmp_path / name, tiny_checkpoint)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputMissingError, match=r"none\.safetensors: no such file"):
            load_checkpoint(tmp_path / "none.safetensors")

    @pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 3000, -1])
    def test_truncated(self, keep: int, tiny_file: Path, tmp_path: Path) -> None:
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(tiny_file.read_bytes()[:keep])
        with pytest.raises(BadDataError, match="not a safetensors file"):
            load_checkpoint(cut)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("format", "other", "does not say format"),
            ("config", {"anchors": 0}, "'config' cannot be read"),
            ("config", [1], "'config' cannot be read"),
            ("classes", {"a": 1}, "is not a list of names"),
            ("origin", [], "is not a JSON object"),
            ("format", "stale-edge-checkpoint-2", "has format 'stale-edge-checkpoint-2', .*use a newer stale-edge"),
            ("network", "later", "holds the network 'later'; this version knows .*stale.*; use a newer stale-edge"),
        ],
    )
    def test_foreign_metadata(self, key: str, value: object, message: str, tiny_file: Path, tmp_path: Path) -> None:
        self.rewrite(tiny_file, tmp_path / "odd.safetensors", metadata={key: value})
        with pytest.raises(BadDataError, match=message):
            load_checkpoint(tmp_path / "odd.safetensors")

    def test_a_key_of_a_later_version_is_kept(self, tiny_file: Path, tmp_path: Path, command: Command) -> None:
        self.rewrite(tiny_file, tmp_path / "later.safetensors", metadata={"teacher": "x"})
        checkpoint = load_checkpoint(tmp_path / "later.safetensors")
        assert checkpoint.extra == {"teacher": "x"}
        save_checkpoint(tmp_path / "again.safetensors", checkpoint)
        assert load_checkpoint(tmp_path / "again.safetensors").extra == {"teacher": "x"}
        assert "teacher: x" in command("inspect", tmp_path / "later.safetensors")[1]

    def test_a_size_of_a_later_version_is_kept(self, tiny_file: Path, tmp_path: Path) -> None:
        config = load_checkpoint(tiny_file).network.config.to_dict() | {"depth": 3}
        self.rewrite(tiny_file, tmp_path / "later.safetensors", metadata={"config": config})
        assert load_checkpoint(tmp_path / "later.safetensors").extra == {"unknown_config": {"depth": 3}}

    def test_a_size_of_the_text_tower_of_a_later_version_is_kept(self, tiny_file: Path, tmp_path: Path) -> None:
        config = load_checkpoint(tiny_file).network.config.to_dict()
        later = config | {"text": config["text"] | {"pooling": "last"}}
        self.rewrite(tiny_file, tmp_path / "later.safetensors", metadata={"config": later})
        checkpoint = load_checkpoint(tmp_path / "later.safetensors")
        assert checkpoint.extra == {"unknown_config": {"text": {"pooling": "last"}}}
        save_checkpoint(tmp_path / "again.safetensors", checkpoint)
        assert load_checkpoint(tmp_path / "again.safetensors").extra == checkpoint.extra

    def test_a_checkpoint_of_0_1_loads(self) -> None:
        checkpoint = load_checkpoint(DATA / "v0_1" / "tiny.safetensors")
        assert (checkpoint.network_name, checkpoint.classes) == ("stale", ("surfing", "long jump", "archery"))
        assert checkpoint.network.config.ours.names == ("centring",)
        assert checkpoint.text_embeddings is not None
        assert not checkpoint.extra

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda value: value[:, :-1].contiguous(),
                r"temporal_embedding.query.weight is \[64, 31\], not \[64, 32\]",
            ),
            (lambda value: value.double(), "is F64, not F32"),
            (lambda value: value * float("nan"), "temporal_embedding.query.weight holds NaN"),
            (lambda _: None, "lacks temporal_embedding.query.weight"),
        ],
    )
    def test_tensors_that_do_not_fit(self, change: Callable, message: str, tiny_file: Path, tmp_path: Path) -> None:
        self.rewrite(tiny_file, tmp_path / "odd.safetensors", tensors={"temporal_embedding.query.weight": change})
        with pytest.raises(BadDataError, match=message):
            load_checkpoint(tmp_path / "odd.safetensors")

    def test_surplus_tensor(self, tiny_file: Path, tmp_path: Path) -> None:
        self.rewrite(tiny_file, tmp_path / "odd.safetensors", tensors={"extra": lambda _: torch.zeros(1)})
        with pytest.raises(BadDataError, match="holds extra, which the network does not have"):
            load_checkpoint(tmp_path / "odd.safetensors")

    def test_unwritable_targets(self, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
        with pytest.raises(CannotWriteError, match=r"folder .* does not exist"):
            save_checkpoint(tmp_path / "no" / "a.safetensors", tiny_checkpoint)
        with pytest.raises(CannotWriteError, match="is a folder"):
            save_checkpoint(tmp_path, tiny_checkpoint)
        assert not list(tmp_path.iterdir())

    @staticmethod
    def rewrite(
        source: Path,
        target: Path,
        metadata: dict[str, object] | None = None,
        tensors: dict[str, Callable] | None = None,
    ) -> None:
        from safetensors import safe_open

        with safe_open(source, "pt") as file:
            kept = {**json.loads(file.metadata()[METADATA_KEY]), **(metadata or {})}
        state = load_file(source)
        for name, change in (tensors or {}).items():
            changed = change(state.pop(name, None))
            if changed is not None:
                state[name] = changed
        save_file(state, target, {METADATA_KEY: json.dumps(kept)})

    @pytest.mark.parametrize("metadata", [None, {"other": "x"}, {METADATA_KEY: "{"}, {METADATA_KEY: "[" * 100_000}])
    def test_files_of_others(self, metadata: dict[str, str] | None, tmp_path: Path) -> None:
        save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata)
        with pytest.raises(BadDataError, match=r"does not say format|metadata cannot be read"):
            load_checkpoint(tmp_path / "other.safetensors")


class TestPublished:
    @pytest.mark.parametrize("prefix", ["module.", ""])
    def test_with_and_without_parallel_prefix(
        self, prefix: str, published_state: State, tiny_config: ModelConfig, tmp_path: Path
    ) -> None:
        state = {prefix + name: value for name, value in published_state.items()}
        path = write(tmp_path / "a.pth.tar", {"epoch": 4, "state_dict": state})
        conversion = read_published(path, ("a", "b"), tiny_config)
        assert conversion.epoch == 4
        assert conversion.used == len(state)
        assert not conversion.skipped
        for name, value in conversion.checkpoint.network.state_dict().items():
            assert torch.equal(value, published_state[published_name(name)])

    def test_reports_what_it_leaves_out(self, tiny_config: ModelConfig, tmp_path: Path) -> None:
        write_published_checkpoint(tmp_path / "a.pth.tar", 1, tiny_config)
        conversion = read_published(tmp_path / "a.pth.tar", (), tiny_config)
        assert conversion.skipped == {"contexts": 1, "txt_model.logit_scale": 1, "classifier.0": 2}

    def test_keeps_the_image_tower(self, tiny_config: ModelConfig, tmp_path: Path) -> None:
        write_published_checkpoint(tmp_path / "a.pth.tar", 1, tiny_config)
        published = read_clip(str(tmp_path / "a.pth.tar"))
        assert (published.form, published.name) == ("stale", "CLIP ViT-B/32")
        save_checkpoint(tmp_path / "a.safetensors", read_published(tmp_path / "a.pth.tar", (), tiny_config).checkpoint)
        converted = read_clip(str(tmp_path / "a.safetensors"))
        assert converted.tower_sha256 == published.tower_sha256
        assert converted.text_state is not None
        assert published.text_state is not None
        assert all(torch.equal(published.text_state[name], value) for name, value in converted.text_state.items())
        loaded = load_checkpoint(tmp_path / "a.safetensors")
        assert loaded.extra == {}
        assert not [name for name in loaded.network.state_dict() if "image" in name]

    def test_accepts_the_remnants_of_older_files(
        self, published_state: State, tiny_config: ModelConfig, tmp_path: Path
    ) -> None:
        old = {
            "txt_model.text_model.embeddings.position_ids": torch.arange(77)[None],
            "bn1.running_mean": torch.zeros(3),
        }
        path = write(tmp_path / "a.pth.tar", {"state_dict": {**published_state, **old}})
        assert set(read_published(path, (), tiny_config).skipped) == {"txt_model.text_model", "bn1.running_mean"}

    def test_takes_the_number_of_anchors_from_the_file(
        self, published_state: State, tiny_config: ModelConfig, tmp_path: Path
    ) -> None:
        state = {**published_state, "localizer_mask.2.weight": torch.zeros(7, 16, 1)}
        path = write(tmp_path / "a.pth.tar", {"state_dict": state})
        assert read_published(path, (), tiny_config).checkpoint.network.config.anchors == 7

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"embedding.w_qs.weight": None}, "lacks embedding.w_qs.weight"),
            ({"surprise.weight": torch.zeros(2)}, "holds surprise.weight, which the network does not have"),
            ({"embedding.fc.bias": torch.zeros(3)}, r"embedding.fc.bias is \[3\], not \[32\]"),
            ({"embedding.fc.bias": torch.zeros(32).half()}, "is torch.float16, not torch.float32"),
            ({"embedding.fc.bias": torch.full((32,), torch.inf)}, "output.bias holds NaN or infinity"),
            ({"embedding.fc.bias": torch.zeros(32).to_sparse()}, "is not a plain tensor"),
            ({"embedding.fc.bias": "text"}, "embedding.fc.bias in 'state_dict' is not a tensor"),
        ],
    )
    def test_names_what_does_not_fit(
        self, change: dict[str, object], message: str, published_state: State, tiny_config: ModelConfig, tmp_path: Path
    ) -> None:
        state = {name: value for name, value in {**published_state, **change}.items() if value is not None}
        path = write(tmp_path / "a.pth.tar", {"state_dict": state})
        with pytest.raises(BadDataError, match=message):
            read_published(path, (), tiny_config)

    @pytest.mark.parametrize("content", [[], {}, {"state_dict": {}}, {"state_dict": [1]}, torch.zeros(3)])
    def test_other_pickles(self, content: object, tmp_path: Path) -> None:
        with pytest.raises(BadDataError, match="has no 'state_dict'"):
            read_published(write(tmp_path / "a.pth.tar", content), ())

    def test_runs_no_code(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"

        class Bomb:
            def __reduce__(self) -> tuple[Callable, tuple[str, str]]:
                return (open, (str(marker), "w"))

        with pytest.raises(BadDataError, match="cannot be read as weights alone"):
            read_published(write(tmp_path / "a.pth.tar", {"state_dict": Bomb()}), ())
        assert not marker.exists()

    def test_not_even_a_zip(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pth.tar"
        for content in (b"", b"text", pickle.dumps({"state_dict": {}}), b"PK\x03\x04" + bytes(100)):
            path.write_bytes(content)
            with pytest.raises(BadDataError, match=r"is not a PyTorch checkpoint|is a Python pickle"):
                read_published(path, ())

    def test_cut_at_many_places(self, published_state: State, tiny_config: ModelConfig, tmp_path: Path) -> None:
        whole = io.BytesIO()
        torch.save({"state_dict": published_state}, whole)
        content, path = whole.getvalue(), tmp_path / "a.pth.tar"
        for keep in range(0, len(content), len(content) // 40):
            path.write_bytes(content[:keep])
            with pytest.raises(BadDataError):
                read_published(path, (), tiny_config)

    def test_flipped_bytes_never_escape(self, published_state: State, tiny_config: ModelConfig, tmp_path: Path) -> None:
        import numpy as np

        small = {name: value for name, value in published_state.items() if "embedding.weight" not in name}
        whole = io.BytesIO()
        torch.save({"state_dict": small}, whole)
        rng, path = np.random.default_rng(0), tmp_path / "a.pth.tar"
        for _ in range(150):
            content = bytearray(whole.getvalue())
            for position in rng.integers(0, len(content), 20):
                content[position] = rng.integers(256)
            path.write_bytes(content)
            with pytest.raises(BadDataError):
                read_published(path, (), tiny_config)

    def test_refuses_a_zip_that_grows(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pth.tar"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(50_000_000))
        with pytest.raises(BadDataError, match="would unpack to 50,000,000 bytes"):
            read_published(path, ())

    def test_refuses_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BadDataError, match="is not a regular file"):
            read_published(tmp_path, ())


class TestConvertCommand:
    """The full size is converted in test_model.py; here, what the command says."""

    def test_refuses_without_leaving_a_file(self, tmp_path: Path, command: Command) -> None:
        source = write(tmp_path / "bad.pth.tar", {"state_dict": {"module.x": torch.zeros(1)}})
        code, out, err = command("convert", source, "-o", tmp_path / "a.safetensors")
        assert (code, out) == (65, "")
        assert err.count("\n") == 1
        assert "bad.pth.tar: lacks bg_embeddings" in err
        assert [path.name for path in tmp_path.iterdir()] == ["bad.pth.tar"]

    @pytest.mark.parametrize(
        ("target", "code", "message"),
        [
            ("no/a.safetensors", 73, "does not exist; make the folder first"),
            (".", 73, "is a folder"),
            ("bad.pth.tar", 2, "is an input of this command"),
        ],
    )
    def test_the_target_is_looked_at_before_the_work(
        self, target: str, code: int, message: str, tmp_path: Path, command: Command
    ) -> None:
        source = write(tmp_path / "bad.pth.tar", {"state_dict": {"module.x": torch.zeros(1)}})
        before = source.read_bytes()
        found, _, err = command("convert", source, "-o", tmp_path / target)
        assert found == code
        assert message in err
        assert [path.name for path in tmp_path.iterdir()] == ["bad.pth.tar"]
        assert source.read_bytes() == before

    def test_missing_input(self, tmp_path: Path, command: Command) -> None:
        code, _, err = command("convert", tmp_path / "none.pth.tar")
        assert code == 66
        assert "none.pth.tar: no such file" in err

    def test_full_size_report(self, tmp_path: Path, command: Command) -> None:
        state = {published_name(name): value for name, value in seeded_network(ModelConfig(), 0).state_dict().items()}
        source = write(tmp_path / "best.pth.tar", {"epoch": 2, "state_dict": state})
        code, out, _ = command("convert", source, "-o", tmp_path / "a.safetensors", "--json")
        summary = json.loads(out)
        assert code == 0
        assert summary["classes"] == 200
        assert summary["anchors"] == 100
        assert summary["epoch"] == 2
        assert summary["parameters"] == sum(value.numel() for value in state.values())
