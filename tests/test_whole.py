"""Files are read whole, and samples keep their value, or it is said."""

import io
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import tone
from wavenet.data import PrepareConfig, PreparedDataset, Recording, find_clips, prepare_dataset, read_audio
from wavenet.data.levels import fit_full_scale
from wavenet.data.mixing import Mixer
from wavenet.data.packets import _flac_header, _mpeg_frames
from wavenet.data.pauses import find_sound

SAMPLES = 8000
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "VORBIS", "OPUS", "MP3", "NIST")


def encoded(container: str, waveform: np.ndarray | None = None) -> bytes:
    file, codec = io.BytesIO(), container if container in ("VORBIS", "OPUS") else None
    waveform = tone(SAMPLES / 16000) if waveform is None else waveform
    soundfile.write(file, waveform, 16000, format="OGG" if codec else container, subtype=codec)
    return file.getvalue()


def read(path: Path, data: bytes) -> tuple[int, list[str]]:
    notes: list[str] = []
    path.write_bytes(data)
    return len(read_audio(path, note=notes.append)[0]), notes


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_whole_file_is_read_without_a_word(tmp_path: Path, container: str) -> None:
    assert read(tmp_path / "clip.wav", encoded(container)) == (SAMPLES, [])


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kept", [0.3, 0.667, 0.999])
def test_a_cut_file_is_refused(tmp_path: Path, container: str, kept: float) -> None:
    data = encoded(container)
    with pytest.raises(ValueError, match=r"truncated|lost sync|malformed"):
        read(tmp_path / "clip.wav", data[: int(len(data) * kept)])


@pytest.mark.parametrize("container", CONTAINERS)
def test_two_streams_in_one_file_are_refused(tmp_path: Path, container: str) -> None:
    with pytest.raises(ValueError, match="holds more than one stream of audio"):
        read(tmp_path / "clip.wav", encoded(container) * 2)


def with_size(data: bytes, promised: int) -> bytes:
    return data[:4] + struct.pack("<I", (promised + 36) % 2**32) + data[8:40] + struct.pack("<I", promised) + data[44:]


def flac_promising(samples: int, data: bytes) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0]) + samples.to_bytes(4, "big") + data[26:]


def ogg_without_a_page(data: bytes) -> bytes:
    begins = [place for place in range(len(data)) if data[place : place + 4] == b"OggS"]
    return data[: begins[-2]] + data[begins[-1] :]


@pytest.mark.parametrize(
    ("data", "samples", "said"),
    [
        (with_size(encoded("WAV"), 0), SAMPLES, "promises 0 bytes of audio; the 16000 that are there are read"),
        (with_size(encoded("WAV"), 15996), SAMPLES - 2, "promises 15996 bytes of audio, and 16000 are there"),
        (with_size(encoded("WAV"), 2**32 - 1), SAMPLES, None),
        (flac_promising(0, encoded("FLAC")), SAMPLES, "the 8000 samples that are there are read"),
        (encoded("WAV") + b"LIST\4\0\0\0INFO", SAMPLES, None),
        (encoded("MP3") + b"TAG" + b"a" * 125, SAMPLES, None),
        (encoded("MP3") + b"!" * 20, SAMPLES, "20 bytes after its first"),
    ],
)
def test_what_is_read_against_the_header_is_said(tmp_path: Path, data: bytes, samples: int, said: str | None) -> None:
    found, notes = read(tmp_path / "clip.wav", data)
    assert found == samples
    assert [said in note and "clip.wav" in note for note in notes] == ([True] if said else [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_size(encoded("WAV"), 1000), "promises 1000 bytes of audio, and 16000 are there"),
        (with_size(encoded("WAV"), 16002), "promises 16002 bytes of audio, 16000 are there"),
        (encoded("WAV") + b"data\2\0\0\0ab", "holds more than one stream of audio: the first has 16000 bytes"),
        (flac_promising(4000, encoded("FLAC")), "promises 4000 samples, and 8000 are there"),
        (encoded("VORBIS").replace(b"vorbis", b"vorbos", 1), "the page at byte 0 does not have its checksum"),
        (ogg_without_a_page(encoded("VORBIS", tone(6.0))), "pages are missing"),
    ],
)
def test_a_wrong_header_or_a_hole_is_refused_with_both_numbers(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "clip.wav", data)


def mpeg_frames(data: bytes) -> list[int]:
    return [place for place, _, _ in _mpeg_frames(io.BytesIO(data), 0)]


def varied(seconds: float = 20.0) -> np.ndarray:
    """Quiet at first and loud at the end, so that the frames of an MP3 file grow."""
    noise = np.random.default_rng(0).normal(size=int(seconds * 16000)).astype(np.float32)
    return noise * np.linspace(0, 0.3, len(noise), dtype=np.float32) ** 2


