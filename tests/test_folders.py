"""Nothing in a folder of recordings vanishes."""

import os
import subprocess
from pathlib import Path

import pytest
import soundfile

from tests.conftest import tone
from wavenet.data import PrepareConfig, find_clips, prepare_dataset, read_audio


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(source: Path, notes: list[str]) -> list[str]:
    return [clip.name for clip in find_clips(source, "folder", held_out=0.1, note=notes.append)]


def test_linked_folders_are_followed_and_taken_once(tmp_path: Path) -> None:
    source, notes = tmp_path / "in", list[str]()
    put(source / "ann" / "1.wav", tmp_path / "big" / "2.wav", tmp_path / "big" / "deep" / "3.wav")
    (source / "bob").symlink_to(tmp_path / "big")
    (tmp_path / "big" / "deep" / "loop").symlink_to(source)
    (source / "a-copy").symlink_to(source / "ann")
    assert names(source, notes) == ["ann/1", "bob/2", "bob/deep/3"]
    assert len(notes) == 2
    assert all("is a folder that is there by another name too" in note for note in notes)


def test_a_folder_of_any_depth_is_walked_and_a_path_that_is_too_long_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for level in range(2200):
        os.mkdir("d")
        os.chdir("d")
        if level in (1500, 2199):
            Path("deep.wav").touch()
    os.chdir(tmp_path)
    Path("d/shallow.wav").touch()
    notes = list[str]()
    found = names(Path("d"), notes)
    subprocess.run(["rm", "-r", "d"], check=True)  # Python's own functions call themselves for each level
    assert [name.rpartition("d/")[2] for name in found] == ["d", "deep", "shallow"]
    assert not notes


def test_what_cannot_be_followed_is_among_the_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, listed = tmp_path / "in", os.listdir
    put(source / "carl" / "1.wav")
    soundfile.write(source / "2.wav", tone(), 16000)
    for name in ("3.wav", "4"):
        (source / name).symlink_to("/nonexistent/object")

    def listdir(path: str) -> object:
        if str(path).endswith("carl"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr("os.listdir", listdir)
    clips = find_clips(source, "folder", held_out=0.1)
    monkeypatch.undo()
    skipped = prepare_dataset(clips, tmp_path / "out", PrepareConfig())
    assert [clip.name for clip in skipped] == ["3.wav", "4", "carl/"]
    assert "3.wav is a link to /nonexistent/object, which is not there" in skipped[0].reason


def test_what_is_not_taken_is_counted_by_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [
        tmp_path / f"{n}.{s}" for n, s in enumerate(("wav", "AIFF", "au", "caf", "w64", "opus", "flac", "mp3", "oga"))
    ]
    put(*kept, tmp_path / "0.txt", tmp_path / "0.TextGrid", tmp_path / "notes.md")
    monkeypatch.setattr("shutil.which", lambda name: None)
    notes: list[str] = []
    assert len(names(tmp_path, notes)) == len(kept)
    assert notes == []
    put(*(tmp_path / name for name in ("a.m4a", "b.M4A", "c.xyz", "tape")))
    assert len(names(tmp_path, notes)) == len(kept)
    counts = "2 .m4a (a.m4a), 1 .xyz (c.xyz), 1 without a suffix (tape)"
    assert notes == [f"{tmp_path}: files that are not taken: {counts}; ffmpeg, which is not installed, would read some"]


def test_files_of_macos_beside_recordings_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "1.wav", tmp_path / "._1.wav", tmp_path / ".DS_Store", tmp_path / "._kept.wav")
    (tmp_path / "._gone.wav").write_bytes(b"\0\5\26\7" + bytes(100))
    notes: list[str] = []
    assert names(tmp_path, notes) == ["._kept", "1"]
    assert notes == []


@pytest.mark.parametrize(("script", "message"), [("cat {clip}", None), ("cat {clip}; echo moov gone >&2", "moov gone")])
def test_ffmpeg_reads_what_libsndfile_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str | None
) -> None:
    soundfile.write(tmp_path / "clip.wav", tone(), 16000, subtype="FLOAT")
    put(tmp_path / "clip.m4a")
    (tmp_path / "clip.m4a").write_bytes(b"something")
    program = tmp_path / "bin" / "ffmpeg"
    put(program)
    program.write_text(f"#!/bin/sh\n{script.format(clip=tmp_path / 'clip.wav')}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    assert names(tmp_path, []) == ["clip.m4a", "clip.wav"]
    if message is None:
        assert read_audio(tmp_path / "clip.m4a")[0].equal(read_audio(tmp_path / "clip.wav")[0])
    else:
        with pytest.raises(ValueError, match=f"clip.m4a is not read whole by ffmpeg .*{message}"):
            read_audio(tmp_path / "clip.m4a")


def test_a_text_that_may_not_be_read_is_said_and_its_recording_kept(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path / "1.wav", tmp_path / "1.txt")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", "1.txt")

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    notes: list[str] = []
    assert names(tmp_path, notes) == ["1"]
    assert notes == [f"{tmp_path / '1.txt'} is not read (Permission denied)"]


def test_a_dataset_that_is_a_link_to_nothing_is_refused_before_the_work(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "1.wav", tone(), 16000)
    (tmp_path / "out").symlink_to("/nonexistent/place")
    with pytest.raises(ValueError, match="out is a link to /nonexistent/place, which is not there; remove it"):
        prepare_dataset(find_clips(tmp_path, "folder", held_out=0.1), tmp_path / "out", PrepareConfig())
    assert not (tmp_path / "out.partial").exists()
