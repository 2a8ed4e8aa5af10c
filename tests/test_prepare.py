import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import tone
from wavenet.data import (
    PrepareConfig,
    PreparedDataset,
    Recording,
    find_clips,
    prepare_dataset,
    read_audio,
)
from wavenet.data.loading import Piece, load_clips
from wavenet.data.prepare import _settings
from wavenet.machine import workers

Prepare = Callable[..., PreparedDataset]


def test_prepared_samples_are_the_clip_to_the_bit(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder, trim_db=None)
    assert len(dataset.clips) == 12
    for clip in dataset.clips:
        waveform, _ = read_audio(clip.source)
        assert torch.equal(clip.read(), waveform)
        assert clip.speaker == clip.name.partition("/")[0]


def test_a_quiet_corpus_survives_whole(tmp_path: Path, prepare: Prepare) -> None:
    for index in range(4):
        path = tmp_path / "quiet" / "s" / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(0.3, seed=index) * 1e-3, 16000, subtype="FLOAT")
    dataset = prepare(tmp_path / "quiet")
    assert len(dataset.clips) == 4
    assert all(clip.samples > 0.25 * 16000 for clip in dataset.clips)


def test_broken_files_are_skipped_by_name_and_the_rest_is_kept(speech_folder: Path, tmp_path: Path) -> None:
    (speech_folder / "ann" / "text.wav").write_text("not audio")
    (speech_folder / "bob" / "empty.wav").write_bytes(b"")
    soundfile.write(speech_folder / "bob" / "zeros.wav", np.zeros(1000), 16000)
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    skipped = prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert {clip.name for clip in skipped} == {"ann/text", "bob/empty", "bob/zeros"}
    assert all(clip.name in clip.reason for clip in skipped), "the reason names the file"
    assert len(PreparedDataset(tmp_path / "dataset").clips) == 12


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "one.wav").write_text("not audio")
    clips = find_clips(tmp_path / "bad", "folder", held_out=0.1)
    with pytest.raises(ValueError, match=r"none of the 1 recordings could be read; the first: .*one\.wav"):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert {path.name for path in tmp_path.iterdir()} == {"bad"}


def test_resumed_preparation_equals_uninterrupted_one(
    speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (speech_folder / "ann" / "broken.wav").write_text("not audio")
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    prepare_dataset(clips, tmp_path / "whole", PrepareConfig())
    loaded: list[str] = []

    def failing(clip: Recording, *others: object) -> Iterator[Piece]:
        if len(loaded) == 8:
            raise KeyboardInterrupt
        loaded.append(clip.name)
        return load_clips(clip, *others)

    monkeypatch.setattr("wavenet.data.prepare.load_clips", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert not (tmp_path / "dataset").exists()
    with open(tmp_path / "dataset.partial" / "audio.pcm", "ab") as file:
        file.write(b"half a clip")
    with open(tmp_path / "dataset.partial" / "index.jsonl", "a") as file:
        file.write('{"name": "half a li')

    monkeypatch.setattr("wavenet.data.prepare.load_clips", load_clips)
    done: list[int] = []
    prepare_dataset(clips, tmp_path / "dataset", PrepareConfig(), progress=done.append)
    assert done[0] == 8, "the clips done before are not done again"
    for name in ("audio.pcm", "index.jsonl", "manifest.json", "skipped.jsonl"):
        assert (tmp_path / "dataset" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "damage", "kept"),
    [
        ("audio.pcm", lambda data: data[:9] + b"other" + data[14:], 1),
        ("audio.pcm", lambda data: data[:-1000] + bytes(1000), 3),
        ("audio.pcm", lambda data: data[:-1], 3),
        ("index.jsonl", lambda data: data.replace(b'"train"', b'"test"', 1), 1),
        ("index.jsonl", lambda data: b"".join(data.splitlines(keepends=True)[::2]), 2),
        ("skipped.jsonl", lambda data: b"", 0),
        ("progress.jsonl", lambda data: b'{"name": "a", "ends": [-4, 0, 0], "clips": 1, "crc": 0}\n' + data, 0),
        ("progress.jsonl", lambda data: b"5\n" + data, 0),
        ("progress.jsonl", lambda data: data.replace(b'"ends": [0', b'"ends": [9000000000000000000', 1), 0),
        ("progress.jsonl", lambda data: b"", 0),
        ("progress.jsonl", lambda data: data.splitlines(keepends=True)[0], 1),
        ("progress.jsonl", lambda data: data.replace(b'"name": "ann/0"', b'"name": "ann/9"'), 0),
        ("progress.jsonl", lambda data: data.replace(b'"clips": 2', b'"clips": 9'), 2),
    ],
)
def test_damage_in_a_half_made_dataset_is_said_and_what_comes_before_it_kept(
    speech_folder: Path, tmp_path: Path, name: str, damage: Callable[[bytes], bytes], kept: int
) -> None:
    (speech_folder / "ann" / "0.wav").write_text("not audio")
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    prepare_dataset(clips, tmp_path / "whole", PrepareConfig())

    counted: list[int] = []

    def interrupt(recordings: int) -> None:
        counted.append(recordings)
        if sum(counted) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig(), progress=interrupt)
    file = tmp_path / "dataset.partial" / name
    file.write_bytes(damage(file.read_bytes()))
    done, notes = list[int](), list[str]()
    prepare_dataset(clips, tmp_path / "dataset", PrepareConfig(), progress=done.append, note=notes.append)
    assert done[0] == kept
    assert [f"is damaged: {kept} of " in note for note in notes] == [True]
    for written in ("audio.pcm", "index.jsonl", "manifest.json", "skipped.jsonl"):
        assert (tmp_path / "dataset" / written).read_bytes() == (tmp_path / "whole" / written).read_bytes()
    assert not (tmp_path / "dataset" / "progress.jsonl").exists()


