"""How the command starts: quickly, with help that fits a terminal, and without a traceback on Ctrl-C."""

import json
import random
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
import torch
import typer

from tests.conftest import small_config
from wavenet import WaveNet
from wavenet.benchmark import SHAPES
from wavenet.cli.app import app
from wavenet.cli.bench import Shape
from wavenet.cli.generate import EngineName
from wavenet.cli.options import WeightType
from wavenet.cli.prepare import Corpus
from wavenet.data.corpus import CORPORA
from wavenet.engines import ENGINES, WEIGHT_TYPES

COMMANDS = ["prepare", "train", "generate", "evaluate", "copy", "inspect", "report", "bench", "export", "models"]
HEAVY = {"torch", "torchaudio", "numpy", "soundfile", "safetensors", "jinja2", "matplotlib", "tqdm"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["models"], *([name, "--help"] for name in COMMANDS)], ids=str
)
def test_help_version_and_models_import_nothing_heavy_and_take_under_half_a_second(arguments: list[str]) -> None:
    code = (
        "import atexit, json, resource, sys; sys.argv[0] = 'wavenet'\n"
        "def tell():\n"
        "    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime\n"
        "    print(json.dumps({'modules': list(sys.modules), 'seconds': seconds}), file=sys.stderr)\n"
        "atexit.register(tell)\n"
        "from wavenet.cli import main; main()"
    )
    seconds = []
    while len(seconds) < 3 and min(seconds, default=1) >= 0.5:  # a busy machine may slow one down
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        begins = {"--version": "wavenet ", "models": "digits: "}.get(arguments[0], "Usage: wavenet ")
        assert done.stdout.startswith("Usage: wavenet " if "--help" in arguments else begins)
        found = json.loads(done.stderr)
        seconds.append(found["seconds"])
        assert not HEAVY & set(found["modules"])
    assert min(seconds) < 0.5
    assert arguments != ["--help"] or "pydantic" not in found["modules"], "typer imports it, to parse options"


def test_version_is_that_of_the_package(wavenet) -> None:
    assert wavenet("--version").out == f"wavenet {version('wavenet-toolkit')}\n"


def test_every_command_has_a_summary_that_fits_its_line(wavenet) -> None:
    lines = wavenet("--help").out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == COMMANDS
    for line in lines:
        assert line.endswith("."), line
        assert not line.endswith("..."), line
        assert len(line) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_each_option_and_refuses_unknown_flags(wavenet, command: str) -> None:
    shown = wavenet(command, "--help")
    assert shown.status == 0
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    wavenet(command, "--frobnicate").fails_with("No such option: --frobnicate", "--help")


def test_choices_on_the_command_line_are_those_of_the_library() -> None:
    """The command line spells them itself, so that it need not import the library to show its help."""
    assert get_args(WeightType) == WEIGHT_TYPES
    assert {*get_args(EngineName)} == {"auto", *ENGINES}
    assert get_args(Shape) == tuple(SHAPES)
    assert get_args(Corpus) == tuple(CORPORA)


def test_errors_of_the_library_are_told_in_flags(wavenet, tmp_path: Path) -> None:
    """The library names Python's arguments, the command its flags."""
    torch.manual_seed(0)
    WaveNet(small_config()).save_pretrained(tmp_path / "model.safetensors")
    generate = ("generate", tmp_path / "model.safetensors", "-o", tmp_path / "out.wav", "--seconds", 0.01)
    wavenet(*generate, "--top-p", 2).fails_with("--top-p is 2")
    wavenet(*generate, "--engine", "naive", "--threads", 2).fails_with("--threads is 2; only the native engine")
    report = ("report", tmp_path / "model.safetensors", "-o", tmp_path / "out.html")
    wavenet(*report, "--scored-seconds", -1).fails_with("--scored-seconds is -1")


def test_ctrl_c_at_the_start_is_one_line(tmp_path: Path) -> None:
    """At any moment from `main` on: while typer or torch is imported, and once audio is being made."""
    torch.manual_seed(0)
    WaveNet(small_config()).save_pretrained(tmp_path / "model.safetensors")
    code = "import os; from wavenet.cli import main; os.write(1, b'.'); main()"
    arguments = ["generate", tmp_path / "model.safetensors", "-o", tmp_path / "out.wav", "--seconds", "120"]
    for delay in (0.05, *(random.uniform(0.1, 3) for _ in range(6))):
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        said = [line for line in errors.splitlines() if not line.startswith(b"note: generating with")]
        begun = (tmp_path / "out.wav").exists()  # then the line says how far it came
        (tmp_path / "out.wav").unlink(missing_ok=True)
        expected = [b"interrupted"] if not begun else [line for line in said if line.startswith(b"interrupted after ")]
        assert (process.returncode, said) == (130, expected), f"after {delay} seconds: {errors.decode()}"
        assert len(said) == 1


def test_only_arguments_become_flags() -> None:
    command = typer.main.get_command(app).commands["generate"]
    for told, shown in (
        ("top_k is 0; expected at least 1", "--top-k is 0; expected at least 1"),
        ("out.wav exists; pass force=True to replace it", "out.wav exists; pass --force to replace it"),
        ('the engine cannot run it (use engine="naive")', "the engine cannot run it (use --engine naive)"),
        ("runs/seed=3/model: the model is not whole; its seed is 3", None),
        ("model is a folder; set train.seed=3", None),
    ):
        assert command.with_flags(told) == (shown or told)
