"""The conventions of other systems, and features of another kind than a model was trained on."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from tests.conftest import small_config, tone
from wavenet import TimedLabel, TimedLabelsConfig, TrainConfig, Trainer, WaveNet, generate, tensor_clips
from wavenet.network import (
    AcousticModel,
    ConditioningConfig,
    FeatureStatistics,
    LogMel,
    LogMelConfig,
    PredictionConfig,
    foreign_features,
    read_features,
)

SPEECH = Path(__file__).parents[1] / "samples" / "speech" / "en" / "demo-thanks.flac"

TACOTRON = {"spectrum": "magnitude", "scale": "slaney", "area_norm": True, "floor": 1e-5}
CONVENTIONS = {
    "tacotron 2": ({**TACOTRON, "hop": 256, "high_hertz": 8000.0}, 22050, 1.0),
    "hifi-gan": ({**TACOTRON, "hop": 256, "high_hertz": 8000.0, "centred": False}, 22050, 1.0),
    "parallel wavegan": (
        {**TACOTRON, "hop": 300, "window": 1200, "low_hertz": 80.0, "high_hertz": 7600.0, "floor": 1e-10}
        | {"logarithm": "log10"},
        24000,
        1 / math.log(10),
    ),
    "decibels": ({"logarithm": "decibels", "floor": 1e-10}, 16000, 10 / math.log(10)),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_features_of_other_systems_can_be_expressed(name: str) -> None:
    settings, rate, factor = CONVENTIONS[name]
    config, waveform = LogMelConfig(**settings), torch.from_numpy(tone(0.4, rate=rate))
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate=rate,
        n_fft=config.fft,
        win_length=config.window,
        hop_length=config.hop,
        f_min=config.low_hertz,
        f_max=config.high_hertz,
        n_mels=80,
        power=1.0 if config.spectrum == "magnitude" else 2.0,
        norm="slaney" if config.area_norm else None,
        mel_scale=config.scale,
        center=False,
    )
    lead = config.fft // 2 if config.centred else (config.fft - config.hop) // 2
    expected = mel(torch.nn.functional.pad(waveform, (lead, config.fft - lead))).clamp(min=config.floor).log() * factor
    torch.testing.assert_close(LogMel(config, rate)(waveform), expected, atol=1e-3, rtol=1e-4)
    silent = LogMel(config, rate)(torch.zeros(2000))
    torch.testing.assert_close(silent, torch.full_like(silent, config.silence))


def test_frames_off_centre_of_a_window_are_those_of_its_clip() -> None:
    config = LogMelConfig(bins=20, hop=60, window=256, centred=False)
    log_mel, clip = LogMel(config, 16000), torch.from_numpy(tone(0.2))
    whole, margin = log_mel(clip), 600
    row = clip[660 - margin : 660 + 900 + margin][None]
    found, offset = log_mel.around(row, margin, torch.tensor([660]), torch.tensor([len(clip)]))
    first = 660 // 60 + offset
    torch.testing.assert_close(found[0], whole[:, first : first + found.shape[2]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("centred", [True, False])
def test_a_model_of_other_features_trains_speaks_and_knows_their_statistics(tmp_path: Path, centred: bool) -> None:
    features = LogMelConfig(bins=6, hop=12, window=64, logarithm="log10", spectrum="magnitude", centred=centred)
    model = WaveNet(small_config(features=features, conditioning=ConditioningConfig(scales=(3, 4))))
    clips = tensor_clips([torch.from_numpy(tone(0.1)), torch.from_numpy(tone(0.1, hertz=300.0))], 16000)
    trainer = Trainer(model, clips[1:], clips[:1], TrainConfig(steps=1, window=60))
    trainer.run()
    trainer.average.save_pretrained(tmp_path / "x.safetensors")
    again = WaveNet.from_pretrained(tmp_path / "x.safetensors")
    assert again.config == model.config
    of_clip = model.log_mel(clips[1].waveform)
    assert again.feature_statistics == FeatureStatistics.of([of_clip])
    assert generate(again, len(clips[1].waveform), features=of_clip).shape == (1, 1600)


def test_the_acoustic_model_makes_the_same_sound_in_every_unit() -> None:
    natural, decibels = LogMelConfig(), LogMelConfig(logarithm="decibels")
    told, timed = TimedLabelsConfig(names=("one",)), torch.tensor([[0, 1, 0, 0.5, -1.0]]).T[None]
    models = [AcousticModel(told, features, 16000, None) for features in (natural, decibels)]
    models[1].load_state_dict(models[0].state_dict())
    one, other = (model(timed, None) for model in models)
    torch.testing.assert_close(other, one * 10 / math.log(10))
    losses = [model.loss(made, made - model.spread) for model, made in zip(models, (one, other), strict=True)]
    torch.testing.assert_close(losses[0], losses[1])


def test_generate_warns_of_features_that_are_given_and_not_of_its_own() -> None:
    config = small_config(
        features=LogMelConfig(bins=20, hop=12, window=512),
        conditioning=ConditioningConfig(scales=(3, 4)),
        timed_labels=TimedLabelsConfig(names=("one",)),
    )
    model = WaveNet(config)
    with torch.no_grad():
        model.acoustic.layers[-1].bias.fill_(1.0)  # features near 0
    said = [TimedLabel(0.0, 0.03, "one")]
    assert generate(model, timed_labels=said).isfinite().all()
    with pytest.warns(UserWarning, match="they seem normalised to a range"):
        generate(model, features=model.features_of(said))


def test_prediction_from_features_needs_the_usual_ones() -> None:
    with pytest.raises(ValueError, match=r"must be centred natural logs of power, and they are log10 of mel power"):
        small_config(features=LogMelConfig(logarithm="log10"), prediction=PredictionConfig(source="features", block=40))


def mels() -> dict[str, torch.Tensor]:
    waveform = torch.from_numpy(soundfile.read(SPEECH, dtype="float32")[0][:24000])
    power, magnitude = (
        torchaudio.transforms.MelSpectrogram(16000, n_fft=1024, hop_length=200, n_mels=80, power=exponent)(waveform)
        for exponent in (2, 1)
    )
    natural, decibels = power.clamp(min=1e-6).log(), 10 * power.clamp(min=1e-10).log10()
    deviation = natural - natural.mean(dim=1, keepdim=True)
    return {
        "natural": natural,
        "quieter": (natural - 4).clamp(min=math.log(1e-6)),
        "log10 of power": power.clamp(min=1e-10).log10(),
        "natural logs of magnitude": magnitude.clamp(min=1e-5).log(),
        "log10 of magnitude": magnitude.clamp(min=1e-5).log10(),
        "decibels": decibels,
        "normalised": ((decibels + 80) / 100).clamp(0, 1),
        "z-scored by band: multiply each band by its spread": deviation / deviation.std(dim=1, keepdim=True),
        "decibels below their maximum": (decibels - decibels.max()).clamp(min=-80),
        "in reverse order": natural.flip(0),
        "have no logarithm": magnitude,
        "so they seem to have no logarithm": magnitude * 0.01,
        "above full scale": (power * 32768.0**2).clamp(min=1e-6).log(),
        "scaled by about 0.3": ((decibels + 80) / 12.5 - 4).clamp(-4, 4),
        "z-scored as a whole: multiply them by the spread of all values": (natural - natural.mean()) / natural.std(),
        "its mean seems to be subtracted": natural - natural.mean(dim=1, keepdim=True),
        "silence": torch.full((80, 50), math.log(1e-6)),
    }


@pytest.mark.parametrize("known", [False, True], ids=["old file", "with statistics"])
def test_features_of_another_kind_are_noticed(known: bool) -> None:
    kinds = mels()
    statistics = FeatureStatistics.of([kinds["natural"]]) if known else None
    if not known:
        del kinds["scaled by about 0.3"]  # with so much silence they may be another corpus
    for kind, features in kinds.items():
        found = foreign_features(features, LogMelConfig(), statistics)
        if kind in ("natural", "quieter", "silence"):
            assert found is None, kind
        else:
            assert found is not None, kind
            assert kind in found


def test_log10_of_a_clip_with_long_pauses_is_noticed_without_statistics() -> None:
    audio, rate = soundfile.read(SPEECH, dtype="float32")
    mel = LogMel(LogMelConfig(floor=1e-10), rate)(torch.from_numpy(audio[None, :12000]))[0]  # a word, and pauses
    assert foreign_features(mel, LogMelConfig(), None) is None
    assert "log10 of power: multiply them by 2.303" in str(foreign_features(mel / math.log(10), LogMelConfig(), None))


def test_two_things_that_were_done_to_features_are_both_named() -> None:
    found = foreign_features(mels()["log10 of power"].flip(0), LogMelConfig(), None)
    assert found is not None
    assert "log10 of power: multiply them by 2.303" in found
    assert "flip them" in found


def disturbed(clean: torch.Tensor, other: torch.Tensor) -> dict[str, torch.Tensor]:
    """Speech `(T,)` as recordings have it: with noise and babble of `other`, in another band, level or coding."""
    torch.manual_seed(0)
    white = torch.randn_like(clean)
    noises = {"white": white, "low-passed": torchaudio.functional.lowpass_biquad(white, 16000, 1000.0, 0.5)}
    noises["babble"] = sum((other.roll(1000 * shift) for shift in range(1, 7)), torch.zeros_like(clean))
    spectrum, hertz = torch.fft.rfft(clean), torch.fft.rfftfreq(len(clean), 1 / 16000)
    band = torch.fft.irfft(torch.where((hertz > 300) & (hertz < 3400), spectrum, 0), n=len(clean))
    coded = torchaudio.functional.mu_law_decoding(torchaudio.functional.mu_law_encoding(clean, 256), 256)
    quiet, loud = clean * 10**-1.5, clean * 10**1.5
    return {"clean": clean, "of a telephone": band, "coded": coded, "quiet": quiet, "loud": loud} | {
        f"{name} at {level} dB": clean + noise * clean.std() / noise.std() * 10 ** (-level / 20)
        for name, noise in noises.items()
        for level in (0, 5, 10, 15, 20, 30)
    }


def test_disturbed_speech_is_of_no_other_kind() -> None:
    folder, log_mel = SPEECH.parent, LogMel(LogMelConfig(), 16000)
    names = ("demo-thanks", "conf-getconfno", "dir-instr")
    clips = [torch.from_numpy(soundfile.read(folder / f"{name}.flac", dtype="float32")[0]) for name in names]
    clips = [clip[:24000] for clip in clips]
    speech = [disturbed(clip, clips[index - 1]) for index, clip in enumerate(clips)]
    features = [{kind: log_mel(waveform[None])[0] for kind, waveform in kinds.items()} for kinds in speech]
    for corpus in ("clean", "of a telephone", "quiet", "white at 20 dB", None):
        statistics = corpus and FeatureStatistics.of(kinds[corpus] for kinds in features)
        for kinds in features:
            for kind, one in kinds.items():
                assert foreign_features(one, LogMelConfig(), statistics or None) is None, (kind, corpus)


def test_noise_and_tones_are_no_features_of_another_kind() -> None:
    torch.manual_seed(0)
    noise, time = torch.randn(24000) / 10, torch.arange(24000.0)
    log_mel = LogMel(LogMelConfig(), 16000)
    for waveform in (noise, noise.diff(), noise.cumsum(0) / 100, (time / 2).sin() / 2, (time * 2.5).sin() / 2):
        assert foreign_features(log_mel(waveform[None])[0], LogMelConfig(), None) is None


def npy(mel: torch.Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, mel.numpy())
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("mel.NPY", lambda path, mel: path.write_bytes(npy(mel))),
        ("mel.npz", lambda path, mel: np.savez(path, mel=mel.numpy())),
        ("mel.pt", lambda path, mel: torch.save(mel, path)),
        ("mel.PTH", lambda path, mel: torch.save({"mel": mel}, path)),
    ],
)
@pytest.mark.parametrize("batched", [False, True])
def test_feature_files_of_every_kind_are_read(
    tmp_path: Path, name: str, write: Callable[[Path, torch.Tensor], object], batched: bool
) -> None:
    mel = torch.rand(80, 7) - 4
    write(tmp_path / name, mel[None] if batched else mel)
    assert torch.equal(read_features(tmp_path / name, LogMelConfig(), 16000), mel)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("mel.npz", lambda path: np.savez(path, a=np.zeros((80, 2), "f"), b=np.zeros(3))),
        ("mel.npz", lambda path: path.write_bytes(b"PK\3\4 no archive")),
        ("mel.pt", lambda path: torch.save([1, 2], path)),
        ("mel.pt", lambda path: torch.save({"mel": torch.zeros(80, 2).numpy()}, path)),
        ("mel.pt", lambda path: torch.save(torch.zeros(80, 3, dtype=torch.long), path)),
        ("mel.pt", lambda path: torch.save(Path("x"), path)),
        ("mel.pt", lambda path: path.write_bytes(b"\x80 no pickle")),
    ],
)
def test_feature_files_that_hold_something_else_are_refused(
    tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is not a feature file"):
        read_features(tmp_path / name, LogMelConfig(), 16000)


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (torch.zeros(80, 3).to_sparse(), "it has no values"),
        (torch.full((80, 3), -80.0), r"if these are decibels of power, multiply them by 0\.2303"),
    ],
)
def test_a_feature_file_that_does_not_fit_says_how(tmp_path: Path, mel: torch.Tensor, message: str) -> None:
    torch.save(mel, tmp_path / "mel.pt")
    with pytest.raises(ValueError, match=message):
        read_features(tmp_path / "mel.pt", LogMelConfig(), 16000)
