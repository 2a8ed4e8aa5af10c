import copy
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import small_config
from wavenet import Categorical, WaveNet, generate, tensor_clips
from wavenet.data import Augmentation, PreparedDataset
from wavenet.evaluation import condition_on, score_symbols
from wavenet.machine import alone_in
from wavenet.network import (
    Conditioning,
    ConditioningConfig,
    Distribution,
    GaussianMixture,
    LogMelConfig,
    PredictionConfig,
)
from wavenet.training import (
    Recipe,
    TrainConfig,
    Trainer,
    from_recipe,
    load_checkpoint,
    train_recipe,
)
from wavenet.training.checkpoint import save_checkpoint

Prepare = Callable[..., PreparedDataset]


class Watcher:
    """Remembers what a run says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps = 0
        self.held_out: list[float] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stepped(self, step: int, bits: float) -> None:
        self.steps = step

    def logged(self, record: dict[str, float]) -> None:
        pass

    def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
        self.held_out.append(bits)


@pytest.fixture
def recipe(speech_folder: Path, prepare: Prepare, tmp_path: Path) -> Callable[..., Recipe]:
    dataset = prepare(speech_folder)

    def make(name: str = "run", **changes: object) -> Recipe:
        settings = {"steps": 12, "window": 300, "log_every": 2, "evaluate_every": 5, "checkpoint_every": 3, **changes}
        config = TrainConfig(**{"evaluation_seconds": 0.3, "warmup_steps": 2, **settings})
        return Recipe(dataset=dataset.path, run=tmp_path / name, train=config, model=small_config())

    return make


def final(run: Path) -> tuple[dict[str, object], list[dict[str, float]]]:
    """All of a run's state but the time it took."""
    state = load_checkpoint(run)
    assert state is not None
    state["progress"] = {k: v for k, v in state["progress"].items() if k not in ("seconds", "metrics_bytes")}
    state["recipe"].pop("run", None)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timing = ("seconds", "samples_per_second")
    return state, [{key: value for key, value in line.items() if key not in timing} for line in lines]