def test_an_mp3_file_that_does_not_say_how_long_it_is_is_read_to_its_end(tmp_path: Path) -> None:
    data = encoded("MP3", varied())
    places = mpeg_frames(data)
    counted = data[places[1] :]
    tag = b"ID3\4\0\0\0\0\7\x68" + bytes(1000)
    for file in (counted, tag + counted, counted[: places[9] - places[1]] + tag + counted[places[9] - places[1] :]):
        assert read(tmp_path / "clip.mp3", file) == ((len(places) - 1) * 576 - 529, [])  # less the decoder's delay


def test_an_mp3_file_with_bytes_between_its_frames_or_of_two_rates_is_refused(tmp_path: Path) -> None:
    first, second = encoded("MP3", varied()), io.BytesIO()
    soundfile.write(second, varied(), 22050, format="MP3")
    first = first[mpeg_frames(first)[1] :]
    with pytest.raises(ValueError, match="are not MPEG, and more frames follow"):
        read(tmp_path / "clip.mp3", first + b"!" * 500 + first)
    with pytest.raises(ValueError, match="one of another rate or channels begins at byte"):
        read(tmp_path / "clip.mp3", first + second.getvalue())


def test_a_flac_file_that_lacks_a_frame_is_refused(tmp_path: Path) -> None:
    data = encoded("FLAC", tone(5.0))
    begins = [found.start() for found in re.finditer(b"\xff[\xf8\xf9]", data) if _flac_header(data[found.start() :])]
    with pytest.raises(ValueError, match=r"its samples do not have the checksum \(MD5\) in its header"):
        read(tmp_path / "clip.flac", data[: begins[3]] + data[begins[4] :])
    assert read(tmp_path / "clip.flac", data[:26] + bytes(16) + data[42:]) == (80000, [])  # it has no checksum


def test_a_cut_sphere_file_of_another_coding_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, tone(), 16000, format="NIST", subtype="ALAW")
    with pytest.raises(ValueError, match="promises 8000 bytes of audio, 4000 are there"):
        read(tmp_path / "clip.sph", file.getvalue()[:5024])


def test_a_header_that_is_off_by_half_a_sample_is_noticed(tmp_path: Path) -> None:
    found, notes = read(tmp_path / "clip.wav", with_size(encoded("WAV"), 15999)[:-1] + b"\x11")
    assert found == SAMPLES - 1
    assert ["promises 15999 bytes of audio, and 16000 are there" in note for note in notes] == [True]


def test_samples_that_overflow_when_they_are_mixed_are_no_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", np.full((99, 2), 3e38, np.float32), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"198 of 198 samples are not finite \(NaN, infinity, or over 1e\+12\)"):
        read_audio(tmp_path / "clip.wav")


def test_channels_that_cancel_each_other_are_refused_and_independent_ones_are_not(tmp_path: Path) -> None:
    one, other = tone(0.2), tone(0.2, hertz=333.0, seed=1)
    for channels in ((one, other), (one, one * 0), (one, *[one * 0] * 15)):
        soundfile.write(tmp_path / "clip.wav", np.stack(channels, 1), 16000, subtype="FLOAT")
        assert read_audio(tmp_path / "clip.wav")[0].any()
    soundfile.write(tmp_path / "clip.wav", np.stack([one, -0.9 * one], 1), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"clip.wav has 2 channels that cancel each other"):
        read_audio(tmp_path / "clip.wav")


def test_independent_channels_of_a_long_recording_cancel_only_by_chance() -> None:
    """Hums of drifting phase meet in opposite phase again and again; a minute in opposite phase is no chance."""
    random, rate = np.random.default_rng(0), 4000
    for turned in (False, True):
        mixer, notes, phase = Mixer(2, rate), list[str](), np.zeros(2)
        for minute in range(10 if turned else 60):
            phases = phase + random.normal(0, 0.014, (60 * rate, 2)).cumsum(axis=0)
            phase, angles = phases[-1], 2 * np.pi * 150 * np.arange(60 * rate)[:, None] / rate
            block = np.sin(angles + phases) + 0.05 * random.normal(size=phases.shape)
            if turned and minute == 4:
                block[:, 1] = -block[:, 0]
            mixer.mix(block.astype(np.float32))
        mixer.check(notes.append)
        assert [note.startswith("for 60.") and "first at 240.0 s" in note for note in notes] == [True] * turned, notes


def test_channels_that_cancel_each_other_for_a_while_are_said(tmp_path: Path) -> None:
    one, other = tone(10.0), tone(10.0, hertz=333.0, seed=1)
    turned = np.where(abs(np.arange(len(one)) / 16000 - 4) < 1, -one, one)
    for channels, said in (((one, turned), True), ((one, other), False), ((one, one * 0), False)):
        soundfile.write(tmp_path / "clip.wav", np.stack(channels, 1), 16000, subtype="FLOAT")
        notes = list[str]()
        read_audio(tmp_path / "clip.wav", note=notes.append)
        assert ["clip.wav: for 2.0 s in all, first at 3.0 s, it has 2 channels that cancel" in n for n in notes] == (
            [True] * said
        )


