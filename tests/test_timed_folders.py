"""Timed labels of a dataset: files matched to recordings by name, times that move with trimming, and what is said."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import tone
from wavenet import PreparedDataset, TimedLabel, load_folder
from wavenet.data import PrepareConfig, find_clips, prepare_dataset, timed_labels

RATE = 16000
SAID = (TimedLabel(0.0, 0.4, "sil"), TimedLabel(0.4, 0.8, "one"), TimedLabel(0.8, 1.2, "two"))
TEXTS: dict[str, Callable[[TimedLabel], str]] = {
    ".txt": lambda label: f"{label.start}\t{label.end}\t{label.name}\n",
    ".lab": lambda label: f"{round(label.start * 1e7)} {round(label.end * 1e7)} {label.name}\n",
    ".csv": lambda label: f"{label.start},{label.end},{label.name}\n",
}


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Ten recordings of a tone of 0.8 seconds, with 0.4 seconds of silence before it and 0.3 after it."""
    for number in range(10):
        path = tmp_path / "words" / "ann" / f"w{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        before, after = np.zeros(RATE * 4 // 10), np.zeros(RATE * 3 // 10)
        soundfile.write(path, np.concatenate([before, tone(0.8, seed=number), after]), RATE)
    return tmp_path / "words"


def label(folder: Path, suffix: str = ".lab", said: tuple[TimedLabel, ...] = SAID, count: int = 10) -> Path:
    for number in range(count):
        path = folder / f"w{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("start,end,name\n" * (suffix == ".csv") + "".join(map(TEXTS[suffix], said)))
    return folder


def prepared(words: Path, labels: Path, folder: Path, **settings: object) -> tuple[PreparedDataset, list[str]]:
    notes: list[str] = []
    clips = find_clips(words, "folder", held_out=0.3, timed_labels=labels, note=notes.append)
    prepare_dataset(clips, folder, PrepareConfig(**settings), note=notes.append)
    return PreparedDataset(folder), notes


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_label_keeps_its_samples_when_the_clip_is_trimmed(words: Path, tmp_path: Path, rate: int) -> None:
    dataset, notes = prepared(words, label(tmp_path / "labels"), tmp_path / "d", sample_rate=rate)
    whole, _ = prepared(words, tmp_path / "labels", tmp_path / "whole", sample_rate=rate, trim_db=None)
    assert notes == ["clips whose timed labels trimming cut: 10 (the first: ann/w0)"]
    for clip, untrimmed in zip(dataset.clips, whole.clips, strict=True):
        assert [found.name for found in clip.timed_labels] == ["sil", "one", "two"]
        assert untrimmed.timed_labels == pytest.approx(SAID)
        assert clip.timed_labels[0].start == 0
        assert clip.timed_labels[0].end == pytest.approx(0.05, abs=0.005), "the margin that trimming keeps"
        for found, given in zip(clip.timed_labels[1:], SAID[1:], strict=True):
            one, other = (
                part.read(round(at.start * rate), round(at.end * rate))
                for part, at in ((clip, found), (untrimmed, given))
            )
            assert torch.equal(one, other)


def test_every_kind_of_file_beside_or_apart_makes_the_same_dataset(words: Path, tmp_path: Path) -> None:
    made = []
    for suffix in TEXTS:
        dataset, _ = prepared(words, label(tmp_path / suffix, suffix), tmp_path / f"d{suffix}")
        made.append([clip.timed_labels for clip in dataset.clips])
    dataset, _ = prepared(words, label(words / "ann", ".txt").parent, tmp_path / "beside")
    made.append([clip.timed_labels for clip in dataset.clips])
    for found in made[1:]:
        assert [[said.name for said in clip] for clip in found] == [["sil", "one", "two"]] * 10
        times = [
            [time for clip in clips for said in clip for time in (said.start, said.end)] for clips in (found, made[0])
        ]
        assert times[0] == pytest.approx(times[1])
    assert all(clip.text is None for clip in dataset.clips), "a label track is not what is said"
    label(words / "ann", ".lab")
    dataset, _ = prepared(words, words, tmp_path / "both")
    assert all(clip.text is not None for clip in dataset.clips), "beside other labels .txt is the text"
    train, test = load_folder(words, held_out=0.3, timed_labels=words, note=lambda message: None)
    assert {clip.name: clip.timed_labels for clip in train + test} == {
        clip.name: clip.timed_labels for clip in dataset.clips
    }
    assert timed_labels(train[0]) == train[0].timed_labels


