import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from wavenet.dataset import PreparedDataset, WindowSampler

Prepare = Callable[..., PreparedDataset]


def sampler(dataset: PreparedDataset, context: int = 100, window: int = 500, seed: int = 0) -> WindowSampler:
    clips = dataset.split("train")
    return WindowSampler(dataset=dataset, clips=clips, context=context, window=window, batch_size=8, seed=seed)


def test_windows_are_pieces_of_clips_behind_their_own_past(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    clips = [dataset.read(clip).numpy() for clip in dataset.split("train")]
    padded = [np.concatenate([np.zeros(100, np.int16), clip]) for clip in clips]
    for step in range(5):
        batch = sampler(dataset).batch(step)
        assert batch.scored.all()
        for row in batch.samples.numpy():
            views = (np.lib.stride_tricks.sliding_window_view(clip, 600) for clip in padded)
            assert any((view == row).all(axis=1).any() for view in views), "a window is no piece of any training clip"


def test_clip_shorter_than_the_window_is_scored_to_its_end(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    batch = sampler(dataset, context=10, window=9000).batch(0)
    lengths = batch.scored.sum(dim=1)
    assert set(lengths.tolist()) <= {clip.samples for clip in dataset.split("train")}
    for row, length in zip(batch.samples, lengths, strict=True):
        assert (row[:10] == 0).all(), "before a clip there is silence"
        assert (row[10 + int(length) :] == 0).all()


def test_batches_depend_on_seed_and_step_alone(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    torch.manual_seed(1)
    first = sampler(dataset).batch(7)
    torch.manual_seed(2)
    assert torch.equal(first.samples, sampler(dataset).batch(7).samples)
    assert not torch.equal(first.samples, sampler(dataset).batch(8).samples)
    assert not torch.equal(first.samples, sampler(dataset, seed=1).batch(7).samples)


def test_every_part_of_every_clip_is_drawn(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    seen = {
        tuple(row.tolist()) for step in range(60) for row in sampler(dataset, context=1, window=4).batch(step).samples
    }
    assert len(seen) > 300, "windows repeat"


DAMAGES = {
    "manifest.json": ("{", "is not a dataset's manifest"),
    "index.jsonl": ('{"name": 1}\n', "is not a dataset's index"),
    "audio.pcm": ("short", "its manifest says"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_dataset_is_refused(speech_folder: Path, prepare: Prepare, name: str) -> None:
    path = prepare(speech_folder).path
    content, message = DAMAGES[name]
    (path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        PreparedDataset(path)


def test_clip_outside_the_audio_is_refused(speech_folder: Path, prepare: Prepare) -> None:
    path = prepare(speech_folder).path
    lines = (path / "index.jsonl").read_text().splitlines()
    entry = {**json.loads(lines[0]), "offset": 10**9}
    (path / "index.jsonl").write_text(json.dumps(entry) + "\n")
    with pytest.raises(ValueError, match="lies outside the audio"):
        PreparedDataset(path)


def test_absent_datasets_and_splits_are_named(speech_folder: Path, prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such dataset"):
        PreparedDataset(tmp_path / "none")
    with pytest.raises(ValueError, match="not a prepared dataset"):
        PreparedDataset(speech_folder)
    with pytest.raises(ValueError, match="no clips in split 'validation'; it has test, train"):
        prepare(speech_folder).split("validation")