def assert_identical(one: object, other: object, where: str = "state") -> None:
    """Nested state, equal to the bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), f"{where} differs by up to {(one - other).abs().max()}"
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_identical(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_identical(*pair, f"{where}.{index}")
    else:
        assert one == other, where


def assert_same_run(one: Path, other: Path) -> None:
    (state, metrics), (other_state, other_metrics) = final(one), final(other)
    assert_identical(state, other_state)
    assert metrics == other_metrics
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
@pytest.mark.parametrize("stop_after", [1, 5, 6])
def test_resumed_run_equals_uninterrupted_run(recipe: Callable[..., Recipe], optimizer: str, stop_after: int) -> None:
    whole, broken = recipe("whole", optimizer=optimizer), recipe("broken", optimizer=optimizer)
    assert train_recipe(whole, Watcher())
    watcher = Watcher()
    assert not train_recipe(broken, watcher, stop=lambda: watcher.steps == stop_after)
    torch.rand(5)  # whatever else the process drew
    assert train_recipe(broken, Watcher(), resume=True)
    assert_same_run(whole.run, broken.run)


def test_a_finished_run_with_more_steps_equals_one_that_had_them_from_the_start(
    recipe: Callable[..., Recipe],
) -> None:
    """With a schedule that does not depend on the number of steps: `decay_share` is 0."""
    settings = {"decay_share": 0.0, "evaluate_every": 6}
    whole, begun, longer = recipe("whole", **settings), recipe("run", steps=6, **settings), recipe("run", **settings)
    assert train_recipe(whole, Watcher())
    assert train_recipe(begun, Watcher())
    assert train_recipe(longer, Watcher(), resume=True)
    assert_same_run(whole.run, longer.run)
    with pytest.raises(ValueError, match=r"train\.steps is 9, and the run has taken 12; expected 12 or more"):
        train_recipe(recipe("run", steps=9, **settings), Watcher(), resume=True)
    assert train_recipe(longer, Watcher(), resume=True), "there is nothing left to do"
    assert_same_run(whole.run, longer.run)


def test_a_run_with_more_steps_follows_their_schedule_and_says_so(recipe: Callable[..., Recipe]) -> None:
    assert train_recipe(recipe(steps=6, log_every=1), Watcher())
    watcher = Watcher()
    assert train_recipe(recipe(steps=12, log_every=1), watcher, resume=True)
    assert any(
        "resumed at step 6 with 12 steps in place of 6: the learning rates now follow the schedule of 12, and go on at "
        "50% of their height" in note
        for note in watcher.notes
    )
    rates = [line["rate"] for line in final(recipe().run)[1] if "rate" in line]
    assert rates[5] == pytest.approx(1 / 6)
    assert rates[6:] == pytest.approx([(12 - step) / 12 for step in range(6, 12)])


def test_resumed_run_draws_the_same_changes_of_its_windows(recipe: Callable[..., Recipe]) -> None:
    changes = {"augmentation": Augmentation(input_noise=1.0, level_db=24.0, noise_share=0.5)}
    whole, broken, plain = recipe("whole", **changes), recipe("broken", **changes), recipe("plain")
    assert train_recipe(whole, Watcher())
    assert train_recipe(plain, Watcher())
    watcher = Watcher()
    assert not train_recipe(broken, watcher, stop=lambda: watcher.steps == 3)
    assert train_recipe(broken, Watcher(), resume=True)
    assert_same_run(whole.run, broken.run)
    assert (whole.run / "model.safetensors").read_bytes() != (plain.run / "model.safetensors").read_bytes()


def test_a_run_that_listens_scores_free_running_and_keeps_the_best(recipe: Callable[..., Recipe]) -> None:
    heard = recipe("heard", listen=2, audio_seconds=0.5, evaluate_every=6)
    assert train_recipe(heard, Watcher())
    lines = [json.loads(line) for line in (heard.run / "metrics.jsonl").read_text().splitlines()]
    scores = [line for line in lines if "held_out_bits" in line]
    assert [line["step"] for line in scores] == [0, 6, 12]
    assert all({"ovrl", "sig", "bak", "p808", "plcmos"} <= line.keys() for line in scores)
    best = max(scores[1:], key=lambda line: line["ovrl"] + line["plcmos"])
    state = load_checkpoint(heard.run)
    assert state is not None
    assert state["progress"]["best_opinion"] == best["ovrl"] + best["plcmos"]
    newest, loved = (WaveNet.from_pretrained(heard.run / f"{name}.safetensors") for name in ("model", "best-heard"))
    same = all(torch.equal(a, b) for a, b in zip(newest.parameters(), loved.parameters(), strict=True))
    assert same == (best["step"] == 12)


def test_killed_run_resumes_to_the_same_end(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    whole, killed = recipe("whole", steps=40), recipe("killed", steps=40)
    train_recipe(whole, Watcher())
    toml = tmp_path / "recipe.toml"
    values = killed.to_dict()
    sections = [f'dataset = "{values["dataset"]}"\nrun = "{values["run"]}"\n']
    for section in ("model", "train"):
        simple = {
            key: value
            for key, value in values[section].items()
            if value not in (None, []) and not isinstance(value, dict)
        }
        entries = (f"{key} = {json.dumps(value)}" for key, value in simple.items())
        sections.append(f"[{section}]\n" + "\n".join(entries))
    toml.write_text("\n".join(sections))
    command = [sys.executable, "-c", "from wavenet.cli import main; main()", "train", str(toml), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while process.poll() is None and not (killed.run / "checkpoint.previous.pt").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    interrupted = load_checkpoint(killed.run)
    assert interrupted is not None
    assert interrupted["progress"]["step"] < 40, "killed too late to prove anything"
    assert train_recipe(killed, Watcher(), resume=True)
    assert_same_run(whole.run, killed.run)


def test_training_learns_and_the_model_file_generates(recipe: Callable[..., Recipe]) -> None:
    learned = recipe(steps=200, evaluate_every=200, window=1000, learning_rate=0.01, muon_learning_rate=0.05)
    watcher = Watcher()
    train_recipe(learned, watcher)
    before, after = watcher.held_out
    assert after < before - 1, f"held-out bits went from {before} to {after}"
    model = WaveNet.from_pretrained(learned.run / "model.safetensors")
    assert generate(model, 10).shape == (1, 10)


def test_loss_counts_scored_samples_only(recipe: Callable[..., Recipe]) -> None:
    trainer = from_recipe(recipe())
    batch = trainer.sampler.batch(0)
    part = batch.scored.clone()
    part[:, 100:] = False
    field = trainer.model.config.receptive_field
    shorter = replace(batch, samples=batch.samples[:, : field + 100], scored=batch.scored[:, :100])
    torch.testing.assert_close(trainer.batch_loss(replace(batch, scored=part)), trainer.batch_loss(shorter))


@pytest.mark.parametrize("pre_emphasis", [0.0, 0.7])
@pytest.mark.parametrize("source", ["features", "past", None])
@pytest.mark.parametrize("distribution", [Categorical(), GaussianMixture()], ids=lambda d: d.kind)
def test_training_loss_on_a_clip_is_its_teacher_forced_log_probability(
    recipe: Callable[..., Recipe], distribution: Distribution, source: str | None, pre_emphasis: float
) -> None:
    features = LogMelConfig(bins=20, hop=100, window=256)
    prediction = None if source is None else PredictionConfig(source=source, order=16, block=25, window=120)
    model = small_config(
        distribution=distribution,
        features=features,
        conditioning=ConditioningConfig(channels=3, scales=(10, 10)),
        prediction=prediction,
        speaker_channels=2,
        pre_emphasis=pre_emphasis,
    )
    trainer = from_recipe(replace(recipe(window=6000, batch_size=1), model=model))
    batch = trainer.sampler.batch(0)
    (clip,) = batch.clips
    waveform = clip.read()
    scores = score_symbols(
        trainer.model,
        trainer.model.encode(waveform[None]),
        condition_on(trainer.model, clip, waveform, {"speaker": clip.labels["speaker"]}),
    )
    start = int(batch.times[0]) + trainer.sampler.context
    (places,) = torch.nonzero(batch.scored[0], as_tuple=True)
    expected = -scores.log_probs[0, places + start].double().mean() / math.log(2)
    with torch.no_grad():
        loss = trainer.batch_loss(batch).double()
    torch.testing.assert_close(loss, expected, atol=2e-4, rtol=1e-6)


def test_a_state_of_another_model_is_refused_and_changes_nothing(recipe: Callable[..., Recipe]) -> None:
    run = recipe()
    train_recipe(run, Watcher())
    state = load_checkpoint(run.run)
    assert state is not None
    trainer = from_recipe(run)
    before = copy.deepcopy(trainer.model.state_dict())
    state["model"]["head.bias"] = torch.ones(3)
    with pytest.raises(ValueError, match=r"the shape of head.bias is \[3\] there, \[\d+\] here"):
        trainer.restore(state)
    assert trainer.progress.step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())


@pytest.mark.parametrize("edit", [lambda data: data[:70], lambda data: b"", lambda data: b"x" * len(data)])
def test_metrics_that_were_edited_go_on_with_whole_lines(
    recipe: Callable[..., Recipe], edit: Callable[[bytes], bytes]
) -> None:
    run, watcher = recipe(), Watcher()
    train_recipe(run, watcher, stop=lambda: watcher.steps == 6)
    file = run.run / "metrics.jsonl"
    file.write_bytes(edit(file.read_bytes()))
    watcher = Watcher()
    train_recipe(run, watcher, resume=True)
    assert any("metrics.jsonl is not what the run wrote: lines before step 6 are lost" in n for n in watcher.notes)
    steps = [json.loads(line)["step"] for line in file.read_bytes().splitlines()]
    assert steps[-4:] == [10, 10, 12, 12]


def test_a_run_starts_from_a_model_file_and_names_what_does_not_fit(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    first = recipe(steps=2)
    train_recipe(first, Watcher())
    source = first.run / "model.safetensors"
    watcher = Watcher()
    second = replace(
        recipe(steps=1, init_from=source, learning_rate=1e-12, muon_learning_rate=1e-12), run=tmp_path / "b"
    )
    train_recipe(second, watcher)
    trained = WaveNet.from_pretrained(source).state_dict()
    begun = WaveNet.from_pretrained(second.run / "model.safetensors").state_dict()
    for name, tensor in trained.items():
        torch.testing.assert_close(begun[name], tensor, atol=1e-6, rtol=0)
    assert any(note == f"started from {source}" for note in watcher.notes)

    wider = replace(
        second, model=replace(second.model, head_channels=second.model.head_channels + 1), run=tmp_path / "c"
    )
    watcher = Watcher()
    train_recipe(wider, watcher)
    assert any("of another shape there, and fresh: head.bias, head.weight, output.weight" in n for n in watcher.notes)

    shallower = replace(second, model=replace(second.model, dilations=second.model.dilations[:-1]), run=tmp_path / "d")
    watcher = Watcher()
    train_recipe(shallower, watcher)
    last = len(second.model.dilations) - 1
    left_out = f"; in it, and left out: blocks.{last - 1}.residual.weight, blocks.{last}.conv.bias"
    assert any(left_out in note for note in watcher.notes)
    assert any(note.startswith("it was trained with model.dilations (") for note in watcher.notes)


def test_a_new_model_takes_over_the_speakers_it_shares(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    known = replace(recipe(), model=replace(small_config(), speaker_channels=2, speakers=("ann", "eve", "bob")))
    model = WaveNet(known.model)
    model.save_pretrained(tmp_path / "first.safetensors")
    now = replace(known.model, speakers=("bob", "zoe", "ann"), pre_emphasis=0.5)
    watcher = Watcher()
    clips = tensor_clips([torch.rand(500) - 0.5], 16000, speakers=["ann"])
    trainer = Trainer(WaveNet(now), clips, clips, known.train, observer=watcher)
    fresh = trainer.model.conditioner.table.weight[1].clone()
    trainer.begin_with(WaveNet.from_pretrained(tmp_path / "first.safetensors"), "first")
    table, old = trainer.model.conditioner.table.weight, model.conditioner.table.weight
    torch.testing.assert_close(table, torch.stack([old[2], fresh, old[0]]))
    assert watcher.notes[-2:] == [
        "started from first; not in it, and fresh: speaker zoe",
        "it was trained with model.pre_emphasis 0.0; here it is 0.5",
    ]


def test_the_best_model_and_the_last_ones_are_kept(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}

    class Keeper(Watcher):
        def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
            super().evaluated(step, bits, model, example)
            seen[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    bits = iter([1.0, 5.0, 4.0, 3.0, 3.5, 3.2, 6.0])
    monkeypatch.setattr(Trainer, "evaluate", lambda self: next(bits))
    run = recipe(evaluate_every=2, keep_models=2)
    train_recipe(run, Keeper())
    kept = WaveNet.from_pretrained(run.run / "best.safetensors").state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in seen[6].items())
    assert sorted(path.name for path in run.run.glob("model-*")) == [
        "model-00000010.safetensors",
        "model-00000012.safetensors",
    ]
    for path in run.run.iterdir():
        if not path.name.startswith("model-"):
            path.unlink()
    with pytest.raises(FileExistsError, match=r"holds a run \(model-00000010"):
        train_recipe(run, Watcher())


def test_two_processes_do_not_work_in_one_run(recipe: Callable[..., Recipe]) -> None:
    run, watcher = recipe(), Watcher()
    train_recipe(run, watcher, stop=lambda: watcher.steps == 6)
    before = {path.name: path.read_bytes() for path in run.run.iterdir()}
    with alone_in(run.run), pytest.raises(ValueError, match="another process is at work in"):
        train_recipe(run, Watcher(), resume=True)
    assert {path.name: path.read_bytes() for path in run.run.iterdir()} == before
    assert train_recipe(run, Watcher(), resume=True)


def test_what_does_not_change_a_run_may_change_and_later_keys_may_lack(recipe: Callable[..., Recipe]) -> None:
    run, watcher = recipe(), Watcher()
    train_recipe(run, watcher, stop=lambda: watcher.steps == 6)
    state = load_checkpoint(run.run)
    assert state is not None
    del state["recipe"]["train"]["accumulate"], state["recipe"]["model"]["pre_emphasis"]
    del state["recipe"]["model"]["conditioning"]["projection"]
    state["recipe"]["train"]["voices"] = state["recipe"]["train"].pop("speakers")  # as earlier versions called it
    save_checkpoint(run.run, state)
    assert train_recipe(
        recipe(keep_models=1, audio=True, audio_seconds=0.1, checkpoint_every=4), Watcher(), resume=True
    )


def test_diverging_run_stops_and_keeps_its_checkpoint(recipe: Callable[..., Recipe]) -> None:
    diverging = recipe(learning_rate=1e30, optimizer="adam", gradient_clip=1e30, warmup_steps=0)
    with pytest.raises(FloatingPointError, match=r"step \d+: the loss is .*; training stopped"):
        train_recipe(diverging, Watcher())
    state = load_checkpoint(diverging.run)
    assert state is not None
    assert all(bool(tensor.isfinite().all()) for tensor in state["model"].values())


def test_a_run_is_not_overwritten_and_a_finished_one_can_be_resumed(recipe: Callable[..., Recipe]) -> None:
    train_recipe(recipe(), Watcher())
    with pytest.raises(
        FileExistsError,
        match=r"holds a run \(checkpoint.pt, .*, model.safetensors, best.safetensors, metrics.jsonl\); resume it",
    ):
        train_recipe(recipe(), Watcher())
    assert train_recipe(recipe(), Watcher(), resume=True)


def test_changed_recipe_or_dataset_is_refused_with_the_keys(
    recipe: Callable[..., Recipe], speech_folder: Path, prepare: Prepare
) -> None:
    train_recipe(recipe(), Watcher())
    with pytest.raises(ValueError, match=r"train\.window was 300, is 200"):
        train_recipe(recipe(window=200), Watcher(), resume=True)
    dataset = recipe().dataset
    next(speech_folder.rglob("*.wav")).unlink()
    shutil.rmtree(dataset)
    prepare(speech_folder)
    with pytest.raises(ValueError, match="has changed since the run began"):
        train_recipe(recipe(), Watcher(), resume=True)


def test_another_sample_rate_is_refused(recipe: Callable[..., Recipe], speech_folder: Path, prepare: Prepare) -> None:
    other = prepare(speech_folder, name="other", sample_rate=8000)
    config = recipe()
    with pytest.raises(ValueError, match=r"has 8000 Hz, the recipe's model\.sample_rate is 16000"):
        train_recipe(Recipe(dataset=other.path, run=config.run, train=config.train, model=config.model), Watcher())


def test_full_disk_while_writing_a_checkpoint_keeps_the_previous(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe()
    watcher = Watcher()
    train_recipe(config, watcher, stop=lambda: watcher.steps == 4)
    saved = (config.run / "checkpoint.pt").read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(config.run, {"step": 5})
    assert (config.run / "checkpoint.pt").read_bytes() == saved
    assert not list(config.run.glob(".*")), "no half-written file stays"


def test_damaged_checkpoint_falls_back_to_the_previous(recipe: Callable[..., Recipe]) -> None:
    run = recipe()
    train_recipe(run, Watcher())
    file, notes = run.run / "checkpoint.pt", []
    data, previous = file.read_bytes(), load_checkpoint(run.run)
    assert previous is not None
    assert previous["progress"]["step"] == 12
    for damaged in (b"", b"hello", data[:100], data[: len(data) // 2], data[:-1]):
        file.write_bytes(damaged)
        state = load_checkpoint(run.run, notes.append)
        assert state is not None
        assert state["progress"]["step"] == 9
        assert "checkpoint.pt cannot be read" in notes[-1]
        assert notes[-1].endswith("; going on from checkpoint.previous.pt, of step 9")
    (run.run / "checkpoint.previous.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint(run.run)
    assert load_checkpoint(run.run / "none") is None


def test_bfloat16_trains_and_a_failing_compiler_is_said_once(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Callable[..., torch.Tensor]:
        def call(*_: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no compiler\nlong story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    watcher = Watcher()
    train_recipe(recipe(steps=3, precision="bfloat16"), watcher)
    assert [note for note in watcher.notes if "compile" in note] == [
        "torch.compile does not work here (no compiler); training eagerly"
    ]
    assert watcher.notes[0].endswith("in bfloat16")


def test_a_compiler_that_fails_in_the_backward_pass_is_noticed_before_the_first_step(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(context: object, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(context: object, *gradients: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("C++ compile error\nlong story")

    monkeypatch.setattr(torch, "compile", lambda model, **_: lambda *batch: Backward.apply(model(*batch)))
    watcher = Watcher()
    train_recipe(recipe(steps=2, precision="bfloat16"), watcher)
    assert "torch.compile does not work here (C++ compile error); training eagerly" in watcher.notes


def test_tensorboard_gets_curves_audio_and_pictures(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from wavenet.training.listening import Listener
    from wavenet.training.tensorboard import TensorBoardWriter

    writer = TensorBoardWriter(tmp_path / "board")
    model = WaveNet(small_config())
    writer.logged({"step": 1, "train_bits": 3.0, "seconds": 1.0})
    listener = Listener(0.1, [writer.on_audio])
    listener.evaluated(1, model, model.condition())
    listener.close(wait=True)
    writer.close()
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    tags = events.Tags()
    assert tags["scalars"] == ["train_bits"]
    assert tags["audio"] == ["sample"]
    assert tags["images"] == ["spectrogram"]
