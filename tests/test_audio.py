from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import tone
from wavenet.data import from_int16, read_audio, resample, to_int16, write_audio
from wavenet.data.levels import amplify, level_gain
from wavenet.data.pauses import find_sound


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, tone(0.5, rate=24000), 24000)
    waveform, rate = read_audio(path)
    assert rate == 24000
    assert abs(len(waveform) - 12000) < 3000, "lossy codecs may pad"


def test_channels_are_averaged(tmp_path: Path) -> None:
    channels = np.stack([tone(0.1, rate=96000, hertz=100 * (c + 1)) / 2 for c in range(8)], axis=1)
    soundfile.write(tmp_path / "eight.wav", channels, 96000, subtype="FLOAT")
    waveform, rate = read_audio(tmp_path / "eight.wav")
    assert rate == 96000
    np.testing.assert_allclose(waveform.numpy(), channels.mean(axis=1), atol=1e-6)


def test_int16_round_trip_is_exact() -> None:
    samples = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    assert torch.equal(to_int16(from_int16(samples)), samples)


def test_written_audio_reads_back_to_half_a_step(tmp_path: Path) -> None:
    waveform = torch.from_numpy(tone())
    write_audio(tmp_path / "out.wav", waveform, 16000)
    again, rate = read_audio(tmp_path / "out.wav")
    assert rate == 16000
    assert (again - waveform).abs().max() <= 0.5 / 32768 + 1e-9


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (torch.zeros(4, dtype=torch.int16), 16000, "waveform is torch.int16 of shape .*: divide 16-bit integers"),
        (torch.tensor([0.0, torch.inf]), 16000, "waveform has samples that are not finite"),
        (torch.zeros(2, 4), 16000, r"waveform has shape \(2, 4\); expected one channel, \(T,\) or \(1, T\)"),
        (np.zeros(4), 16000, "waveform is a ndarray; expected a tensor"),
        (torch.zeros(4), 0, "sample_rate is 0 Hz; expected 1000 to 768000"),
    ],
)
def test_what_is_no_waveform_is_not_written(tmp_path: Path, waveform: object, rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_audio(tmp_path / "out.wav", waveform, rate)
    assert not (tmp_path / "out.wav").exists()


def test_a_batch_of_one_is_written_as_it_comes_from_generate(tmp_path: Path) -> None:
    write_audio(tmp_path / "out.wav", torch.full((1, 8), 0.5), 16000)
    assert read_audio(tmp_path / "out.wav")[0].tolist() == [0.5] * 8


def test_resampling_keeps_a_tone_in_the_band_and_removes_one_above_it() -> None:
    t = torch.arange(48000) / 48000
    low, high = (torch.sin(2 * torch.pi * hertz * t) for hertz in (1000, 15000))
    expected = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    middle = slice(500, -500)
    assert (resample(low, 48000, 16000) - expected)[middle].abs().max() < 0.01
    assert resample(high, 48000, 16000)[middle].abs().max() < 0.01


@pytest.mark.parametrize("gain", [1.0, 1e-3])
def test_trimming_does_not_depend_on_the_level(gain: float) -> None:
    silence = torch.full((8000,), 1e-4)
    sound = torch.from_numpy(tone(0.5))
    kept = find_sound(torch.cat([silence, sound, silence]) * gain, 16000, trim_db=40)
    assert len(sound) - 200 <= kept.stop - kept.start <= len(sound) + 2 * 800, "50 ms of margin on each side"


def test_a_level_is_reached_unless_the_peak_is_in_the_way() -> None:
    waveform = torch.from_numpy(tone(0.2))
    for gain in (1.0, 0.01):
        level = amplify(gain * waveform, level_gain(gain * waveform, 26.0))[0].square().mean().log10() * 10
        assert float(level) == pytest.approx(-26.0, abs=1e-3), "the level of before does not matter"
    spike = torch.zeros(1000)
    spike[500] = 0.3
    amplified, limited = amplify(spike, level_gain(spike, 6.0))
    assert float(amplified.abs().max()) == pytest.approx(1.0)
    assert limited


def test_trimming_keeps_a_clip_of_zeros_and_a_clip_of_one_sample() -> None:
    assert find_sound(torch.zeros(100), 16000, 40) == slice(0, 100)
    assert find_sound(torch.ones(1), 16000, 40) == slice(0, 1)


def write_truncated(path: Path) -> None:
    soundfile.write(path, tone(), 16000)
    path.write_bytes(path.read_bytes()[:5000])


def write_streamed(path: Path) -> None:
    """A header from a program that wrote to a pipe and did not know the length."""
    soundfile.write(path, tone(), 16000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_text("hello " * 100), "not readable audio"),
    "truncated": (write_truncated, "is truncated"),
    "no samples": (lambda path: soundfile.write(path, np.zeros(0), 16000), "no samples"),
    "nan": (lambda path: soundfile.write(path, np.full(9, np.nan), 16000, subtype="FLOAT"), "9 of 9 samples are not"),
    "folder": (lambda path: path.mkdir(), "is a folder or device"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_audio_is_named_with_its_fault(tmp_path: Path, kind: str) -> None:
    make, message = BROKEN[kind]
    path = tmp_path / "broken.wav"
    make(path)
    with pytest.raises(ValueError, match=message) as caught:
        read_audio(path)
    assert "broken.wav" in str(caught.value)


def test_wav_from_a_pipe_is_read_whole(tmp_path: Path) -> None:
    write_streamed(tmp_path / "pipe.wav")
    waveform, _ = read_audio(tmp_path / "pipe.wav")
    assert len(waveform) == 8000


def test_rates_in_no_small_ratio_are_refused() -> None:
    with pytest.raises(ValueError, match="44101 Hz to 16000 Hz has no small ratio"):
        resample(torch.zeros(100), 44101, 16000)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such audio file"):
        read_audio(tmp_path / "none.wav")