@pytest.mark.parametrize(("peak", "said"), [(1.0, None), (1.05, "are clipped"), (1.9, r"scaled down by 5.6 dB")])
def test_samples_over_full_scale_are_clipped_or_scaled_and_it_is_said(peak: float, said: str | None) -> None:
    waveform, notes = torch.from_numpy(tone()), []
    fitted = fit_full_scale(waveform / waveform.abs().max() * peak, "x", notes.append)
    assert fitted.abs().max() <= 1
    assert [said in note for note in notes] == ([True] if said else [])


def one_clip(tmp_path: Path, waveform: np.ndarray, note: Callable[[str], None]) -> int:
    """The samples of a clip that is prepared from these of a float file."""
    soundfile.write(tmp_path / "clip.wav", waveform, 16000, subtype="FLOAT")
    recording = Recording(name="clip", path=tmp_path / "clip.wav", split="train")
    prepare_dataset([recording], tmp_path / "dataset", PrepareConfig(), force=True, note=note)
    return PreparedDataset(tmp_path / "dataset").clips[0].samples


@pytest.mark.parametrize(
    ("gain", "message"), [(32768.0, "full scale is 1; scale it down"), (1e-6, "rounds to silence in 16 bits")]
)
def test_a_clip_in_another_unit_is_refused(tmp_path: Path, gain: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_clip(tmp_path, tone() * gain, lambda note: None)


@pytest.mark.parametrize("gain", [32768.0, 1.5, 1e-6])
def test_a_level_of_ones_own_choice_takes_clips_in_any_unit(tmp_path: Path, gain: float) -> None:
    soundfile.write(tmp_path / "clip.wav", tone() * gain, 16000, subtype="FLOAT")
    recording, notes = Recording(name="clip", path=tmp_path / "clip.wav", split="train"), []
    prepare_dataset([recording], tmp_path / "dataset", PrepareConfig(level_db=26), note=notes.append)
    level = PreparedDataset(tmp_path / "dataset").clips[0].read().square().mean().log10() * 10
    assert (round(float(level), 1), notes) == (-26.0, [])


def test_clips_that_lose_most_of_themselves_are_named(tmp_path: Path) -> None:
    notes: list[str] = []
    one_clip(tmp_path, np.concatenate([np.zeros(40000, np.float32), tone()]), notes.append)
    assert [note.endswith("clip.wav: trimming keeps 0.55 of 3.00 s") for note in notes] == [True]


def test_a_file_that_is_refused_is_not_said_to_be_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).normal(size=80000) * 0.1, 16000)
    data = (tmp_path / "a.flac").read_bytes()
    for share in (0.35, 0.5, 0.65, 0.8):
        (tmp_path / "cut.flac").write_bytes(data[: int(len(data) * share)])
        said: list[str] = []
        with pytest.raises(ValueError, match=r"cut\.flac"):
            read_audio(tmp_path / "cut.flac", note=said.append)
        assert not said


def quiet_speech(level: float) -> torch.Tensor:
    """A second of sound between seconds of silence."""
    return torch.cat([torch.zeros(16000), torch.from_numpy(tone(1.0)) * level, torch.zeros(16000)])


@pytest.mark.parametrize("samples", [1, 100])
def test_a_click_takes_no_speech(samples: int) -> None:
    clip = quiet_speech(0.01)
    clip[4000 : 4000 + samples] = 1.0
    assert torch.equal(clip[find_sound(clip, 16000, 40)], clip[3200:32800])


@pytest.mark.parametrize("offset", [torch.full((48000,), 0.05), torch.linspace(-0.2, 0.2, 48000)])
def test_an_offset_keeps_no_silence(offset: torch.Tensor) -> None:
    clip = quiet_speech(0.3) + offset
    assert torch.equal(clip[find_sound(clip, 16000, 40)], clip[15200:32800])


def test_a_file_that_changed_is_read_anew_when_preparation_goes_on(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"not yet copied")
    soundfile.write(tmp_path / "in" / "b.wav", tone(), 16000)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    found = find_clips(tmp_path / "in", "folder", held_out=0)
    with monkeypatch.context() as patch:
        patch.setattr("wavenet.data.prepare._write_manifest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset(found, tmp_path / "data", PrepareConfig())
    soundfile.write(tmp_path / "in" / "a.wav", tone(), 16000)
    with pytest.warns(UserWarning, match="was begun with other settings or files; it begins anew"):
        assert prepare_dataset(found, tmp_path / "data", PrepareConfig()) == []
