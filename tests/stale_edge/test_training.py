"""The trainer in one process: it learns, chooses, stops, refuses, and never sees what it must not."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge.checkpoint import METADATA_KEY, load_checkpoint
from stale_edge.data.batches import BatchPlan, next_batch, open_batches
from stale_edge.data.dataset import AnnotatedFeatures
from stale_edge.networks.stale.config import ModelConfig
from stale_edge.networks.stale.spec import STALE_SPEC
from stale_edge.training.run import End, RunOptions
from stale_edge.training.settings import PRESETS, TrainingSettings
from stale_edge.training.state import random_states, set_random_states
from stale_edge_runtime.errors import BadDataError, InputMissingError, UsageError
from tests.stale_edge.training_driver import ANCHORS, CLASSES, SETTINGS, TEXT, WIDTH, Videos, trainer, training_run

NETWORK = (STALE_SPEC, ModelConfig(anchors=ANCHORS))


class TestLearning:
    def test_overfits_four_videos_through_decoding_and_evaluation(self, tmp_path):
        untrained = trainer(tmp_path / "a", settings=replace(SETTINGS, epochs=1, learning_rate=1e-9)).fit()
        result = trainer(tmp_path / "b", settings=replace(SETTINGS, epochs=40, learning_rate=4e-3)).fit()
        assert result.average_map >= 0.6 > 4 * untrained.average_map
        assert result.end is End.FINISHED

    def test_best_weights_are_those_of_the_best_validation(self, tmp_path):
        scores = []
        options = RunOptions(on_validation=lambda found: scores.append((found.average_map, -found.step)))
        result = trainer(tmp_path / "a", settings=replace(SETTINGS, epochs=12), options=options).fit()
        assert (result.average_map, -result.best_step) == max(scores)
        stored = load_checkpoint(result.checkpoint)
        assert stored.origin["step"] == result.best_step
        assert stored.classes == CLASSES
        assert not stored.untrained

    def test_stops_when_nothing_is_gained(self, tmp_path):
        patient = replace(SETTINGS, epochs=50, learning_rate=1e-9, patience=3)
        job = trainer(tmp_path / "a", settings=patient)
        result = job.fit()
        assert (result.end, result.steps) == (End.NO_GAIN, result.best_step + 3)
        again = trainer(tmp_path / "a", settings=patient)
        again.resume()
        assert again.fit() == result

    def test_stops_when_the_time_is_up_and_goes_on(self, tmp_path):
        whole = trainer(tmp_path / "a", training_run(Videos(8))).fit()
        stopped = trainer(tmp_path / "b", training_run(Videos(8)), options=RunOptions(max_minutes=0)).fit()
        assert (stopped.end, stopped.steps, stopped.checkpoint.name) == (End.TIME, 1, "stopped.safetensors")
        job = trainer(tmp_path / "b", training_run(Videos(8)))
        job.resume()
        assert job.fit().average_map == whole.average_map
        for name in ("best.safetensors", "state.safetensors", "validation.csv"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_only_what_is_trained_changes(self, tmp_path, tiny_config):
        from stale_edge.networks.clip_text import tokenize
        from stale_edge.networks.stale.model import STALE
        from stale_edge.training.run import TrainingRun

        token_ids = torch.from_numpy(tokenize(CLASSES))
        for train_text in (False, True):
            torch.manual_seed(1)
            network = STALE(tiny_config)
            before = {name: value.clone() for name, value in network.state_dict().items()}
            with torch.inference_mode():
                embeddings = network.eval().encode_text(token_ids).clone()
            taught = TrainingRun(network, token_ids if train_text else embeddings, Videos(4), Videos(4))
            trainer(tmp_path / str(train_text), taught, replace(SETTINGS, epochs=2, train_text=train_text)).fit()
            after = network.state_dict()
            changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
            assert any(name.startswith("text_tower") for name in changed) == train_text
            assert any(name.startswith("mask_head") for name in changed)

    def test_a_loss_that_is_not_finite_is_an_error(self, tmp_path):
        job = trainer(tmp_path / "a", settings=replace(SETTINGS, learning_rate=1e-3))
        with torch.no_grad():
            job._training.network.mask_head.anchors.weight.fill_(float("nan"))
        with pytest.raises(BadDataError, match=r"loss nan .* at step 1 .*not finite; try a lower --lr"):
            job.fit()


class TestOpenSet:
    """Inputs of the loss depend on the seen classes alone."""

    unseen = ("Unseen one", "Unseen two", "Unseen three")

    def received(self, folder, videos):
        """Everything that the loss is called with in one epoch."""
        database = {
            f"video{index}": {
                "subset": "training",
                "duration": 40.0,
                "annotations": [
                    {"segment": [float(s), float(s + length)], "label": label} for s, length, label in spans
                ],
            }
            for index, spans in enumerate(videos)
        }
        folder.mkdir()
        (folder / "annotations.json").write_text(json.dumps({"database": database}))
        (folder / "seen.txt").write_text("\n".join(CLASSES))
        (folder / "features").mkdir()
        for index in range(len(videos)):
            features = np.random.default_rng(index).standard_normal((40, WIDTH)).astype(np.float32)
            np.save(folder / "features" / f"v_video{index}.npy", features)
        source = AnnotatedFeatures.open(
            folder / "annotations.json",
            folder / "features",
            split=folder / "seen.txt",
            feature_dim=WIDTH,
            length=ANCHORS,
        )
        job = trainer(folder / "run", training_run(source), replace(SETTINGS, epochs=1))
        true_loss, calls = job._loss, []
        job._loss = lambda output, targets: calls.append(targets) or true_loss(output, targets)
        job.fit()
        return [tensor for targets in calls for tensor in targets.tensors()], source

    @settings(max_examples=6)
    @given(data=st.data())
    def test_labels_of_unseen_classes_never_reach_the_loss(self, data, tmp_path_factory):
        span = st.tuples(st.integers(0, 30), st.integers(1, 10))
        seen = st.lists(st.tuples(span, st.sampled_from(CLASSES)), min_size=1, max_size=2)
        hidden = st.lists(span, min_size=1, max_size=2)
        drawn = data.draw(st.lists(st.tuples(seen, hidden), min_size=2, max_size=5))
        renamed = itertools.cycle(reversed(self.unseen))
        folder = tmp_path_factory.mktemp("open")
        runs = []
        for name, labels in (("a", itertools.cycle(self.unseen)), ("b", renamed)):
            videos = [
                [(*span, label) for span, label in taught] + [(*span, next(labels)) for span in others]
                for taught, others in drawn
            ]
            runs.append(self.received(folder / name, videos))
        (first, source), (second, _) = runs
        assert len(first) == len(second)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert source.classes == CLASSES
        taught = {instance.label for i in range(len(source)) for instance in source.video(i, 0).instances}
        assert not taught & set(self.unseen)
        for targets in (first[i : i + 5] for i in range(0, len(first), 5)):
            classes, _, _, video_classes, _ = targets
            assert int(classes.max()) <= len(CLASSES)
            assert video_classes.shape[1] == len(CLASSES)


class TestBatches:
    @settings(max_examples=60)
    @given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.integers(0, 5))
    def test_processes_together_show_the_batches_of_one(self, videos, batch, processes, epoch):
        plan = BatchPlan(videos, batch, 6, seed=3, processes=processes)
        parts = [plan.batches(epoch, process) for process in range(processes)]
        assert {len(part) for part in parts} == {plan.steps_per_epoch}
        for together in zip(*parts, strict=True):
            assert len({len(part) for part in together}) == 1
            assert len(together[0]) > 0
        sizes = [plan.size(epoch * plan.steps_per_epoch + step) for step in range(plan.steps_per_epoch)]
        shown = [
            list(itertools.chain(*together))[:size]
            for together, size in zip(zip(*parts, strict=True), sizes, strict=True)
        ]
        assert shown == BatchPlan(videos, batch, 6, seed=3).batches(epoch)
        assert sorted(itertools.chain(*shown)) == [(epoch, index) for index in range(videos)]

    def test_epochs_and_seeds_differ(self):
        plan = BatchPlan(50, 50, 2, seed=0)
        orders = [plan.batches(0), [[(0, i) for _, i in plan.batches(1)[0]]], BatchPlan(50, 50, 2, seed=1).batches(0)]
        assert all(a != b for a, b in itertools.combinations(orders, 2))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_batches_after_a_step_are_those_of_an_unbroken_run(self, workers):
        plan = BatchPlan(7, 3, 3, seed=0)
        whole = list(open_batches(Videos(7, endless=True), plan, *NETWORK))
        rest = list(open_batches(Videos(7, endless=True), plan, *NETWORK, first_step=4, workers=workers))
        assert len(whole) == 9
        assert len(rest) == 5
        assert all(torch.equal(a.features, b.features) for a, b in zip(whole[4:], rest, strict=True))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_an_error_keeps_its_kind_and_its_words(self, workers):
        class Broken(Videos):
            def video(self, index, epoch):
                raise BadDataError("v_a.npy", "holds NaN", "extract it again")

        batches = iter(open_batches(Broken(4), BatchPlan(4, 4, 1, 0), *NETWORK, workers=workers))
        with pytest.raises(BadDataError, match=r"^v_a\.npy: holds NaN; extract it again$"):
            next_batch(batches)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a training of two epochs, not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trainer(folder, settings=replace(SETTINGS, epochs=2)).fit()
    return folder


class TestState:
    @pytest.fixture
    def run(self, finished, tmp_path):
        return shutil.copytree(finished, tmp_path / "run")

    def resume(self, run, **changes):
        job = trainer(run, settings=replace(SETTINGS, epochs=2, **changes))
        job.resume()
        return job

    def test_random_states_come_back(self):
        import random

        normal = np.random.standard_normal
        normal()  # leaves half a pair of normal numbers behind
        random.gauss(0, 1)
        states = random_states()

        def draw():
            return normal(3).tolist(), [random.gauss(0, 1) for _ in range(3)], torch.rand(3).tolist()

        first = draw()
        set_random_states(states)
        assert draw() == first

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(InputMissingError, match="nothing to resume"):
            trainer(tmp_path / "new").resume()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"learning_rate": 0.5}, r"another learning rate \(0.001, now 0.5\)"),
            ({"seed": 5}, r"another seed \(0, now 5\)"),
            ({"batch_size": 2}, "another batch size"),
        ],
    )
    def test_other_settings_are_refused(self, run, change, message):
        with pytest.raises(UsageError, match=message):
            self.resume(run, **change)

    def test_other_data_are_refused(self, run):
        job = trainer(run, training_run(Videos(5)), replace(SETTINGS, epochs=2))
        with pytest.raises(UsageError, match=r"another videos \(4, now 5\)"):
            job.resume()

    @pytest.mark.parametrize("keep", [0, 7, 100, 5000, -1])
    def test_truncated(self, run, keep):
        path = run / "state.safetensors"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(BadDataError, match="cannot be read"):
            self.resume(run)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda t, m: t.pop("network.background_embedding"), "lacks network.background_embedding"),
            (lambda t, m: t.update(more=torch.zeros(1)), "holds a surplus more"),
            (lambda t, m: t["network.background_embedding"].fill_(float("inf")), "NaN or infinity"),
            (lambda t, m: t.update({"network.background_embedding": torch.zeros(2)}), r"is \[2\], not \[1, 32\]"),
            (lambda t, m: t.update({"random.torch": torch.zeros(1, 3, dtype=torch.uint8)}), "random states"),
            (lambda t, m: t.update({"random.numpy": -t["random.numpy"]}), "random states"),
            (lambda t, m: t.update({"random.python": t["random.python"][:, :9]}), "random states"),
            (lambda t, m: t.pop("random.torch"), "lacks states of random generators"),
            (lambda t, m: m.update(format="x"), "does not say format"),
            (lambda t, m: m.update(surplus=1), "does not say format"),
            (lambda t, m: m.update(settings=[]), "metadata of another form"),
            (lambda t, m: m["progress"].update(step=-1), "progress of another form"),
            (lambda t, m: m["progress"].update(step=10**6), "says step 1000000"),
            (lambda t, m: m["progress"].update(best_score="high"), "progress of another form"),
            (lambda t, m: m.update(processes=2), "lacks states of random generators"),
        ],
    )
    def test_damaged(self, run, damage, message):
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        path = run / "state.safetensors"
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()[METADATA_KEY])
        tensors = load_file(path)
        damage(tensors, metadata)
        save_file(tensors, path, {METADATA_KEY: json.dumps(metadata)})
        with pytest.raises((BadDataError, UsageError), match=message):
            self.resume(run).fit()


class TestSettings:
    def test_the_published_ones(self):
        stale = PRESETS["stale"]
        assert (stale.optimizer, stale.learning_rate, stale.weight_decay) == ("adam", 4e-5, 0.02)
        assert (stale.batch_size, stale.epochs, stale.train_text, stale.clip_norm) == (100, 5, True, None)
        assert {stale.learning_rate_at(step, 100) for step in range(100)} == {4e-5}

    def test_learning_rate_rises_then_falls(self):
        rates = [TrainingSettings(learning_rate=1.0, warmup_share=0.1).learning_rate_at(i, 100) for i in range(100)]
        assert rates[:10] == sorted(rates[:10])
        assert rates[9:] == sorted(rates[9:], reverse=True)
        assert max(rates) == 1.0
        assert 0 < rates[-1] < 0.01

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": 0}, "epochs: is 0; give 1 or more"),
            ({"learning_rate": float("nan")}, "learning rate: is nan"),
            ({"clip_norm": -1.0}, "clip norm: is -1.0"),
            ({"optimizer": "sgd"}, "give adamw or adam"),
        ],
    )
    def test_refused(self, change, message):
        with pytest.raises(UsageError, match=message):
            TrainingSettings(**change)

    def test_a_network_refuses_loss_weights_that_it_does_not_know(self):
        with pytest.raises(UsageError, match="loss weights: is '60/40'; give closed, "):
            STALE_SPEC.loss(ModelConfig(), TrainingSettings(loss_weights="60/40"))

    def test_lessons_that_cannot_be_taught(self, tmp_path):
        with pytest.raises(UsageError, match="text: must be token ids to train the text tower"):
            trainer(tmp_path / "a", settings=replace(SETTINGS, train_text=True))
        assert TEXT.shape == (len(CLASSES), WIDTH)


def test_events_are_those_of_the_log(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    from stale_edge.training.log import TrainingLog

    for steps in (0, 1):
        (tmp_path / str(steps)).mkdir()
        with TrainingLog(tmp_path / str(steps), ("total",), steps) as log:
            log.step({"step": 2, "epoch": 1, "learning_rate": 0.5, "gradient_norm": 1.0, "total": 3.0})
        (path,) = (tmp_path / str(steps) / "tensorboard").iterdir()
        content, events = path.read_bytes(), []
        while content:
            length = int.from_bytes(content[:8], "little")
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
        found = {(value.tag, event.step): value.simple_value for event in events for value in event.summary.value}
        assert found == {
            ("training/learning_rate", 2): 0.5,
            ("training/gradient_norm", 2): 1.0,
            ("training/total", 2): 3.0,
        }
        assert [event.step for event in events if event.session_log.status] == [2] * bool(steps)
