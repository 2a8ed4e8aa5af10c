import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wavenet.data import PreparedDataset, Source, WindowSampler

Prepare = Callable[..., PreparedDataset]


def sampler(dataset: PreparedDataset, context: int = 100, window: int = 500, seed: int = 0) -> WindowSampler:
    clips = dataset.split("train")
    return WindowSampler(sources=(Source(clips),), context=context, window=window, batch_size=8, seed=seed)


def test_windows_are_pieces_of_clips_behind_their_own_past(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    for step in range(5):
        batch = sampler(dataset).batch(step)
        for row, time, scored, clip in zip(batch.samples, batch.times, batch.scored, batch.clips, strict=True):
            whole = clip.read()
            for place in range(600):
                index = int(time) + place
                inside = 0 <= index < clip.samples
                assert row[place] == (whole[index] if inside else 0), "beyond a clip's ends there is silence"
                if place >= 100:
                    assert bool(scored[place - 100]) == inside


@pytest.mark.parametrize("grid", [1, 7])
def test_every_sample_is_scored_equally_often_the_first_and_last_too(
    speech_folder: Path, prepare: Prepare, grid: int
) -> None:
    dataset = prepare(speech_folder)
    clips = dataset.split("train")[:1]
    windows = WindowSampler(
        sources=(Source(clips),), context=0, window=300, batch_size=4000, seed=0, margin=0, grid=grid
    )
    counts, batch = torch.zeros(clips[0].samples), windows.batch(0)
    for time, scored in zip(batch.times.tolist(), batch.scored, strict=True):
        (places,) = torch.nonzero(scored, as_tuple=True)
        counts[places + time] += 1
    expected = 4000 * 300 / (clips[0].samples + 299)
    assert (counts - expected).abs().max() < 5 * expected**0.5 + expected * 2 * grid / 300
    assert batch.scored.any(dim=1).all(), "a window without a sample to score"


def test_a_window_shorter_than_the_grid_is_refused(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    with pytest.raises(ValueError, match="window is 100 samples; expected at least 200"):
        WindowSampler(
            sources=(Source(dataset.clips),), context=200, window=100, batch_size=1, seed=0, margin=0, grid=200
        )


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
