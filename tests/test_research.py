"""The programs of recipes/research, shortened: they run, and what they compare can be compared."""

import importlib
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch

from wavenet import LogisticMixture, TrainConfig, Trainer, WaveNet, generate, load_folder
from wavenet.data import find_clips
from wavenet.network import measure_reach, multiply_adds

ROOT = Path(__file__).parent.parent
SPEECH = ROOT / "samples" / "speech"


sys.path.append(str(ROOT / "recipes" / "research"))  # where the programs' own processes find them again
layer, schedule, distribution, likelihood = map(
    importlib.import_module, ("layer", "schedule", "distribution", "likelihood")
)


@pytest.fixture
def short_speech(tmp_path: Path) -> Path:
    """Half a second of each held-out clip, and of as many others."""
    clips = find_clips(SPEECH, "folder", held_out=0.1, speakers=True)
    for split in ("train", "test"):
        for clip in [clip for clip in clips if clip.split == split][:6]:
            path = tmp_path / "short" / clip.path.relative_to(SPEECH)
            path.parent.mkdir(parents=True, exist_ok=True)
            samples, rate = soundfile.read(clip.path)
            soundfile.write(path, samples[rate : rate + rate // 2], rate)
    return tmp_path / "short"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs work without processes of their own, which take seconds to start. (test_pages.py runs them with.)"""
    for program in (schedule, distribution):
        monkeypatch.setattr(program, "workers", lambda count: nullcontext(SimpleNamespace(map=map)))


def test_schedules_cost_the_same_and_begin_with_the_same_weights() -> None:
    networks = []
    for dilations in schedule.SCHEDULES.values():
        torch.manual_seed(0)
        networks.append(WaveNet(schedule.network(dilations)))
    first = networks[0].state_dict()
    for network in networks:
        assert len(schedule.lags(network.config.dilations)) == measure_reach(network.config.dilations, 2).sum()
        assert multiply_adds(network) == multiply_adds(networks[0])
        assert all(torch.equal(tensor, first[name]) for name, tensor in network.state_dict().items())


def test_schedules_learn_from_the_same_windows(short_speech: Path) -> None:
    train, held_out = load_folder(short_speech)
    training, windows = TrainConfig(steps=1, window=500), []
    for dilations in schedule.SCHEDULES.values():
        trainer = Trainer(WaveNet(schedule.network(dilations)), train, held_out, training)
        windows.append(trainer.sampler.batch(3).samples[:, -training.window :])
    assert len(held_out) == 6
    assert all(torch.equal(window, windows[0]) for window in windows)


@pytest.mark.usefixtures("in_this_process")
def test_schedules_are_compared(short_speech: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(schedule, "SPEECH", short_speech)
    chosen = ("tripling, two cycles", "doubling from 2")
    monkeypatch.setattr(schedule, "SCHEDULES", {name: schedule.SCHEDULES[name] for name in chosen})
    tripling, doubling = schedule.main(["--steps", "3"])
    assert (tripling.seen, tripling.receptive_field) == (243, 243), "base three: every number has its digits"
    assert (doubling.seen, doubling.receptive_field) == (1024, 2047), "and none of these sums is odd"
    assert all(4 < result.bits < 8 for result in (tripling, doubling))
    assert chosen[0] in capsys.readouterr().out


def test_laplace_mixture_holds_what_its_check_asks_and_a_wrong_one_does_not() -> None:
    class WrongTails(distribution.LaplaceMixture):
        def quantile(self, share: torch.Tensor) -> torch.Tensor:
            return 1.1 * super().quantile(share)

    class WrongMass(distribution.LaplaceMixture):
        def log_mass(self, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
            return super().log_mass(lower, upper) + 1e-6

    parameters = distribution.random_parameters()
    for right in (distribution.LaplaceMixture, LogisticMixture):
        distribution.check(right(distribution.COMPONENTS), parameters)
    for wrong, message in ((WrongTails, "standard deviations"), (WrongMass, "sum to one")):
        with pytest.raises(AssertionError, match=message):
            distribution.check(wrong(distribution.COMPONENTS), parameters)


def test_an_engine_runs_a_distribution_that_it_does_not_know() -> None:
    torch.manual_seed(0)
    model = WaveNet(distribution.network(distribution.LaplaceMixture(2), predicted=False)).double().eval()
    torch.nn.init.normal_(model.output.weight, std=0.1)
    naive, fast = (generate(model, 40, seed=3, engine=engine) for engine in ("naive", "incremental"))
    assert torch.equal(naive, fast)
    assert len(naive.unique()) > 30


@pytest.mark.usefixtures("in_this_process")
def test_distributions_are_compared_at_equal_cost(short_speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "SPEECH", short_speech)
    results = distribution.main(["--steps", "3"])
    assert [result.name for result in results] == list(distribution.DISTRIBUTIONS)
    costs = [result.multiply_adds for result in results]
    assert max(costs) < 1.001 * min(costs)
    for result in results[:2]:
        assert result.bits == pytest.approx(result.mu_law_bits), "its symbols are the 256 classes"
    for result in results[2:]:
        assert result.bits > result.mu_law_bits + 1, "256 classes are coarser than 65,536 levels"


def test_a_recording_is_more_probable_than_what_was_made_of_it(tmp_path: Path) -> None:
    model = WaveNet.from_pretrained(likelihood.SAMPLES / "models" / "prompts.safetensors")
    goodbye = likelihood.load(SPEECH / "en" / "demo-thanks.flac", 16000)
    clip = goodbye[20000:44000]
    found = {name: bits[0] for name, bits in likelihood.compare_alterations(model, [clip]).items()}
    recorded = found["as recorded"]
    for name in ("upside down", "reversed in time", "20 ms pieces shuffled", "with noise 30 dB below the speech"):
        assert found[name][0] > recorded[0] + 0.02, name
    assert abs(found["upside down"][1] - recorded[1]) < 0.02, "linear prediction is blind to the sign"
    likelihood.draw(clip, likelihood.surprise(model, clip), 16000, tmp_path / "surprise.png")
    assert (tmp_path / "surprise.png").stat().st_size > 20_000


@pytest.mark.parametrize("names", [["backward"], ["backward", "forward"], ["backward", "forward", "louder"]])
def test_each_file_is_scored_once_and_the_first_is_drawn(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = likelihood.load(SPEECH / "en" / "demo-thanks.flac", 16000)[20000:36000]
    for name, samples in (("forward", clip), ("backward", clip.flip(0)), ("louder", 2 * clip)):
        soundfile.write(tmp_path / f"{name}.wav", samples.numpy(), 16000)
    files = [str(tmp_path / f"{name}.wav") for name in names]
    scored: list[torch.Tensor] = []
    drawn: list[tuple[torch.Tensor, torch.Tensor]] = []
    surprise = likelihood.surprise
    monkeypatch.setattr(likelihood, "surprise", lambda *given: scored.append(surprise(*given)) or scored[-1])
    monkeypatch.setattr(likelihood, "draw", lambda waveform, bits, rate, path: drawn.append((waveform, bits)))
    likelihood.main([*files, "--picture", str(tmp_path / "surprise.png")])
    lines = [f"{file}: {float(bits[0].mean()):.3f} bits per sample" for file, bits in zip(files, scored, strict=True)]
    told = [f"the more probable: {tmp_path / 'forward.wav'}"] if len(files) > 1 else []
    assert capsys.readouterr().out.splitlines() == [*lines, *told]
    torch.testing.assert_close(drawn, [(likelihood.load(Path(files[0]), 16000), scored[0])])


def test_the_shortest_of_recordings_has_a_picture_too(tmp_path: Path) -> None:
    model = WaveNet.from_pretrained(likelihood.SAMPLES / "models" / "prompts.safetensors")
    waveform = torch.tensor([0.5])
    likelihood.draw(waveform, likelihood.surprise(model, waveform), 16000, tmp_path / "surprise.svg")
    assert "bits per sample" in (tmp_path / "surprise.svg").read_text()


def test_a_block_of_ones_own_is_trained_beside_the_package_s_and_heard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = layer.main(["--steps", "2", "--audio", str(tmp_path / "heard"), "--seconds", "0.05"])
    assert list(bits) == ["the package's", "normalised"]
    assert len(set(bits.values())) == 2, "the same figure twice: the block was not taken"
    printed = capsys.readouterr().out
    assert printed.count("91,136 multiply-adds") == 2, "they do not cost the same"
    heard = {path.name: soundfile.info(path).frames for path in (tmp_path / "heard").iterdir()}
    assert heard == {"package's.wav": 800, "normalised.wav": 800}
