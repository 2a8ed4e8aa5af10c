"""Where a frame lies, that it is what torchaudio gives, and what is refused of other systems' features."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from safetensors.torch import save_file

from tests.conftest import tone
from wavenet.network import Alignment, LogMel, LogMelConfig, read_features


def test_features_are_those_of_a_few_lines_of_torchaudio() -> None:
    waveform = torch.from_numpy(tone(0.4))[None]
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate=16000, n_fft=1024, hop_length=200, n_mels=80, pad_mode="constant"
    )
    expected = mel(waveform).clamp(min=1e-6).log()
    torch.testing.assert_close(LogMel(LogMelConfig(), 16000)(waveform), expected, atol=1e-3, rtol=1e-4)
    assert expected.shape[2] == Alignment(hop=LogMelConfig().hop).frames(waveform.shape[1])


@pytest.mark.parametrize("frame", [0, 3, 9])
def test_an_impulse_at_f_times_hop_is_loudest_in_frame_f(frame: int) -> None:
    waveform = torch.zeros(1, 2001)
    waveform[0, frame * 200] = 1.0
    loudness = LogMel(LogMelConfig(window=512), 16000)(waveform)[0].sum(dim=0)
    assert int(loudness.argmax()) == frame
    torch.testing.assert_close(loudness.roll(-frame)[1:2], loudness.roll(-frame)[-1:]) if 0 < frame < 9 else None


def test_features_of_a_window_are_those_of_its_clip() -> None:
    config = LogMelConfig(bins=20, hop=60, window=256)
    log_mel, clip = LogMel(config, 16000), torch.from_numpy(tone(0.1))
    margin, length = 600, 900
    whole = log_mel(clip[None])
    for time in (-300, 0, 660, 1500):
        begin = time - margin
        row = torch.zeros(1, length + 2 * margin)
        first, last = max(0, begin), min(begin + row.shape[1], len(clip))
        row[0, first - begin : last - begin] = clip[first:last]
        found, offset = log_mel.around(row, margin, torch.tensor([time]), torch.tensor([len(clip)]))
        for index in range(found.shape[2]):
            frame = time // config.hop + offset + index
            inside = 0 <= frame < whole.shape[2]
            expected = whole[0, :, frame] if inside else torch.full((20,), config.silence)
            needs = range(frame * 60 - 128, frame * 60 + 128)
            if not inside or (begin <= needs[0] and needs[-1] < begin + row.shape[1]):
                torch.testing.assert_close(found[0, :, index], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: np.save(p, np.zeros((79, 9), np.float32)), r"shape is \(79, 9\); the model needs \(80, frames\)$"),
        (lambda p: np.save(p, np.zeros((9, 80), np.float32)), r"the model needs \(80, frames\); transpose it"),
        (lambda p: np.save(p, np.zeros((80, 0), np.float32)), r"shape is \(80, 0\)"),
        (lambda p: np.save(p, np.full((80, 9), np.nan, np.float32)), "not finite"),
        (lambda p: np.save(p, np.full((80, 9), 60.0, np.float32)), "a value of 60; expected natural logs"),
        (lambda p: np.save(p, np.full((80, 9), -80.0, np.float32)), "a value of -80; expected natural logs"),
        (lambda p: np.save(p, np.full((80, 9), 1e200)), "not finite"),
        (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4', "), "is not a feature file"),
        (lambda p: np.save(p, np.zeros((80, 9), np.int64)), "holds int64, not an array of floating-point"),
        (lambda p: np.save(p, np.array([{}]), allow_pickle=True), "is not a feature file"),
        (lambda p: p.write_bytes(b"noise"), "is not a feature file"),
        (lambda p: p.write_bytes(b""), "is not a feature file"),
    ],
)
def test_features_that_do_not_fit_are_refused(tmp_path: Path, write: object, message: str) -> None:
    write(tmp_path / "mel.npy")
    features_file = tmp_path / "mel.npy"
    with pytest.raises(ValueError, match=message):
        read_features(features_file, LogMelConfig(), 16000)


def test_a_safetensors_file_is_held_to_its_own_hop(tmp_path: Path) -> None:
    path = tmp_path / "mel.safetensors"
    save_file({"mel": torch.zeros(80, 5)}, path, {"hop": "200", "sample_rate": "16000"})
    assert read_features(path, LogMelConfig(), 16000).shape == (80, 5)
    save_file({"mel": torch.zeros(80, 5)}, path, {"hop": "256"})
    with pytest.raises(ValueError, match="its hop is 256; the model's is 200"):
        read_features(path, LogMelConfig(), 16000)


def test_values_below_the_floor_are_raised_to_it(tmp_path: Path) -> None:
    np.save(tmp_path / "mel.npy", np.full((80, 3), -23.0, np.float32))
    features = read_features(tmp_path / "mel.npy", LogMelConfig(), 16000)
    assert torch.equal(features, torch.full((80, 3), LogMelConfig().silence))


def test_bands_without_a_point_of_the_transform_are_refused() -> None:
    with pytest.raises(ValueError, match="no point of a transform of 256 samples falls into the mel bands"):
        LogMel(LogMelConfig(bins=1, window=256, low_hertz=10.0, high_hertz=12.0), 16000)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bins": 0}, "bins is 0"),
        ({"window": 301}, "window is 301"),
        ({"window": 100, "hop": 101}, "expected a window as long"),
        ({"floor": 0.0}, "floor is 0.0"),
        ({"low_hertz": float("nan")}, "low_hertz is nan"),
        ({"low_hertz": -1.0}, "low_hertz is -1.0"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMelConfig(**values)
