import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import tone
from wavenet.audio import from_int16, read_audio
from wavenet.corpus import Clip, find_clips
from wavenet.dataset import PreparedDataset
from wavenet.prepare import PrepareConfig, _settings, load_clip, prepare_dataset

Prepare = Callable[..., PreparedDataset]


def test_prepared_samples_are_the_clip_to_the_bit(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder, trim_db=None)
    assert len(dataset.clips) == 12
    for clip in dataset.clips:
        waveform, _ = read_audio(clip.source)
        assert torch.equal(from_int16(dataset.read(clip)), waveform)
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
    with pytest.raises(ValueError, match=r"none of the 1 clips could be read; the first: .*one\.wav"):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert {path.name for path in tmp_path.iterdir()} == {"bad"}


def test_resumed_preparation_equals_uninterrupted_one(
    speech_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (speech_folder / "ann" / "broken.wav").write_text("not audio")
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    prepare_dataset(clips, tmp_path / "whole", PrepareConfig())
    loaded: list[str] = []

    def failing(clip: Clip, config: PrepareConfig) -> object:
        if len(loaded) == 8:
            raise KeyboardInterrupt
        loaded.append(clip.name)
        return load_clip(clip, config)

    monkeypatch.setattr("wavenet.prepare.load_clip", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert not (tmp_path / "dataset").exists()
    with open(tmp_path / "dataset.partial" / "audio.pcm", "ab") as file:
        file.write(b"half a clip")
    with open(tmp_path / "dataset.partial" / "index.jsonl", "a") as file:
        file.write('{"name": "half a li')

    monkeypatch.setattr("wavenet.prepare.load_clip", load_clip)
    done: list[int] = []
    prepare_dataset(clips, tmp_path / "dataset", PrepareConfig(), progress=done.append)
    assert done[0] == 8, "the clips done before are not done again"
    for name in ("audio.pcm", "index.jsonl", "manifest.json", "skipped.jsonl"):
        assert (tmp_path / "dataset" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_begin_anew(speech_folder: Path, tmp_path: Path) -> None:
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    partial = tmp_path / "dataset.partial"
    partial.mkdir()
    (partial / "settings.json").write_text(json.dumps({"sample_rate": 8000}))
    (partial / "audio.pcm").write_bytes(b"old")
    prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    assert len(PreparedDataset(tmp_path / "dataset").clips) == 12


def test_missing_samples_begin_anew_and_a_foreign_folder_is_left_alone(speech_folder: Path, tmp_path: Path) -> None:
    clips = find_clips(speech_folder, "folder", held_out=0.3)
    prepare_dataset(clips, tmp_path / "whole", PrepareConfig())
    partial = tmp_path / "dataset.partial"
    partial.mkdir()
    settings = json.dumps(_settings(clips, PrepareConfig()))
    (partial / "settings.json").write_text(settings)
    for name in ("index.jsonl", "skipped.jsonl"):
        (partial / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (partial / "audio.pcm").write_bytes(b"short")
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
    with pytest.raises(FileExistsError, match="--force"):
        prepare_dataset(clips, tmp_path / "dataset", PrepareConfig())
    prepare_dataset(clips, tmp_path / "dataset", PrepareConfig(), force=True)
    with pytest.raises(ValueError, match="not a prepared dataset"):
        prepare_dataset(clips, speech_folder, PrepareConfig(), force=True)


def test_processes_give_the_same_dataset(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for index in range(200):
        soundfile.write(tmp_path / "many" / f"{index}.wav", tone(0.02, 22050, seed=index), 22050)
    clips = find_clips(tmp_path / "many", "folder", held_out=0.1)
    for jobs in (1, 2):
        prepare_dataset(clips, tmp_path / f"jobs{jobs}", PrepareConfig(), jobs=jobs)
    assert (tmp_path / "jobs1" / "audio.pcm").read_bytes() == (tmp_path / "jobs2" / "audio.pcm").read_bytes()
