"""What was made is kept, and whether outputs can be written is known before the work."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import small_model
from wavenet import generation
from wavenet.cli.writing import check_length, stream_wav
from wavenet.data import read_audio, write_audio
from wavenet.generation import Generated


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    small_model().float().save_pretrained(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_keep_what_was_generated(
    wavenet, model_file: Path, tmp_path: Path, monkeypatch, number: int, status: int
) -> None:
    whole = ("generate", model_file, "--seconds", 0.2, "--count", 2, "--log-probs", tmp_path / "p.npy", "-o")
    assert wavenet(*whole, tmp_path / "a.wav", "--force").status == 0
    chunks = generation.generate_chunks

    def interrupted(*arguments: object) -> Iterator[Generated]:
        yield next(iter(chunks(*arguments)))
        signal.raise_signal(number)

    monkeypatch.setattr("wavenet.generation.generate_chunks", interrupted)
    result = wavenet(*whole, tmp_path / "b.wav", "--force")
    assert result.status == status
    assert "interrupted after 0.05 of 0.20 s" in result.err
    assert np.load(tmp_path / "p.npy").shape == (2, 800)
    for number in (1, 2):
        kept, _ = read_audio(tmp_path / f"b-{number}.wav")
        assert torch.equal(kept, read_audio(tmp_path / f"a-{number}.wav")[0][:800])


def test_sigterm_before_anything_is_made_is_one_line(wavenet, model_file: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupted(*arguments: object) -> Iterator[Generated]:
        signal.raise_signal(signal.SIGTERM)
        yield Generated(torch.zeros(1, 1), torch.zeros(1, 1))

    monkeypatch.setattr("wavenet.generation.generate_chunks", interrupted)
    result = wavenet("generate", model_file, "-o", tmp_path / "a.wav")
    assert (result.status, result.err.splitlines()[-1]) == (143, "interrupted")
    assert not (tmp_path / "a.wav").exists()


def pieces(ending: type[BaseException] | None) -> Iterator[Generated]:
    for _ in range(2):
        yield Generated(torch.full((1, 800), 0.5), torch.zeros(1, 800))
    if ending:
        raise ending


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("ending", [None, KeyboardInterrupt])
def test_a_stream_to_a_file_is_a_whole_wav(tmp_path: Path, monkeypatch, ending: type | None, append: bool) -> None:
    notes: list[str] = []
    with open(tmp_path / "out.wav", "a" if append else "w") as file:
        monkeypatch.setattr("sys.stdout", file)
        written = stream_wav(pieces(ending), 16000, 1600 if ending is None else 9999, None)
        monkeypatch.undo()
    assert (written.samples, written.interrupted) == (1600, ending is not None)
    assert read_audio(tmp_path / "out.wav", note=notes.append)[0].tolist() == [0.5] * 1600
    assert len(notes) == (append and ending is not None)


def test_what_a_broken_pipe_left_is_read_with_a_word(tmp_path: Path, monkeypatch) -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        stream_wav(pieces(None), 16000, 1600, None)
        monkeypatch.undo()
    with open(reader, "rb") as file:
        data = file.read()
    assert len(soundfile.read(io.BytesIO(data))[0]) == 1600
    (tmp_path / "left.wav").write_bytes(data[:2000])
    notes: list[str] = []
    assert len(read_audio(tmp_path / "left.wav", note=notes.append)[0]) == (2000 - 44) // 2
    assert [f"3200 bytes of audio were planned, {2000 - 44} are there" in note for note in notes] == [True]


@pytest.mark.parametrize("place", ["nowhere", "long", "fifo", "full"])
def test_outputs_that_cannot_be_written_are_found_before_the_work(
    wavenet, model_file: Path, tmp_path: Path, monkeypatch, place: str
) -> None:
    write_audio(tmp_path / "clip.wav", torch.full((800,), 0.5), 16000)
    path = {"nowhere": tmp_path / "none" / "x.wav", "long": tmp_path / f"{'x' * 300}.wav"}.get(
        place, tmp_path / "x.wav"
    )
    if place == "fifo":
        os.mkfifo(path)
    if place == "full":

        def full(**_: object) -> object:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr("wavenet.generation.generate_chunks", None)  # generating would fail
    for flags in (("-o", path), ("-o", tmp_path / "ok.wav", "--log-probs", path))[: 1 + (place != "full")]:
        wavenet("generate", model_file, *flags, "--force").fails_with(path.name[:200])
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(".")]


def test_audio_that_no_wav_file_holds_is_refused_before_it_is_made() -> None:
    check_length([Path("x.flac")], 2**31)
    with pytest.raises(ValueError, match="more than a WAV file holds"):
        check_length([Path("x.wav")], 2**31)


def test_a_disk_without_room_is_found_before_the_work(wavenet, model_file: Path, tmp_path: Path, monkeypatch) -> None:
    asked: list[int] = []

    def full(handle: int, offset: int, size: int) -> None:
        asked.append(size)
        if size > 2000:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setattr("wavenet.generation.generate_chunks", None)  # generating would fail
    flags = ("generate", model_file, "--seconds", 0.05, "-o", tmp_path / "a.wav")
    wavenet(*flags, "--count", 2).fails_with("a-1.wav: cannot write 3,288 bytes (No space left on device)")
    wavenet(*flags, "--log-probs", tmp_path / "p.npy").fails_with("p.npy: cannot write 3,328 bytes (No space")
    assert asked == [3288, 1644, 3328]
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_stream_that_cannot_be_written_is_named(monkeypatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(OSError, match="cannot write") as raised:
            stream_wav(pieces(None), 16000, 1600, None)
        monkeypatch.undo()
    assert raised.value.filename == "standard output"


def test_audio_is_written_though_standard_error_is_closed(model_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wavenet", "generate", model_file, "--seconds", "0.05", "-o", tmp_path / "a.wav"]
    closed = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command], stdout=subprocess.PIPE, check=False)
    assert closed.returncode == 0
    assert len(read_audio(tmp_path / "a.wav")[0]) == 800


def test_ctrl_c_after_the_work_is_done_changes_nothing(tmp_path: Path) -> None:
    """Python takes a while to end; what is registered with it before the command ends it after the command's own."""
    code = (
        "import atexit, os, signal\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "from wavenet.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "models"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