def test_what_has_no_partner_is_said_and_what_cannot_be_is_refused(words: Path, tmp_path: Path) -> None:
    labels = label(tmp_path / "labels", count=9)
    (labels / "w10.lab").write_text("0 1 one\n")
    dataset, notes = prepared(words, labels, tmp_path / "d")
    assert f"{labels}: files without a recording: 1 (w10); recordings without a file: 1 (ann/w9.wav)" in notes
    assert [clip.name for clip in dataset.clips if not clip.timed_labels] == ["ann/w9"]
    for text, message in (
        ("0 5000000 one\n3000000 9000000 two\n", "w3.lab: label 'two' begins at 0.3 s, before 'one' ends at 0.5 s"),
        ("-5 1 one\n", "w3.lab: line 1: label 'one' lasts from -5e-07 to 1e-07 s; expected 0 <= start < end"),
        ("one\n", "w3.lab: line 1 is 'one'; expected start and end"),
    ):
        (labels / "w3.lab").write_text(text)
        with pytest.raises(ValueError, match=re.escape(message)):
            prepared(words, labels, tmp_path / "refused")
    (labels / "w3.lab").write_text("0 5000000 one\n5000000 20000000 two\n")
    clips = find_clips(words, "folder", held_out=0.3, timed_labels=labels, note=notes.append)
    (skipped,) = prepare_dataset(clips, tmp_path / "longer", PrepareConfig(), note=notes.append)
    assert skipped.reason.endswith(
        "lasts 1.5 s, and its timed label 'two' ends at 2 s; expected the labels of this recording"
    )
    (labels / "w3.lab").write_text("0 1 one\n")
    (labels / "w3.csv").write_text("start,end,name\n0,1,one\n")
    with pytest.raises(ValueError, match=r"w3\.csv and .*w3\.lab are for one recording; keep one of them"):
        prepared(words, labels, tmp_path / "refused")
    with pytest.raises(FileNotFoundError, match="no such folder of timed labels"):
        find_clips(words, "folder", held_out=0.3, timed_labels=tmp_path / "none")
    with pytest.raises(ValueError, match=r"has no timed labels; expected files \.TextGrid"):
        find_clips(words, "folder", held_out=0.3, timed_labels=tmp_path / "d")
    with pytest.raises(ValueError, match="tier is 'words', and timed_labels, whose tier it is, is missing"):
        find_clips(words, "folder", held_out=0.3, tier="words")


def test_the_command_trains_a_model_that_says_the_names_of_the_dataset(wavenet, words: Path, tmp_path: Path) -> None:
    label(words / "ann", ".txt")
    (words / "ann" / "w0.txt").write_text("0.4\t1.2\tthree\n")
    result = wavenet("prepare", words, tmp_path / "d", "--timed-labels", words, "--held-out", 0.3)
    assert "timed labels: 28 of 4 names in 10 clips" in result.out
    assert "clips whose timed labels trimming cut: 9 (the first: ann/w1)" in result.err
    wavenet("prepare", words, tmp_path / "e", "--tier", "x").fails_with("--tier goes with --timed-labels")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'run = "{tmp_path}/run"\ndataset = "{tmp_path}/d"\n'
        "[model]\ncycles = 1\nlayers_per_cycle = 2\nresidual_channels = 4\ngate_channels = 4\n"
        "[model.timed_labels]\n[model.features]\nbins = 12\nhop = 100\nwindow = 256\n"
        "[model.conditioning]\nscales = [10, 10]\n"
        '[train]\nsteps = 2\nwindow = 800\nbatch_size = 2\ncompile = "off"\n'
    )
    wavenet("train", recipe)
    shown = wavenet("inspect", tmp_path / "run" / "model.safetensors")
    assert "one, sil, three, two" in shown.out
    said = wavenet("generate", tmp_path / "run" / "model.safetensors", "-o", tmp_path / "o.wav", "--say", "three:0.1")
    assert said.status == 0
    assert soundfile.info(tmp_path / "o.wav").frames == 1600
