"""Recipes and samples are what their pages say. (Every recipe is trained two steps in test_pages.py.)"""

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from wavenet import TimedLabel, generate
from wavenet.data import PrepareConfig, PreparedDataset, find_clips, prepare_dataset
from wavenet.evaluation import evaluate, score_baselines
from wavenet.network import WaveNet, WaveNetConfig
from wavenet.training import load_recipe

ROOT = Path(__file__).parent.parent
PROMPTS = ROOT / "samples" / "models" / "prompts.safetensors"


def test_sc09_has_the_published_shape() -> None:
    config = load_recipe(ROOT / "recipes" / "sc09" / "sc09.toml").model
    published = WaveNetConfig(cycles=4, layers_per_cycle=10, skip_channels=1024, head_channels=512)
    assert config == published


def test_embedded_speech_is_small_whole_and_split() -> None:
    folder = ROOT / "samples" / "speech"
    clips = find_clips(folder, "folder", held_out=0.1, speakers=True)
    infos = [soundfile.info(clip.path) for clip in clips]
    assert 4 * 60 <= sum(info.duration for info in infos) <= 6 * 60
    assert {info.samplerate for info in infos} == {16000}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 6e6
    assert all(clip.text for clip in clips)
    assert {clip.split for clip in clips} == {"train", "test"}


DIGITS = ROOT / "samples" / "models" / "digits.safetensors"
MODELS = sorted({*ROOT.glob("samples/models/*.safetensors")} - {DIGITS})


@pytest.mark.parametrize("path", MODELS, ids=[path.stem for path in MODELS])
def test_shipped_model_loads_and_beats_its_baseline_on_a_held_out_clip(path: Path, tmp_path: Path) -> None:
    assert path.stat().st_size < 8e6
    clips = find_clips(ROOT / "samples" / "speech", "folder", held_out=0.1, speakers=True)
    prepare_dataset(clips, tmp_path / "data", PrepareConfig())
    dataset = PreparedDataset(tmp_path / "data")
    held_out = dataset.split("test")[:1]
    score = evaluate(WaveNet.from_pretrained(path), held_out)["en"]
    assert score.mu_law_bits < score_baselines(held_out, 256)["en"].linear_prediction


def test_the_shipped_digits_are_said_when_they_are_told() -> None:
    model, rate = WaveNet.from_pretrained(DIGITS), 8000
    said = [TimedLabel(0.0, 0.4, "7"), TimedLabel(0.7, 1.1, "0")]
    for audio in generate(model, timed_labels=[said] * 6, speaker=model.config.speakers):
        seven, pause, zero = (
            float(audio[int(a * rate) : int(b * rate)].square().mean()) for a, b in ((0, 0.4), (0.5, 0.65), (0.7, 1.1))
        )
        assert min(seven, zero) > 1.5 * pause


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("research/schedule.py", ["--steps", "0"], "schedule.py: error: steps is 0; expected 1"),
        ("research/distribution.py", ["--seed", "-1"], "distribution.py: error: seed is -1; expected 0"),
        ("research/likelihood.py", ["--limit", "0"], "--limit is 0; expected 1 or more"),
        ("research/likelihood.py", ["--limit", "-1"], "--limit is -1"),
        ("research/likelihood.py", ["--limit", "1", "a.wav", "b.wav"], "--limit counts held-out clips; leave it out"),
        ("research/likelihood.py", ["--model", "none.safetensors"], "none.safetensors: no such model file"),
        ("research/likelihood.py", ["--model", "text.txt"], "text.txt is not a model file"),
        ("research/likelihood.py", ["a.wav", "b.wav"], "a.wav: no such audio file"),
        ("research/likelihood.py", ["text.txt", "text.txt"], "text.txt is not readable audio"),
        ("research/likelihood.py", ["--picture", "none/a.png"], "none: no such folder"),
        ("research/likelihood.py", ["--picture", "a.gif"], "a.gif: pictures are written as .svg"),
        ("research/likelihood.py", ["--picture", "text.png"], "text.png exists"),
        ("research/likelihood.py", ["odd.wav", "odd.wav"], "odd.wav: 44101 Hz to 16000 Hz has no small ratio"),
        ("convolutions/convolutions.py", ["text.txt"], "text.txt is a file; expected a folder to draw into"),
        ("convolutions/convolutions.py", ["taken"], "cones.png is a folder; expected a file to write"),
        ("../samples/draw_upsampler.py", ["text.png", "none.safetensors"], "text.png exists"),
        ("../samples/draw_upsampler.py", ["a.png", "none.safetensors"], "none.safetensors: no such model file"),
        ("../samples/draw_upsampler.py", ["a.png", str(PROMPTS)], "has no features to upsample"),
        ("../samples/draw.py", ["a.png", "text.txt"], "text.txt is not readable audio"),
        ("../samples/draw.py", ["text.png", "odd.wav"], "text.png exists"),
        ("../samples/draw.py", ["none/a.png", "odd.wav"], "none: no such folder"),
        ("../samples/draw.py", ["text.txt", "text.txt"], "text.txt: pictures are written as"),
    ],
)
def test_programs_say_in_one_line_what_is_wrong(
    program: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("text.txt", "text.png"):
        (tmp_path / name).write_text("kept")
    soundfile.write(tmp_path / "odd.wav", [0.1] * 50, 44101)
    (tmp_path / "taken" / "cones.png").mkdir(parents=True)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    script = str(ROOT / "recipes" / program)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(script, run_name="__main__")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_the_shortest_of_clips_is_drawn(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", [0.5], 16000)
    command = [sys.executable, ROOT / "samples" / "draw.py", tmp_path / "a.png", tmp_path / "a.wav"]
    subprocess.run(command, check=True)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_is_held_back_while_the_first_workers_start() -> None:
    """The first pool also starts the process that watches over its semaphores, which lets the signal through again."""
    code = (
        "import multiprocessing, signal\nfrom wavenet.machine import starting_workers\n"
        "with starting_workers():\n    pool = multiprocessing.get_context('spawn').Pool(1)\n"
        "    assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])\npool.terminate()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_of_two_processes_ends_on_an_interrupt() -> None:
    """One that comes while it starts them, too: its first line is out before they run."""
    command = [sys.executable, ROOT / "recipes" / "research" / "schedule.py", "--steps", "1000000"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("schedule")
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=60)  # which waits for all that hold its standard error, workers too
    finally:
        program.kill()
    assert program.returncode == 130
    assert "interrupted" in said.splitlines()
