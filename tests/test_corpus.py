"""Known corpora, each on a tiny tree of the layout its archive unpacks to."""

from pathlib import Path

import pytest
import soundfile

from tests.conftest import tone
from wavenet.data import Recording, find_clips, stable_split


def put(path: Path, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(0.1, rate), rate)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def by_name(clips: list[Recording]) -> dict[str, Recording]:
    assert all(clip.path.is_file() for clip in clips)
    assert len({clip.name for clip in clips}) == len(clips)
    return {clip.name: clip for clip in clips}


def test_folder_takes_speakers_and_texts(tmp_path: Path) -> None:
    put(tmp_path / "ann" / "deep" / "one.wav")
    write(tmp_path / "ann" / "deep" / "one.txt", "Hello.\n")
    put(tmp_path / "bob" / "two.FLAC")
    clips = by_name(find_clips(tmp_path, "folder", held_out=0.1, speakers=True))
    assert clips["ann/deep/one"].speaker == "ann"
    assert clips["ann/deep/one"].text == "Hello."
    assert clips["bob/two"].speaker == "bob"
    assert clips["bob/two"].text is None


def test_same_stem_twice_gives_two_names(tmp_path: Path) -> None:
    put(tmp_path / "one.wav")
    put(tmp_path / "one.flac")
    assert set(by_name(find_clips(tmp_path, "folder", held_out=0.1))) == {"one.wav", "one.flac"}


def test_ljspeech(tmp_path: Path) -> None:
    root = tmp_path / "LJSpeech-1.1"
    write(root / "metadata.csv", 'LJ001-0001|Printing, 1|Printing, one\nLJ001-0002|"Quoted|"Quoted\n')
    for name in ("LJ001-0001", "LJ001-0002"):
        put(root / "wavs" / f"{name}.wav", 22050)
    clips = by_name(find_clips(tmp_path, "ljspeech", held_out=0.1))
    assert clips["LJ001-0001"].text == "Printing, one"
    assert clips["LJ001-0002"].text == '"Quoted'
    assert {clip.speaker for clip in clips.values()} == {"LJ"}


def test_vctk(tmp_path: Path) -> None:
    root = tmp_path / "VCTK-Corpus-0.92"
    write(root / "txt" / "p225" / "p225_001.txt", "Please call Stella.\n")
    for microphone in (1, 2):
        put(root / "wav48_silence_trimmed" / "p225" / f"p225_001_mic{microphone}.flac", 48000)
    put(root / "wav48_silence_trimmed" / "p315" / "p315_001_mic2.flac", 48000)  # has no text
    clips = by_name(find_clips(tmp_path, "vctk", held_out=0.1))
    assert clips["p225_001"].speaker == "p225"
    assert clips["p225_001"].text == "Please call Stella."
    assert clips["p225_001"].path.name == "p225_001_mic2.flac"
    assert clips["p315_001"].text is None


def test_libritts_keeps_its_official_split(tmp_path: Path) -> None:
    for part, speaker in (("train-clean-100", "103"), ("dev-clean", "84"), ("test-clean", "61")):
        stem = tmp_path / "LibriTTS" / part / speaker / "1240" / f"{speaker}_1240_000000_000001"
        put(stem.with_suffix(".wav"), 24000)
        write(stem.with_suffix(".normalized.txt"), "Text.")
    clips = by_name(find_clips(tmp_path, "libritts", held_out=0.1))
    splits = {clip.speaker: clip.split for clip in clips.values()}
    assert splits == {"103": "train", "84": "validation", "61": "test"}
    assert clips["103_1240_000000_000001"].text == "Text."


def test_sc09_takes_the_digits_and_the_official_split(tmp_path: Path) -> None:
    root = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    for word, speaker in (("one", "aa"), ("two", "bb"), ("nine", "cc"), ("marvin", "dd")):
        put(root / word / f"{speaker}_nohash_0.wav")
    write(root / "validation_list.txt", "two/bb_nohash_0.wav\n")
    write(root / "testing_list.txt", "nine/cc_nohash_0.wav\n")
    clips = by_name(find_clips(tmp_path, "sc09", held_out=0.5))
    assert {name: clip.split for name, clip in clips.items()} == {
        "one/aa_nohash_0": "train",
        "two/bb_nohash_0": "validation",
        "nine/cc_nohash_0": "test",
    }
    assert clips["one/aa_nohash_0"].speaker == "aa"
    assert clips["one/aa_nohash_0"].text == "one"


def test_split_is_stable_and_of_the_share_asked_for() -> None:
    names = [f"clip{index}" for index in range(5000)]
    held_out = [name for name in names if stable_split(name, 0.1) == "test"]
    assert 400 < len(held_out) < 600, "500 expected, 21 standard deviation"
    assert all(stable_split(name, 0.2) == "test" for name in held_out), "a larger share keeps the smaller one's clips"
    assert stable_split("clip0", 0.1) == "train", "must never change: models were trained on it"


@pytest.mark.parametrize("corpus", ["ljspeech", "vctk", "libritts", "sc09"])
def test_wrong_layout_is_said(tmp_path: Path, corpus: str) -> None:
    put(tmp_path / "one.wav")
    with pytest.raises(ValueError, match=str(tmp_path)):
        find_clips(tmp_path, corpus, held_out=0.1)


def test_wrong_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_clips(tmp_path / "none", "folder", held_out=0.1)
    with pytest.raises(ValueError, match="has no audio files"):
        find_clips(tmp_path, "folder", held_out=0.1)
    put(tmp_path / "one.wav")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        find_clips(tmp_path / "one.wav", "folder", held_out=0.1)
    with pytest.raises(ValueError, match="is not in a speaker's folder"):
        find_clips(tmp_path, "folder", held_out=0.1, speakers=True)
    with pytest.raises(ValueError, match="corpus is 'timit'; expected one of folder, ljspeech"):
        find_clips(tmp_path, "timit", held_out=0.1)
