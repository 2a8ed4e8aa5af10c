"""The trainer on objects: somebody's model, somebody's clips, no files unless there is a folder."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import small_config, tone
from tests.test_clips import Sine
from tests.test_training import Watcher, assert_same_run
from wavenet import PreparedDataset, TensorClip, TrainConfig, Trainer, WaveNet, WaveNetConfig, tensor_clips, train
from wavenet.data import Source, load_folder
from wavenet.network import LogMelConfig, PredictionConfig
from wavenet.network.conditioning import ConditioningConfig
from wavenet.training import Recipe, from_recipe

SETTINGS = TrainConfig(steps=6, window=300, log_every=2, evaluate_every=3, checkpoint_every=2, compile="off")


def clips(count: int = 4, **settings: object) -> tuple[TensorClip, ...]:
    return tensor_clips([torch.from_numpy(tone(0.1, seed=seed)) for seed in range(count)], 16000, **settings)


def model(**changes: object) -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(small_config(**changes))


def test_a_list_of_tensors_trains_in_six_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    waveforms = [torch.from_numpy(tone(0.1, seed=seed)) for seed in range(4)]

    model = WaveNet(WaveNetConfig(cycles=2, layers_per_cycle=4, residual_channels=16))
    clips = tensor_clips(waveforms, sample_rate=16000)
    trainer = Trainer(model, clips[2:], clips[:2], TrainConfig(steps=20, window=300, batch_size=1, compile="off"))
    before = trainer.evaluate()
    after = trainer.run()
    trainer.average.save_pretrained("mine.safetensors")

    assert after < before
    assert WaveNet.from_pretrained("mine.safetensors").config.dilations == model.config.dilations
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"], "nothing else is written"


def test_clips_in_memory_train_the_model_that_their_dataset_trains(
    speech_folder: Path, prepare: Callable[..., PreparedDataset], tmp_path: Path
) -> None:
    recipe = Recipe(dataset=prepare(speech_folder).path, run=tmp_path / "run", model=small_config(), train=SETTINGS)
    trainers = [from_recipe(recipe), Trainer(model(), *load_folder(speech_folder, held_out=0.3), SETTINGS)]
    assert trainers[0].run() == trainers[1].run()
    for one, other in zip(*(trainer.average.parameters() for trainer in trainers), strict=True):
        assert torch.equal(one, other)


def test_a_run_folder_without_a_recipe_resumes_to_the_same_end(tmp_path: Path) -> None:
    def trainer() -> Trainer:
        return Trainer(model(), clips()[2:], clips()[:2], SETTINGS, observer=Watcher())

    assert train(trainer(), tmp_path / "whole")
    stopped = trainer()
    assert not train(stopped, tmp_path / "broken", stop=lambda: stopped.progress.step == 3)
    with pytest.raises(FileExistsError, match=r"broken holds a run .*; resume it or choose another folder"):
        train(trainer(), tmp_path / "broken")
    changed = Trainer(model(), clips(5)[2:], clips()[:2], SETTINGS)
    with pytest.raises(ValueError, match="broken: the audio has changed since the run began"):
        train(changed, tmp_path / "broken", resume=True)
    changed = Trainer(model(), clips()[2:], clips()[:1], SETTINGS, observer=Watcher())
    with pytest.raises(ValueError, match="broken: the held-out audio has changed since the run began"):
        train(changed, tmp_path / "broken", resume=True)
    assert not changed.observer.notes, "it says that it trains when it does"
    other = Trainer(model(), clips()[2:], clips()[:2], replace(SETTINGS, window=200))
    with pytest.raises(ValueError, match=r"broken: the settings have changed .*train\.window was 300, is 200"):
        train(other, tmp_path / "broken", resume=True)
    assert train(trainer(), tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert not (tmp_path / "whole" / "recipe.json").exists()
    alone = trainer()
    alone.run()
    saved = WaveNet.from_pretrained(tmp_path / "whole" / "model.safetensors").state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in alone.average.state_dict().items())


def test_a_trainer_in_a_second_folder_begins_new_metrics(tmp_path: Path) -> None:
    trainer = Trainer(model(), clips()[2:], clips()[:2], SETTINGS, observer=Watcher())
    assert not train(trainer, tmp_path / "first", stop=lambda: trainer.progress.step == 3)
    trainer.progress.best_bits = 0.0
    assert train(trainer, tmp_path / "second")
    lines = [json.loads(line) for line in (tmp_path / "second" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out_bits" in line] == [3, 6]
    assert (tmp_path / "second" / "best.safetensors").exists()
    assert not [note for note in trainer.observer.notes if "lost" in note]


def test_the_state_of_a_trainer_is_all_that_another_one_needs() -> None:
    first, second = (Trainer(model(), clips()[2:], clips()[:2], SETTINGS) for _ in range(2))
    first.proceed(stop=lambda: first.progress.step == 3)
    second.restore(first.state())
    assert second.progress.step == 3
    assert first.run() == second.run()


class Noisy(WaveNet):
    """A subclass with parameters, dropout, running statistics and a frozen weight of its own."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__(config)
        self.norm = nn.BatchNorm1d(config.residual_channels)
        self.drop = nn.Dropout(0.1)
        self.names = nn.Embedding(3, 2)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.modes: list[bool] = []

    def respond(self, x: Tensor, biases: Tensor | None = None) -> Tensor:
        self.modes.append(self.training)
        x = self.drop(self.norm(x.transpose(1, 2)).transpose(1, 2))
        return super().respond(x + self.names.weight.sum() + self.frozen.sum(), biases)


