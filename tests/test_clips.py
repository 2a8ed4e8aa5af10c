"""Clips from anywhere: tensors, a folder, somebody's own class; and what is refused, by name."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet import Clip, PreparedDataset, tensor_clips
from wavenet.data import Source, WindowSampler, as_sources, load_folder, read_clip

Prepare = Callable[..., PreparedDataset]


class Sine:
    """Somebody's own clip: nothing is stored."""

    name, sample_rate, samples = "sine", 16000, 900
    labels: Mapping[str, str] = {}

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        return 0.5 * torch.sin(torch.arange(start, self.samples if stop is None else stop) * 0.1)


class Wrong(Sine):
    """Reads something else than it promises."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        self.change = change

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        return self.change(super().read(start, stop))


def test_tensors_are_clips_that_read_themselves() -> None:
    waveforms = [torch.rand(100, dtype=torch.float64) - 0.5, torch.rand(50)]
    first, second = tensor_clips(waveforms, 8000, speakers=["ann", "bob"])
    assert isinstance(first, Clip)
    assert (first.samples, first.sample_rate, second.labels) == (100, 8000, {"speaker": "bob"})
    assert torch.equal(first.read(10, 20), waveforms[0][10:20].float())
    assert torch.equal(read_clip(second), waveforms[1])


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(5, dtype=torch.int16), "is torch.int16 of shape (5,); expected floating point in [-1, 1]: divide"),
        (torch.zeros(1, 5), "has shape (1, 5); expected one channel, (T,)"),
        (torch.zeros(0), "is empty; expected at least one sample"),
        (torch.tensor([0.0, torch.nan]), "has samples that are not finite"),
        (torch.tensor([0.0, -1.5]), "has a peak of 1.5; expected samples in [-1, 1]"),
        ([0.0, 0.1], "is a list; expected a tensor"),
    ],
)
def test_a_tensor_that_is_no_waveform_is_named(waveform: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"waveforms[1] {message}")):
        tensor_clips([torch.zeros(3), waveform], 16000)


def test_speakers_are_one_for_each_waveform() -> None:
    with pytest.raises(ValueError, match="speakers has 1 entries; expected one for each of 2 waveforms"):
        tensor_clips([torch.zeros(3)] * 2, 16000, speakers=["ann"])


def test_a_folder_in_memory_holds_what_its_prepared_dataset_holds(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    for loaded, split in zip(load_folder(speech_folder, held_out=0.3, speakers=True), ("train", "test"), strict=True):
        prepared = dataset.split(split)
        assert [clip.name for clip in loaded] == [clip.name for clip in prepared]
        for one, other in zip(loaded, prepared, strict=True):
            assert one.labels == other.labels
            assert torch.equal(one.read(), other.read())
    (speech_folder / "ann" / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"text\.wav is not readable audio .*; remove the file"):
        load_folder(speech_folder)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda waveform: waveform[:-1], r"gave torch.float32 \(99,\); expected torch.float32 \(100,\)"),
        (lambda waveform: waveform[None], r"gave torch.float32 \(1, 100\)"),
        (lambda waveform: waveform.double(), r"gave torch.float64 \(100,\)"),
        (lambda waveform: waveform.tolist(), "gave list; expected"),
        (lambda waveform: 3 * waveform, r"gave samples that are not in \[-1, 1\]"),
        (lambda waveform: waveform * torch.nan, r"gave samples that are not in \[-1, 1\]"),
    ],
)
def test_a_clip_that_reads_something_else_is_named(change: Callable[[Tensor], Any], found: str) -> None:
    with pytest.raises(ValueError, match=r"sine: read\(50, 150\) " + found):
        read_clip(Wrong(change), 50, 150)
    with pytest.raises(ValueError, match="sine: read"):
        WindowSampler(sources=(Source([Wrong(change)]),), context=9, window=99, batch_size=4, seed=0).batch(0)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "train is empty; expected at least one clip"),
        ([Source([])], "train is empty; expected at least one clip"),
        ([torch.zeros(9)], r"train\[0\] is a Tensor; expected a Clip, as tensor_clips makes from tensors"),
        ([Sine(), Source([Sine()])], "train mixes Sources and Clips"),
        (tensor_clips([torch.zeros(9)], 8000), r"train: waveforms\[0\] has 8000 Hz, the model 16000 Hz"),
        ([Sine()], "train: the speaker of sine is None; expected one that the model knows: ann, bob"),
    ],
)
def test_clips_that_do_not_suit_are_named(clips: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_sources(clips, 16000, {"speaker": ["ann", "bob"]}, "train")


def test_a_source_without_a_checksum_is_known_by_names_and_lengths() -> None:
    one, two, three = (Source(tensor_clips([torch.rand(size)], 16000)) for size in (5, 5, 6))
    assert one.fingerprint == two.fingerprint != three.fingerprint
    assert Source([Sine()], checksum="known").fingerprint == "known"
    with pytest.raises(ValueError, match="weight is 0; expected a positive number"):
        Source([Sine()], weight=0)


def test_a_share_that_cannot_be_held_out_is_refused(speech_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"held_out is 1.5; expected a share from 0 to under 1"):
        load_folder(speech_folder, held_out=1.5)
