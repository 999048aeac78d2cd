"""The weights of CLIP's towers, from every form in which they are published."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stale_edge.networks.clip_image import CLIP_MEAN, CLIP_STD, ImageTowerConfig
from stale_edge.networks.clip_sources import read_clip, seeded_clip, tower_of_state
from stale_edge.networks.stale.config import TextConfig
from stale_edge_runtime.errors import BadDataError, InputMissingError, UnavailableError, UsageError
from stale_edge_runtime.synthetic import varied_images

IMAGE = ImageTowerConfig(image_size=24, patch=8, width=64, layers=2, heads=1, hidden=96, embedding_dim=16)
TEXT = TextConfig(vocabulary=60, width=64, layers=2, heads=1, hidden=48)
SOURCE = seeded_clip(IMAGE, TEXT)


def as_openai(source=SOURCE):
    """The same weights under OpenAI's names, in half precision where that loses nothing."""
    parts = (("visual.", "visual.transformer.", source.image_state), ("", "transformer.", source.text_state))
    state = {"logit_scale": torch.tensor(4.6)}
    for prefix, layers, tower in parts:
        for name, value in tower.items():
            if name.startswith("layers."):
                _, number, part, leaf = name.split(".")
                base = f"{layers}resblocks.{number}."
                if part in {"query", "key", "value"}:
                    joined = [tower[f"layers.{number}.{one}.{leaf}"] for one in ("query", "key", "value")]
                    state[f"{base}attn.in_proj_{leaf}"] = torch.cat(joined)
                    continue
                theirs = {
                    "output": "attn.out_proj", "attention_norm": "ln_1", "feed_forward_norm": "ln_2",
                    "expand": "mlp.c_fc", "contract": "mlp.c_proj",
                }[part]  # fmt: skip
                state[f"{base}{theirs}.{leaf}"] = value
            else:
                names = {
                    "patch_embedding.weight": "visual.conv1.weight",
                    "position_embedding.weight": f"{prefix}positional_embedding",
                    "class_embedding": "visual.class_embedding",
                    "token_embedding.weight": "token_embedding.weight",
                    "first_norm": "visual.ln_pre",
                    "final_norm": "visual.ln_post" if prefix else "ln_final",
                    "projection.weight": "visual.proj" if prefix else "text_projection",
                }
                module, _, leaf = name.rpartition(".")
                theirs = names.get(name) or f"{names[module]}.{leaf}"
                state[theirs] = value.T.contiguous() if name == "projection.weight" else value
    return state


class Holder(nn.Module):
    """Modules in modules with the parameters of a state dict."""

    def __init__(self, state):
        super().__init__()
        for name in {key.partition(".")[0] for key in state}:
            inner = {key.partition(".")[2]: value for key, value in state.items() if key.partition(".")[0] == name}
            if "" in inner:
                self.register_parameter(name, nn.Parameter(inner[""], requires_grad=False))
            else:
                self.add_module(name, Holder(inner))

    def forward(self, x):
        return x


def same(found):
    assert found.tower_sha256 == SOURCE.tower_sha256
    assert found.image_config == IMAGE
    assert found.text_config == TEXT
    assert all(torch.equal(value, SOURCE.text_state[name]) for name, value in found.text_state.items())
    return True


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """A folder that transformers wrote, and its model."""
    transformers = pytest.importorskip("transformers")
    vision = {"image_size": 24, "patch_size": 8, "hidden_size": 32, "intermediate_size": 48, "hidden_act": "gelu"}
    text = {
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 24,
        "hidden_act": "gelu",
        "eos_token_id": 59,
        "bos_token_id": 58,
    }
    for part in (vision, text):
        part |= {"num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_eps": 1e-6}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    for name, value in model.named_parameters():
        value.data = torch.randn_like(value) * (0.2 if value.ndim < 2 else value[0].numel() ** -0.5)
        value.data += 1.0 if "norm" in name and name.endswith("weight") else 0.0
    folder = tmp_path_factory.mktemp("hf")
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2] * 3})
    )
    return folder, model


def test_hugging_face_with_every_size_and_both_towers_exact(hugging_face):
    folder, model = hugging_face
    found = read_clip(str(folder))
    config = found.image_config
    assert (found.form, config.heads, config.activation, config.norm_epsilon) == ("hugging-face", 2, "gelu", 1e-6)
    assert config.mean == (0.5, 0.4, 0.3)
    pixels = torch.from_numpy(varied_images(4, 24))
    prepared = ((pixels / 255 - torch.tensor(config.mean)) / torch.tensor(config.std)).permute(0, 3, 1, 2)
    ids = torch.tensor([[58, 3, 7, 59], [58, 5, 59, 59]])
    with torch.inference_mode():
        images = model.visual_projection(model.vision_model(pixel_values=prepared).pooler_output)
        texts = model.text_projection(model.text_model(input_ids=ids).pooler_output)
        torch.testing.assert_close(found.image_tower().encode_pixels(pixels), images, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.text_tower()(ids), texts, atol=1e-5, rtol=1e-5)