def test_a_subclass_trains_in_place_and_is_averaged_with_its_own_parts() -> None:
    mine = Noisy(small_config()).eval()
    trainer = Trainer(mine, clips()[2:], clips()[:2], SETTINGS)
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    trainer.run()
    assert trainer.model is mine
    assert isinstance(trainer.average, Noisy)
    assert all(mine.modes), "it steps in training mode"
    assert not trainer.average.training
    for name in ("norm.weight", "names.weight", "norm.running_mean"):
        assert not torch.equal(mine.state_dict()[name], before[name]), name
    assert torch.equal(trainer.average.norm.running_mean, mine.norm.running_mean)
    assert not torch.equal(trainer.average.names.weight, mine.names.weight)
    assert torch.equal(mine.frozen, before["frozen"])


def test_sources_are_mixed_by_weight_and_held_out_in_equal_parts() -> None:
    first, second = clips(3), tensor_clips([torch.rand(1600) - 0.5] * 3, 16000)
    config = replace(SETTINGS, batch_size=400, evaluation_seconds=0.4)
    trainer = Trainer(model(), [Source(first), Source(second, weight=3.0)], [Source(first), Source(second)], config)
    drawn = [clip in second for step in range(10) for clip in trainer.sampler.batch(step).clips]
    share, deviation = sum(drawn) / len(drawn), (0.75 * 0.25 / len(drawn)) ** 0.5
    assert abs(share - 0.75) < 5 * deviation
    assert [len(source.clips) for source in trainer.held_out] == [2, 2]


def test_somebodys_own_clips_train() -> None:
    assert Trainer(model(), [Sine()], [Sine()], SETTINGS).run() < 8.1


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({"speaker_channels": 2}, SETTINGS, "the model takes speakers as vectors, which clips do not have"),
        ({"speaker_channels": 2, "speakers": ("eve",)}, SETTINGS, "train: the speaker of .* is None; expected one"),
        ({"sample_rate": 8000}, SETTINGS, "train: .* has 16000 Hz, the model 8000 Hz"),
        ({}, replace(SETTINGS, init_from=Path("m")), "config sets init_from or speakers, which only recipes use"),
        ({"features": LogMelConfig(hop=400), "conditioning": ConditioningConfig(scales=(20, 20))}, SETTINGS,
         "window is 300 samples; expected at least 400"),
    ],
)  # fmt: skip
def test_what_cannot_train_is_refused_by_pythons_names(changes: dict, config: TrainConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(model(**changes), clips(), clips(), config)


def test_linear_prediction_stays_out_of_compiled_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    disabled: list[object] = []
    monkeypatch.setattr(torch.compiler, "disable", lambda function: disabled.append(function) or function)
    monkeypatch.setattr(torch, "compile", lambda objective, **_: objective)
    from wavenet.training.objective import _run_eagerly

    _run_eagerly.cache_clear()
    for compiled in ("off", "on", "on"):
        config = replace(SETTINGS, steps=1, compile=compiled)
        predicting = model(prediction=PredictionConfig(source="past", order=4, block=7, window=20))
        Trainer(predicting, clips(), clips(), config).run()
        assert len(disabled) == (compiled == "on"), "once, and only if something is compiled"
    _run_eagerly.cache_clear()


def test_importing_the_package_loads_no_compiler() -> None:
    code = "import sys; from wavenet import Trainer, WaveNet, generate; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
