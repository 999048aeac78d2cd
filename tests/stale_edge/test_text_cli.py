"""Classes typed on the device: `stale-edge text`, and `detect --class`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_edge.cli.console import Reporter
from stale_edge.cli.vocabulary import VocabularyOptions, read_vocabulary
from stale_edge.networks.clip_text import PROMPT, clip_tokenizer, tokenize
from stale_edge_runtime.contract import ACTION, ACTIONFORMER
from stale_edge_runtime.model_file import read_model
from stale_edge_runtime.text.tower import TextEncoder
from stale_edge_runtime.tower_files import has_weights

DATA = Path(__file__).parents[1] / "data"
TOWER, OPEN = DATA / "tiny_text_tower.onnx", DATA / "tiny_open.onnx"
NAMES = ("pouring tea", "opening a fridge")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def features(tmp_path):
    path = tmp_path / "one.npy"
    np.save(path, 3 * np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
    return path


def test_embeddings_of_names(command, tmp_path, cache):
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    words = ("text", tmp_path / "names.txt", "-o", tmp_path / "names.npy", "--text-tower", TOWER)
    code, out, err = command(*words, "--json")
    assert code == 0, err
    assert json.loads(out)["classes"] == list(NAMES)
    np.testing.assert_array_equal(np.load(tmp_path / "names.npy"), TextEncoder(TOWER).embed(NAMES))
    assert "text of 2 classes by" in err
    assert "as in 'a video of action pouring tea'" in err
    assert "from the cache" in command(*words)[2]
    assert len(list(cache.rglob("*.text"))) == 1
    (one, *_) = cache.rglob("*.text")
    one.unlink()
    assert command(*words, "--no-cache")[0] == 0
    assert not list(cache.rglob("*.text"))


def test_names_and_a_file_of_embeddings_find_the_same(command, features, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    command("text", tmp_path / "names.txt", "-o", tmp_path / "names.npy", "--text-tower", TOWER)
    given = ("--text-embeddings", tmp_path / "names.npy", "--classes", tmp_path / "names.txt")
    typed = ("--class", NAMES[0], "--class", NAMES[1], "--text-tower", TOWER)
    listed = ("--classes", tmp_path / "names.txt", "--text-tower", TOWER)
    found = [command("detect", OPEN, features, "--json", *more) for more in (given, typed, listed)]
    assert [code for code, _, _ in found] == [0, 0, 0], found
    first, *others = (json.loads(out)["results"] for _, out, _ in found)
    assert first["one"]
    assert all(other == first for other in others)


def test_the_tower_is_found_beside_the_model(command, features, tmp_path):
    (tmp_path / "mine.open.onnx").write_bytes(OPEN.read_bytes())
    (tmp_path / "mine.text-tower.onnx").write_bytes(TOWER.read_bytes())
    code, _, err = command("detect", tmp_path / "mine.open.onnx", features, "--class", "pouring tea")
    assert code == 0, err
    assert "mine.text-tower.onnx" in err


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        ((), 2, "is an open-vocabulary file; name classes with --class or --classes"),
        (("--class", "a"), 66, "models/clip-text*.onnx"),
        (("--class", "a", "--classes", "names.txt"), 2, "--class and --classes: both name classes"),
        (("--class", "a\x1b[0m", "--text-tower", TOWER), 2, "is no class name"),
        (("--class", "a", "--text-tower", OPEN), 2, "is a detector file"),
    ],
)
def test_what_does_not_go(command, features, words, code, problem):
    found, _, err = command("detect", OPEN, features, *words)
    assert (found, problem in err) == (code, True), err


def named(path: Path, folder: Path, **values: str) -> Path:
    """Copy a file of the tests with other metadata."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    for key, value in values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = f"stale_edge.{key}", value
    onnx.save(model, target := folder / f"{'-'.join(values.values())}.{path.name}")
    return target


class TestHashes:
    def test_a_tower_of_other_weights_is_refused_with_the_cure(self, command, features, tmp_path):
        model, other = named(OPEN, tmp_path, text_sha256="aa"), named(TOWER, tmp_path, text_sha256="bb")
        code, _, err = command("detect", model, features, "--class", "a", "--text-tower", other)
        assert code == 65
        assert "has other weights than the CLIP that" in err
        assert "--text-embeddings" in err

    @pytest.mark.parametrize(
        ("learned", "tower"),
        [
            (("aa", ""), ("", "")),
            (("", ""), ("aa", "")),
            (("aa", "cc"), ("aa", "dd")),
            (("aa", "cc"), ("", "cc")),
        ],
    )
    def test_what_is_not_known_or_agrees_is_taken(self, learned, tower):
        info = read_model(TOWER).info
        of_tower = replace(info, text_sha256=tower[0], tower_sha256=tower[1])
        assert has_weights(of_tower, learned[1], learned[0])

    def test_the_image_tower_of_another_clip_tells_too(self):
        assert not has_weights(replace(read_model(TOWER).info, tower_sha256="bb"), "aa")

    def test_of_several_towers_the_one_with_the_weights_is_taken(self, command, features, tmp_path):
        model = named(OPEN, tmp_path, text_sha256="bb")
        for digest in ("aa", "bb"):
            named(TOWER, tmp_path, text_sha256=digest).rename(tmp_path / f"clip-text-{digest}.onnx")
        code, _, err = command("detect", model, features, "--class", "a")
        assert code == 0, err
        assert "clip-text-bb.onnx" in err