def test_openai_state_dict(tmp_path):
    torch.save(as_openai(), tmp_path / "ViT.pt")
    found = read_clip(str(tmp_path / "ViT.pt"))
    assert found.form == "openai"
    assert same(found)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_openai_torchscript_without_running_it(tmp_path):
    path = tmp_path / "ViT.pt"
    torch.jit.script(Holder(as_openai())).save(str(path))
    assert same(read_clip(str(path)))


def test_half_precision_has_the_hash_of_the_same_numbers(tmp_path):
    state = {name: value.half() for name, value in as_openai().items()}
    torch.save(state, tmp_path / "half.pt")
    torch.save({name: value.float() for name, value in state.items()}, tmp_path / "full.pt")
    half, full = (read_clip(str(tmp_path / f"{name}.pt")) for name in ("half", "full"))
    assert half.tower_sha256 == full.tower_sha256 != SOURCE.tower_sha256
    assert all(value.dtype == torch.float32 for value in half.image_state.values())


def test_open_clip_says_its_activation_or_is_asked(tmp_path):
    path = tmp_path / "open_clip_model.safetensors"
    save_file(as_openai(), path)
    found = read_clip(str(path))
    assert (found.form, found.image_config.activation) == ("open-clip", "gelu")
    assert "--activation" in found.notes[0]
    asked = read_clip(str(path), "quick_gelu")
    assert same(asked)
    assert not asked.notes
    vision = {"width": 64, "head_width": 32}
    config = {"model_cfg": {"quick_gelu": True, "vision_cfg": vision, "text_cfg": {"heads": 1}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    told = read_clip(str(tmp_path))
    assert (told.image_config.activation, told.image_config.heads) == ("quick_gelu", 2)
    assert (told.image_config.mean, told.image_config.std) == (CLIP_MEAN, CLIP_STD)


def test_parallel_prefix_and_text_of_its_own(tmp_path):
    state = as_openai()
    renamed = {
        "module." + (name if name.startswith(("visual.", "logit")) else f"text.{name}"): value
        for name, value in state.items()
    }
    torch.save({"state_dict": renamed}, tmp_path / "a.pt")
    assert same(read_clip(str(tmp_path / "a.pt")))


def test_activation_and_heads_are_in_the_hash():
    other = seeded_clip(ImageTowerConfig(**{**IMAGE.to_dict(), "activation": "gelu"}), None)
    assert other.tower_sha256 != SOURCE.tower_sha256


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("visual.ln_pre.bias"), "lacks first_norm.bias"),
        (lambda state: state.update({"visual.ln_pre.bias": torch.zeros(3)}), r"first_norm.bias is \[3\], not \[64\]"),
        (lambda state: state.update({"visual.attnpool.weight": torch.zeros(3)}), "no plain vision transformer"),
        (lambda state: state.pop("visual.conv1.weight"), "holds no vision transformer"),
        (lambda state: state.update({"visual.proj": torch.full((64, 16), np.nan)}), "NaN"),
        (lambda state: state.pop("text_projection"), "without a projection"),
        (lambda state: state.pop("visual.positional_embedding"), "lacks"),
    ],
)
def test_what_is_no_clip_is_refused_by_name(change, problem, tmp_path):
    state = as_openai()
    change(state)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(BadDataError, match=problem):
        read_clip(str(tmp_path / "a.pt"))


class Runs:
    def __reduce__(self):
        return (print, ("ran",))


def test_no_code_is_run(tmp_path, capsys):
    torch.save({"visual.conv1.weight": Runs()}, tmp_path / "a.pt")
    script = tmp_path / "b.pt"
    with zipfile.ZipFile(script, "w") as archive:
        archive.writestr("b/code/x.py", "")
        archive.writestr("b/data.pkl", pickle.dumps(Runs()))
    for path in (tmp_path / "a.pt", script):
        with pytest.raises(BadDataError, match="cannot be read as weights alone"):
            read_clip(str(path))
    assert "ran" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_script_whose_tensor_claims_too_much(tmp_path):
    real, bad = tmp_path / "real.pt", tmp_path / "bad.pt"
    torch.jit.script(Holder({"visual.conv1.weight": torch.ones(600)})).save(str(real))
    with zipfile.ZipFile(real) as source, zipfile.ZipFile(bad, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:40] if "/data/" in name else content)
    with pytest.raises(BadDataError, match="claims more numbers than it stores"):
        read_clip(str(bad))


def test_names_that_are_no_file(tmp_path, monkeypatch):
    with pytest.raises(InputMissingError, match="no such file or folder"):
        read_clip(str(tmp_path / "nothing"))
    with pytest.raises(InputMissingError, match=r"none of model\.safetensors"):
        read_clip(str(tmp_path))
    with pytest.raises(UsageError, match="ViT-B/32"):
        read_clip("untrained:ViT-Z/9")
    with pytest.raises(UsageError, match="quick_gelu"):
        read_clip("untrained:ViT-B/32", "swish")
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(UnavailableError, match="no network"):
        read_clip("openai/clip-vit-base-patch32")


def test_a_published_file_without_a_tower():
    assert tower_of_state({"txt_model.text_model.x": torch.zeros(2)}) is None
