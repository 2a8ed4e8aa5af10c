"""Long recordings become clips, in bounded memory, and nothing but silence is lost between them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio import functional

from tests.conftest import tone
from wavenet.data import HeldOut, PrepareConfig, PreparedDataset, Recording, find_clips, load_folder, prepare_dataset
from wavenet.data.audio import read_audio, read_blocks, resample, resample_blocks
from wavenet.data.levels import high_pass
from wavenet.data.pauses import cut_at_pauses, silence_level
from wavenet.network import TimedLabel

Book = Callable[..., Path]
SEED = np.random.default_rng


def spoken(seconds: float, rate: int = 16000, pauses: float = 0.5, noise: float = 1e-4, seed: int = 0) -> np.ndarray:
    """Bursts of sound of 1 to 3 s with pauses between them, over noise."""
    generator, parts, made = SEED(seed), [], 0
    while made < seconds * rate:
        burst = 0.5 * tone(generator.uniform(1, 3), rate, generator.uniform(100, 300), seed=made)
        parts += [burst, np.zeros(int(generator.uniform(0.6, 1.4) * pauses * rate), np.float32)]
        made += len(parts[-1]) + len(parts[-2])
    waveform = np.concatenate(parts)[: int(seconds * rate)]
    return (waveform + generator.normal(size=len(waveform)) * noise).astype(np.float32)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    def write(waveform: np.ndarray, name: str = "book.wav", rate: int = 16000, subtype: str = "FLOAT") -> Path:
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "in" / name, waveform, rate, subtype=subtype)
        return tmp_path / "in"

    return write


def prepared(source: Path, name: str = "dataset", held_out: float | HeldOut = 0.3, **settings: object):
    """The dataset, and what was said about it."""
    notes: list[str] = []
    clips = find_clips(source, "folder", held_out=held_out)
    prepare_dataset(clips, source.parent / name, PrepareConfig(**settings), force=True, note=notes.append)
    return PreparedDataset(source.parent / name), notes


RATES = [(48000, 16000), (44100, 16000), (22050, 16000), (16000, 22050), (8000, 48000), (48000, 44100), (11025, 8000)]


@pytest.mark.parametrize("block", [997, 40000])
@pytest.mark.parametrize(("source", "target"), [*RATES, (16000, 16000)])
def test_resampling_in_blocks_equals_resampling_the_whole_to_the_bit(source: int, target: int, block: int) -> None:
    for samples in (1, 300, 100_001):
        waveform = torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.2
        blocks = list(resample_blocks(waveform.split(block), source, target))
        assert torch.equal(torch.cat(blocks), resample(waveform, source, target))


def test_reading_in_blocks_equals_reading_the_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([spoken(20.0), spoken(20.0, seed=1)], 1), 16000)
    blocks = [block for block, _ in read_blocks(tmp_path / "a.flac")]
    assert len(blocks) > 1
    assert torch.equal(torch.cat(blocks), read_audio(tmp_path / "a.flac")[0])


def test_a_high_pass_in_blocks_equals_that_of_the_whole_and_removes_an_offset() -> None:
    waveform = torch.from_numpy(spoken(5.0)) + 0.2
    (whole,) = high_pass([waveform], 16000, 20.0)
    blocks = torch.cat(list(high_pass(waveform.split(9000), 16000, 20.0)))
    assert (whole - blocks).abs().max() < 1e-7, "the filter forgets what was 10 periods ago, by a factor of e^-44"
    assert whole.unfold(0, 4000, 4000).mean(1).abs().max() < 2e-3, "also at the beginning"
    assert not torch.cat(list(high_pass([torch.full((9000,), 0.3)], 16000, 20.0))).any()


def test_without_trimming_the_pieces_are_the_whole_recording(book: Book) -> None:
    waveform = spoken(64.3, 24000)
    dataset, _ = prepared(book(waveform, rate=24000), trim_db=None)
    whole = resample(torch.from_numpy(waveform), 24000, 16000)
    pieces = [clip.read() for clip in dataset.clips]
    assert (torch.cat(pieces) - whole).abs().max() <= 0.5 / 32768 + 1e-9
    assert [clip.start for clip in dataset.clips] == list(np.cumsum([0, *map(len, pieces[:-1])]) / 16000)


def test_with_trimming_only_silence_is_left_out(book: Book) -> None:
    waveform = spoken(90.0, pauses=2.0)
    dataset, notes = prepared(book(waveform))
    kept = np.zeros(len(waveform), bool)
    for clip in dataset.clips:
        begin = round(clip.start * 16000)
        assert not kept[begin : begin + clip.samples].any(), "no sample is in two clips"
        kept[begin : begin + clip.samples] = True
        assert abs(clip.read().numpy() - waveform[begin : begin + clip.samples]).max() <= 0.5 / 32768 + 1e-9
    assert 0.3 < kept.mean() < 0.9
    assert np.abs(waveform[~kept]).max() < 1e-3, "what is left out is the noise in the pauses"
    assert len(notes) == 1
    assert notes[0].startswith(f"recordings longer than 15 s: 1, cut into {len(dataset.clips)} clips (0 cuts where ")


@pytest.mark.parametrize("longest", [3.0, 15.0])
@pytest.mark.parametrize("kind", ["speech", "noise", "silence", "one level", "long pauses"])
@pytest.mark.parametrize("trim_db", [None, 40.0])
def test_no_clip_is_longer_than_asked_for(book: Book, kind: str, longest: float, trim_db: float | None) -> None:
    waveform = {
        "speech": lambda: spoken(50.0),
        "noise": lambda: SEED(0).normal(size=800000).astype(np.float32) * 0.1,
        "silence": lambda: np.concatenate([tone(0.5), np.zeros(600000, np.float32), tone(0.5)]),
        "one level": lambda: np.full(500000, 0.25, np.float32) * (-1) ** np.arange(500000),
        "long pauses": lambda: spoken(60.0, pauses=18.0),
    }[kind]()
    dataset, notes = prepared(book(waveform), max_seconds=longest, trim_db=trim_db)
    assert all(clip.samples <= longest * 16000 for clip in dataset.clips)
    assert len(notes) <= 2
    if kind in ("noise", "one level"):
        assert sum(clip.samples for clip in dataset.clips) == len(waveform), "what is one sound is kept whole"


def test_cuts_fall_into_pauses_and_without_one_to_the_lowest_level() -> None:
    levels = torch.full((4000,), 0.1)
    for begin in (700, 1100, 2000, 2600):
        levels[begin : begin + 30] = 1e-4
    pieces, without_pause = cut_at_pauses(levels, 1500, silence_level(levels, 40))
    assert pieces == [range(1105), range(1125, 2605), range(2625, 4000)]
    assert without_pause == 0
    levels = torch.full((2000,), 0.1)
    levels[1200:1212] = 0.05
    pieces, without_pause = cut_at_pauses(levels, 1500, None)
    assert pieces == [range(1205), range(1205, 2000)]
    assert without_pause == 1


def test_short_recordings_are_clips_as_they_were_before(book: Book) -> None:
    """Also one of exactly the longest length: neither names, nor splits, nor samples, nor the index know of cutting."""
    for name, seconds in (("a.wav", 15.0), ("b.wav", 3.0)):
        source = book(spoken(seconds, 44100), name, 44100)
    new, _ = prepared(source)
    old, _ = prepared(source, "old", max_seconds=None)
    for name in ("audio.pcm", "index.jsonl"):
        assert (new.path / name).read_bytes() == (old.path / name).read_bytes()
    assert b"start" not in (new.path / "index.jsonl").read_bytes()
    assert [clip.name for clip in new.clips] == ["a", "b"]


def test_a_split_follows_a_piece_s_name_whatever_else_is_there(book: Book) -> None:
    waveform = spoken(200.0)
    source = book(waveform)
    before = {clip.name: clip.split for clip in prepared(source)[0].clips}
    assert set(before.values()) == {"train", "test"}, "one recording is a corpus with a held-out part of its own"
    assert all(name.startswith("book/00") and len(name) == len("book/00000.000") for name in before)
    book(spoken(40.0, seed=5), "book.flac", subtype="PCM_16")
    both = {clip.name: clip.split for clip in prepared(source)[0].clips}
    assert {name.replace("book.wav", "book"): split for name, split in both.items() if ".wav" in name} == before
    (source / "book.flac").unlink()
    waveform[: 16000 * 20] = spoken(20.0, seed=9)
    book(waveform)
    changed = {clip.name: clip.split for clip in prepared(source)[0].clips}
    shared = before.keys() & changed.keys()
    assert len(shared) > len(before) * 0.6, "cuts far from the change stay where they were"
    assert all(before[name] == changed[name] for name in shared)


def test_pieces_have_the_labels_and_not_the_text_and_a_rule_by_label_holds(book: Book) -> None:
    source = book(spoken(40.0), "ann_1.wav")
    (source / "ann_1.txt").write_text("a whole book")
    clips = find_clips(source, "folder", labels="{speaker}_{take}", held_out=HeldOut(label="take", values=("1",)))
    notes: list[str] = []
    prepare_dataset(clips, source.parent / "dataset", PrepareConfig(), note=notes.append)
    for clip in PreparedDataset(source.parent / "dataset").clips:
        assert (clip.text, clip.split, clip.labels) == (None, "test", {"speaker": "ann", "take": "1"})
        assert clip.source.endswith("ann_1.wav")
    assert "recordings that were cut and have a text: 1; their clips have none, as it has no times" in notes


def test_timed_labels_go_to_the_pieces_by_their_own_clocks(book: Book) -> None:
    source = book(spoken(60.0))
    labels = tuple(TimedLabel(start, start + 1.0, f"w{start}") for start in range(60))
    recording = Recording(name="book", path=source / "book.wav", split="train", timed_labels=labels)
    notes: list[str] = []
    prepare_dataset([recording], source.parent / "dataset", PrepareConfig(), note=notes.append)
    clips = PreparedDataset(source.parent / "dataset").clips
    for clip in clips:
        for label in clip.timed_labels:
            assert 0 <= label.start < label.end <= clip.samples / 16000 + 1e-9
            if label.end - label.start > 0.999:
                assert clip.start + label.start == pytest.approx(int(label.name[1:]))
    assert {label.name for clip in clips for label in clip.timed_labels} == {label.name for label in labels}
    assert "clips whose timed labels trimming cut: 1 (the first: book)" in notes


def test_a_folder_in_memory_is_what_is_prepared(book: Book) -> None:
    source = book(spoken(50.0))
    dataset, _ = prepared(source)
    train, test = load_folder(source, held_out=0.3, note=lambda message: None)
    assert {clip.name for clip in test} == {clip.name for clip in dataset.split("test")}
    for one, other in zip(train, dataset.split("train"), strict=True):
        assert torch.equal(one.read(), other.read())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9000]), "is truncated"),
        (lambda path: soundfile.write(path, [*spoken(40.0), np.nan], 16000, subtype="FLOAT"), "1 of 640001 samples"),
        (lambda path: soundfile.write(path, spoken(40.0) * 9, 16000, subtype="FLOAT"), "and full scale is 1"),
        (lambda path: soundfile.write(path, np.zeros(640000), 16000), "nothing but digital silence"),
        (lambda path: soundfile.write(path, spoken(40.0) * 1e-6, 16000, subtype="FLOAT"), "rounds to silence"),
        (lambda path: soundfile.write(path, spoken(40.0), 44101, subtype="FLOAT"), "no small ratio"),
    ],
)
def test_a_long_recording_that_is_broken_leaves_no_piece(
    book: Book, damage: Callable[[Path], object], message: str
) -> None:
    source = book(spoken(40.0))
    book(tone(), "whole.wav")
    damage(source / "book.wav")
    clips = find_clips(source, "folder", held_out=0.0)
    (skipped,) = prepare_dataset(clips, source.parent / "dataset", PrepareConfig(), note=lambda message: None)
    assert message in skipped.reason
    assert "book.wav" in skipped.reason
    assert [clip.name for clip in PreparedDataset(source.parent / "dataset").clips] == ["whole"]


def test_a_preparation_that_is_interrupted_in_a_long_recording_goes_on(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = book(spoken(60.0))
    book(tone(), "a.wav")
    whole, _ = prepared(source, "whole")
    clips = find_clips(source, "folder", held_out=0.3)
    partial = source.parent / "dataset.partial"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wavenet.data.prepare._write_manifest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset(clips, source.parent / "dataset", PrepareConfig(), note=lambda message: None)
    for name, kept in (("index.jsonl", 3), ("progress.jsonl", 1)):
        lines = (partial / name).read_bytes().splitlines(keepends=True)
        (partial / name).write_bytes(b"".join(lines[:kept]))
    (partial / "pieces-left").write_bytes(b"of a worker")
    done: list[object] = []
    prepare_dataset(clips, source.parent / "dataset", PrepareConfig(), progress=done.append, note=done.append)
    assert done[:2] == [1, 1], "the short clip is not made again, and the long recording is"
    for name in ("audio.pcm", "index.jsonl", "manifest.json"):
        assert (source.parent / "dataset" / name).read_bytes() == (whole.path / name).read_bytes()


def test_workers_cut_as_one_process_does(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "b.wav"):
        source = book(spoken(20.0, seed=ord(name[0])), name)
    alone, _ = prepared(source, "alone")
    monkeypatch.setattr("wavenet.data.prepare._LARGE_BYTES", 1000)
    clips = find_clips(source, "folder", held_out=0.3)
    prepare_dataset(clips, source.parent / "two", PrepareConfig(), jobs=2, note=lambda message: None)
    for name in ("audio.pcm", "index.jsonl"):
        assert (source.parent / "two" / name).read_bytes() == (alone.path / name).read_bytes()


def test_levels_are_of_each_clip_and_none_is_clipped_in_silence(book: Book) -> None:
    source = book(np.concatenate([spoken(30.0), 0.05 * spoken(30.0, seed=1)]))
    clicking = spoken(3.0) * 0.05
    clicking[100] = 0.9
    book(clicking, "click.wav")
    book(0.1 * tone(0.3), "short.wav")
    dataset, notes = prepared(source, loudness=-23.0)
    for clip in dataset.clips:
        if clip.name not in ("click", "short"):
            measured = float(functional.loudness(clip.read()[None], 16000))
            assert measured == pytest.approx(-23, abs=0.1)
    assert "clips that would clip at the level asked for: 1; they are amplified to full scale only" in notes
    assert any("shorter than 0.4 s or too quiet to have a loudness: 1;" in note for note in notes)
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    assert (manifest["loudness"], manifest["high_pass"], manifest["max_seconds"]) == (-23.0, None, 15.0)


def test_a_high_pass_takes_hum_out_of_short_and_long_recordings(book: Book) -> None:
    for name, seconds in (("long.wav", 40.0), ("short.wav", 4.0)):
        hum = 0.3 + 0.2 * np.sin(2 * np.pi * 15 * np.arange(int(seconds * 16000)) / 16000)
        source = book((0.4 * spoken(seconds) + hum).astype(np.float32), name)
    dataset, _ = prepared(source, high_pass=80.0, trim_db=None)
    assert dataset.manifest.high_pass == 80.0
    for clip in dataset.clips:
        spectrum = torch.fft.rfft(clip.read() * torch.hann_window(clip.samples)).abs()
        hertz = torch.arange(len(spectrum)) * 16000 / clip.samples
        assert spectrum[hertz < 20].max() < 0.05 * clip.samples * 0.2 / 4, "the hum had a peak of 0.2 * samples / 4"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_seconds": 0.5}, "max_seconds is 0.5; expected 1 to 3600 seconds"),
        ({"high_pass": 5000.0}, "high_pass is 5000.0; expected 5 to 4000 Hz"),
        ({"loudness": 23.0}, "loudness is 23.0; expected -70 to 0 LUFS, such as -23"),
        ({"loudness": -23.0, "level_db": 26.0}, "level_db is 26.0 and loudness is -23.0; expected one of them"),
        ({"loudness": -23.0, "sample_rate": 4000}, "loudness needs a sample_rate of 8000 Hz or more, not 4000"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrepareConfig(**settings)


MEASURED = """
import sys
from pathlib import Path
from wavenet.data import PrepareConfig, Recording, prepare_dataset
from wavenet.machine import peak_memory
before = peak_memory()
recordings = [Recording(name="long", path=Path(sys.argv[1]), split="train")]
prepare_dataset(recordings, Path(sys.argv[2]), PrepareConfig(high_pass=20.0), note=lambda message: None)
print(peak_memory() - before)
"""


def test_memory_does_not_grow_with_the_length_of_a_recording(tmp_path: Path) -> None:
    """What is held beside torch itself: the same for 1 and for 8 minutes of 48 kHz stereo, 92 MB."""
    minute = np.stack([spoken(60.0, 48000), spoken(60.0, 48000)], 1)
    grown = []
    for minutes in (1, 8):
        with soundfile.SoundFile(tmp_path / "long.wav", "w", 48000, 2, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        command = [sys.executable, "-c", MEASURED, str(tmp_path / "long.wav"), str(tmp_path / f"dataset{minutes}")]
        grown.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6)
    assert grown[1] < 120, "MB"
    assert grown[1] < grown[0] + 25, "MB"