def test_a_network_that_tells_only_when_takes_names_too(tmp_path):
    info = replace(read_model(DATA / "tiny_baked.onnx").info, network=ACTIONFORMER, classes=(ACTION,))
    given = VocabularyOptions(names=NAMES, tower=TOWER, cache=False)
    found = read_vocabulary(given, info, tmp_path / "model.onnx", Reporter(quiet=True))
    assert found is not None
    assert found.classes == NAMES
    np.testing.assert_array_equal(found.text_embeddings, TextEncoder(TOWER).embed(NAMES))
    assert read_vocabulary(VocabularyOptions(), info, tmp_path / "model.onnx", Reporter(quiet=True)) is None


def test_words_of_training_go_before_the_names(tmp_path):
    info = replace(read_model(OPEN).info, prompt="a photo of ")
    given = VocabularyOptions(names=NAMES, tower=TOWER, cache=False)
    found = read_vocabulary(given, info, tmp_path / "model.onnx", Reporter(quiet=True))
    assert found is not None
    np.testing.assert_array_equal(found.text_embeddings, TextEncoder(TOWER).embed(NAMES, "a photo of "))


def test_names_typed_are_written_beside_their_embeddings(command, tmp_path):
    words = ("--class", NAMES[0], "--class", NAMES[1], "--text-tower", TOWER)
    assert command("text", *words, "-o", tmp_path / "mine.npy")[0] == 0
    assert (tmp_path / "mine.txt").read_text() == "pouring tea\nopening a fridge\n"
    assert len(np.load(tmp_path / "mine.npy")) == 2
    code, _, err = command("text", *words, "-o", tmp_path / "mine.txt")
    assert (code, "name a .npy file" in err) == (2, True), err


def test_a_baked_file_has_its_classes(command, features):
    code, _, err = command("detect", DATA / "tiny_baked.onnx", features, "--class", "a", "--text-tower", TOWER)
    assert code == 2
    assert "has its classes baked in; export it with --open" in err


def test_without_names(command):
    code, _, err = command("text", "--text-tower", TOWER)
    assert code == 2
    assert "NAMES: are missing" in err


class TestReferences:
    """The same tokens as others give; where they differ among themselves, as published with CLIP."""

    WORDS = (
        *("playing water polo", "don't", "it's THEY'LL we've I'm he'd", "Café naïve straße", "中文 日本語 한국어"),
        *("👍🏽 😀", "½ ①", "123 4.5", "hello_world a-b (x)", "İstanbul", "Å ﬁ it'\u017f", "' ''", "\u00a0\u200b", ""),
    )

    @classmethod
    def texts(cls, count):
        rng = np.random.default_rng(5)
        ranges = (
            (32, 127),
            (160, 0x250),
            (0x400, 0x500),
            (0x4E00, 0x4F00),
            (0x1F300, 0x1F650),
            (0x2000, 0x2070),
            (0, 161),
        )
        for _ in range(count):
            if rng.random() < 0.5:
                yield " ".join(rng.choice(cls.WORDS, rng.integers(0, 5) * (1 if rng.random() < 0.98 else 40)))
            else:
                yield "".join(chr(rng.integers(*ranges[rng.integers(len(ranges))])) for _ in range(rng.integers(0, 30)))

    def check(self, count):
        reference = pytest.importorskip("instant_clip_tokenizer").Tokenizer()
        ours = clip_tokenizer()
        for text in self.texts(count):
            assert ours.encode(text) == reference.encode(text), ascii(text)

    def test_a_thousand_texts(self):
        self.check(1_000)

    @pytest.mark.slow
    def test_a_hundred_thousand_texts(self):
        self.check(100_000)

    def transformers(self, folder):
        clip = pytest.importorskip("transformers").CLIPTokenizer
        ours = clip_tokenizer()
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in set(printable)]
        letters = [*map(chr, printable), *(chr(256 + number) for number in range(len(others)))]
        tokens = [*letters, *(letter + "</w>" for letter in letters)]
        lines = []
        for left, right in ours.merges.tolist():
            lines.append(f"{tokens[left]} {tokens[right]}")
            tokens.append(tokens[left] + tokens[right])
        tokens += ["<|startoftext|>", "<|endoftext|>"]
        (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
        return clip.from_pretrained(folder)

    def check_transformers(self, folder, count):
        reference, ours = self.transformers(folder), clip_tokenizer()
        for text in self.texts(count):
            if "ς" not in text.lower():  # lower case letter by letter, where Python minds the end of a word
                assert ours.encode(text) == reference(text, add_special_tokens=False)["input_ids"], ascii(text)
        assert ours.encode("<|endoftext|> e\u0301") == reference("<|endoftext|> e\u0301")["input_ids"][1:-1]

    def test_a_thousand_texts_of_transformers(self, tmp_path):
        self.check_transformers(tmp_path, 1_000)

    @pytest.mark.slow
    def test_a_hundred_thousand_texts_of_transformers(self, tmp_path):
        self.check_transformers(tmp_path, 100_000)

    def test_prompts_are_those_of_training(self):
        [row] = tokenize(["Archery"])
        assert row.tolist() == clip_tokenizer().tokenize([PROMPT + "Archery"])[0].tolist()