def test_other_settings_begin_anew(speech_folder: Path, tmp_path: Path) -> None:
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    partial = tmp_path / "dataset.partial"
    partial.mkdir()
    (partial / "settings.json").write_text(json.dumps({"sample_rate": 8000}))
    (partial / "audio.pcm").write_bytes(b"old")
    with pytest.warns(UserWarning, match="was begun with other settings or files; it begins anew"):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert len(PreparedDataset(tmp_path / "dataset").clips) == 12


def test_missing_samples_begin_anew_and_a_foreign_folder_is_left_alone(speech_folder: Path, tmp_path: Path) -> None:
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    prepare_dataset(clips, tmp_path / "whole", PrepareConfig())
    partial = tmp_path / "dataset.partial"
    partial.mkdir()
    settings = json.dumps(_settings(clips, PrepareConfig(), {}))
    (partial / "settings.json").write_text(settings)
    for name in ("index.jsonl", "skipped.jsonl"):
        (partial / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (partial / "audio.pcm").write_bytes(b"short")
    with pytest.warns(UserWarning, match="is damaged: 0 of 12 recordings are kept"):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert (tmp_path / "dataset" / "audio.pcm").read_bytes() == (tmp_path / "whole" / "audio.pcm").read_bytes()

    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="is in the way"):
        prepare_dataset(clips, tmp_path / "other", PrepareConfig())
    assert (tmp_path / "other.partial" / "precious.txt").read_text() == "mine"


def test_existing_dataset_is_replaced_only_by_force_and_never_another_folder(
    speech_folder: Path, tmp_path: Path
) -> None:
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    with pytest.raises(FileExistsError, match="dataset exists; choose another path or replace it"):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    prepare_dataset(clips, tmp_path / "dataset", PrepareConfig(), force=True)
    with pytest.raises(ValueError, match="not a prepared dataset"):
        prepare_dataset(clips, speech_folder, PrepareConfig(), force=True)


def test_a_folder_that_looks_replaced_is_left_alone(speech_folder: Path, tmp_path: Path, prepare: Prepare) -> None:
    (tmp_path / "dataset.replaced").mkdir()
    (tmp_path / "dataset.replaced" / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"dataset\.replaced is in the way"):
        prepare(speech_folder)
    assert (tmp_path / "dataset.replaced" / "precious.txt").read_text() == "mine"


def test_a_touched_dataset_is_read_through_once(speech_folder: Path, prepare: Prepare) -> None:
    path = prepare(speech_folder).path
    manifest = path / "manifest.json"
    os.utime(manifest, ns=(0, 0))
    PreparedDataset(path)
    assert manifest.stat().st_mtime_ns > (path / "audio.pcm").stat().st_mtime_ns


def test_workers_do_not_outlive_a_preparation_that_is_ended(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for index in range(400):
        soundfile.write(tmp_path / "clips" / f"{index}.wav", tone(3.0, seed=index), 48000)
    command = [sys.executable, "-m", "wavenet", "prepare", tmp_path / "clips", tmp_path / "data", "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        index = tmp_path / "data.partial" / "index.jsonl"
        while process.poll() is None and not (index.exists() and index.stat().st_size):
            time.sleep(0.01)
        with pytest.raises(ValueError, match="another process is at work"):
            prepare_dataset(
                [Recording(name="x", path=tmp_path / "x", split="train")], tmp_path / "data", PrepareConfig()
            )
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.terminate()
    assert len(children) >= 2
    waited = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < waited:
        time.sleep(0.05)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    clips, notes = find_clips(tmp_path / "clips", "folder", held_out=0.1), list[str]()
    assert prepare_dataset(clips, tmp_path / "data", PrepareConfig(), note=notes.append) == []
    assert ["was begun with other settings" in note for note in notes] == [True], "the command has its own"


def test_processes_give_the_same_dataset(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for index in range(200):
        soundfile.write(tmp_path / "many" / f"{index}.wav", tone(0.02, 22050, seed=index), 22050)
    clips = find_clips(tmp_path / "many", "folder", held_out=0.1)
    for jobs in (1, 2):
        prepare_dataset(clips, tmp_path / f"jobs{jobs}", PrepareConfig(), jobs=jobs)
    assert (tmp_path / "jobs1" / "audio.pcm").read_bytes() == (tmp_path / "jobs2" / "audio.pcm").read_bytes()


def test_a_worker_that_is_killed_is_one_line() -> None:
    with pytest.raises(OSError, match="a worker process was killed"), workers(1) as pool:
        pool.submit(os._exit, 1).result()
