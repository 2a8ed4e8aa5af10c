"""What the pages say to type is typed here, shortened, in a copy of the repository with small data."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch

from tests.test_export import Export, by_turns
from wavenet import WaveNet
from wavenet.engines import IncrementalEngine
from wavenet.network import Conditioning, SamplingOptions

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("recipes/**/README.md")),
    *sorted(ROOT.glob("samples/**/README.md")),
]
ONNX = ROOT / "recipes" / "onnx" / "README.md"

SHORT = {
    "train": (
        "--set train.steps=2 --set train.window=400 --set train.batch_size=2 --set train.evaluation_seconds=0.1 "
        "--set train.checkpoint_every=1 --set train.compile=off --set train.listen=0"
    ),
    "evaluate": "--limit 2",
    "copy": "--limit 1",
    "generate": "--seconds 0.02",
    "recipes/research/layer.py": "--steps 2 --seconds 0.05",
    "recipes/research/schedule.py": "--steps 2",
    "recipes/research/distribution.py": "--steps 2",
    "recipes/onnx/generate.py": "--seconds 0.02",
    "recipes/digits/listen.py": "--epochs 1 --takes 1",
    "report": "--seconds 0.1 --scored-seconds 1 --clips 1",
}
"""What each command is given besides, so that it takes seconds. Where an option stands twice, the last counts."""

MEANT = {
    "MODEL": "prompts",
    "CLIP": "speech.wav",
    "NAME": "it",
    "aplay": "cat > played.wav",
    "python": sys.executable,
    "torchrun": f"{sys.executable} -m torch.distributed.run",
    "--download": "",
}

ELSEWHERE = {
    "make demo": "CI runs it",
    "make test": "CI runs it",
    "make docs": "CI runs it",
    "make wheel": "CI runs it",
    "make portable": "wants other compilers, and an emulator",
    "python recipes/research/likelihood.py": "takes two minutes; its options are run below",
    "make page": "wants emscripten; test_page_engine.py compares the engine with its sources",
    "make gpu": "wants a GPU",
    'make gpu GPU="runs/gpu recipes/kathleen/vocoder.toml=600"': "wants a GPU",
    "make research": "takes two to three minutes; the programs are run below, shortened",
    "pip install --editable .": "make installs the package",
    "pip install dist/wavenet_toolkit-*.whl": "make wheel tries it",
    "pip install 'torch>=2.11,<2.15' 'torchaudio==2.11.*' --index-url https://download.pytorch.org/whl/cpu": "large",
    "pip install --editable '.[prompts]'": "make installs the package with its extras",
    "pip install --editable '.[scores]'": "make installs the package with its extras",
    "pip install --editable '.[prompts,scores]'": "make installs the package with its extras",
    "git clone --depth 1 https://github.com/rhasspy/dataset-voice-kathleen data/kathleen-audio": "fetches speech",
    "git clone --depth 1 https://github.com/rhasspy/dataset-voice-nathalie data/nathalie-audio": "fetches speech",
    "git clone --depth 1 https://github.com/rhasspy/dataset-voice-kerstin data/kerstin-audio": "fetches speech",
    "git clone --depth 1 https://github.com/rhasspy/dataset-voice-flemishguy data/flemishguy-audio": "fetches speech",
    "git clone --depth 1 https://github.com/Jakobovski/free-spoken-digit-dataset data/digits-audio": "fetches speech",
    "wavenet bench": "takes minutes; test_cli.py runs it on a small model",
    "wavenet bench --train": "takes minutes; test_train_benchmark.py measures small cases",
    "wavenet COMMAND --help": "test_cli.py",
    "python recipes/prompts/fetch.py data/prompts-audio": "fetches packages",
    "wavenet copy runs/vocoder/model.safetensors data/prompts --speaker en --limit 20 --temperature 0.9 "
    "--recogniser 'python recipes/prompts/recognise.py'": "needs a speech recogniser; test_cli.py has one of its own",
    "python samples/speech/choose.py data/prompts-audio samples/speech": "needs the whole corpus",
    "torchrun --nproc-per-node 8 -m wavenet train recipes/ljspeech/ljspeech.toml --resume": "test_distributed.py, on 2",
    "srun torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-id $SLURM_JOB_ID --rdzv-endpoint "
    '"$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500" '
    "-m wavenet train recipes/ljspeech/ljspeech.toml --resume": "wants a cluster",
}
"""Commands that are not run here, and who runs them or why nobody does."""


def commands(page: Path) -> Iterator[str]:
    """The commands of a page, in their order: lines of its blocks, and what stands between ticks with an argument."""
    starts = r"(?:wavenet|python|make|pip|torchrun)\s"
    for match in re.finditer(rf"^    ([^#\s][^\n]*)|`(?:time )?({starts}[^`]+)`", prose(page), re.MULTILINE):
        line = match[1].removeprefix("time ") if match[1] else match[2]
        yield " ".join(line.split("  #")[0].split())


def prose(page: Path) -> str:
    """A page without its blocks of Python and TOML, each command on one line."""
    return re.sub(r"```.*?```", "", page.read_text("utf-8").replace("\\\n", " "), flags=re.DOTALL)


def runnable(page: Path) -> list[str]:
    """Those of them that are run here: no mere mentions of an option."""
    found = []
    for command in commands(page):
        mention = re.match(r"wavenet [a-z]+( --|$)", command) and "train" not in command
        if command not in ELSEWHERE and not mention and command not in found:
            found.append(command)
    return found


def test_every_command_is_run_here_or_known_to_be_elsewhere() -> None:
    named = {command for page in PAGES for command in commands(page)}
    assert set(ELSEWHERE) <= named, "no page names it any more"
    lines = [command for page in PAGES for command in runnable(page)]
    trained = {word for line in lines for word in re.findall(r"wavenet train (\S+)", line)}
    assert len(set(lines)) > 40
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("recipes/*/*.toml")} <= trained, "every recipe is trained"


BLOCKS = {page: re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL) for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCKS[page]], ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS[page]:
        exec(compile(block, page.name, "exec"), {})


def test_the_readme_is_short_and_its_python_stands_near_the_top() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 1200
    assert text[: text.index("```python")].count("\n") < 60, "within a screen and a half"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{target} is not there"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_have_the_flags_that_the_page_gives(wavenet, page: Path) -> None:
    used = {
        (words[1], flag)
        for words in (shlex.split(command) for command in commands(page) if command.startswith("wavenet "))
        for flag in words[2:]
        if re.fullmatch(r"--?[a-z][a-z-]*", flag)
    }
    for name in sorted({command for command, _ in used} - {"COMMAND"}):
        described = wavenet(name, "--help").out
        for command, flag in used:
            assert command != name or re.search(rf"(?<![\w-]){flag}(?![\w-])", described), f"{name} lacks {flag}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != ONNX], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_run(wavenet, small_copy: Path, page: Path) -> None:
    run_commands(wavenet, page)


@torch.no_grad()
def test_commands_run_and_the_shipped_model_that_they_export_makes_the_same_classes_in_onnxruntime(
    wavenet, small_copy: Path
) -> None:
    """Both in one test, because the export takes long."""
    run_commands(wavenet, ONNX)
    model = WaveNet.from_pretrained("prompts")
    export = Export(model, small_copy / "prompts-onnx")
    uniforms = torch.rand(1, 500, generator=torch.Generator().manual_seed(0))
    expected, _ = IncrementalEngine(model, 1).run(uniforms, SamplingOptions())
    parameters = by_turns(model, export.run, export.state, expected, Conditioning())
    classes = model.distribution.sample(parameters[0].T, uniforms[0], SamplingOptions())
    assert torch.equal(classes, expected[0])


def run_commands(wavenet, page: Path) -> None:
    lines = runnable(page)
    if not any(line.startswith("wavenet prepare data/prompts-audio data/prompts") for line in lines):
        assert wavenet("prepare", "data/prompts-audio", "data/prompts", "--speakers", "--held-out", 0.5).status == 0
    for line in lines:
        words, reader = shortened(line)
        if words[0] == "wavenet" and not reader:
            result = wavenet(*words[1:])
            assert result.status == 0, f"{line}\n{result.err}"
        else:
            program = [sys.executable, "-m", *words] if words[0] == "wavenet" else words
            script = f"{shlex.join(program)} | {reader}" if reader else shlex.join(program)
            done = subprocess.run(script, shell=True, capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stderr[:4000]}\n...\n{done.stderr[-1000:]}"


def shortened(line: str) -> tuple[list[str], str]:
    """A command's words, with what makes it short, and what its output is piped into."""
    line, _, reader = (" ".join(MEANT.get(word, word) for word in line.split())).partition(" | ")
    words = shlex.split(line)
    name = "train" if "train" in words else words[1]
    words += shlex.split(SHORT.get(name, ""))
    if name == "prepare" and not {"samples/speech", "sc09", "--held-out"} & set(words):  # their splits will do
        words += ["--held-out", "0.5"]
    return words, reader


@pytest.fixture
def small_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipes and samples, and a second or so of speech wherever the pages want a corpus or a recording."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copytree(ROOT / "samples", tmp_path / "samples", ignore=shutil.ignore_patterns("*.flac", "*.wav", "*.jsonl"))
    (tmp_path / "samples" / "audio").mkdir(exist_ok=True)
    sources = sorted((ROOT / "samples" / "speech" / "en").glob("*.flac"))[:12]
    goodbye = ROOT / "samples" / "speech" / "en" / "demo-thanks.flac"
    for source in sources:
        _put(source, tmp_path / "samples" / "speech" / "en" / source.name)
    for source in (goodbye, goodbye.with_name("confbridge-mute-extended.flac")):
        _put(source, tmp_path / "samples" / "speech" / "en" / source.name, seconds=2.2)
    for voice in ("en", "es", "fr", "it", "ru"):
        for source in sources[:8]:
            _put(source, tmp_path / "data" / "prompts-audio" / voice / source.name)
            _put(source, tmp_path / "recordings" / voice / source.with_suffix(".wav").name)
    for name in ("speech.wav", "recording.wav"):
        _put(goodbye, tmp_path / name)
    _put_corpora(sources, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _put(source: Path, path: Path, rate: int = 16000, seconds: float = 1.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, _ = soundfile.read(source)
    soundfile.write(path, samples[4000 : 4000 + int(seconds * 16000)], rate)


def _put_corpora(sources: list[Path], data: Path) -> None:
    """Each corpus as its archive unpacks, of a dozen clips."""
    lines, digits = [], data / "SpeechCommands" / "SpeechCommands" / "speech_commands_v0.02"
    vctk = data / "VCTK" / "VCTK-Corpus-0.92"
    for index, source in enumerate(sources):
        name = f"LJ001-{index:04}"
        lines.append(f"{name}|A text|A text")
        _put(source, data / "LJSpeech" / "LJSpeech-1.1" / "wavs" / f"{name}.wav", 22050)
        voice = ("p225", "p226")[index % 2]
        _put(
            source,
            vctk / "wav48_silence_trimmed" / voice / f"{voice}_{index:03}_mic2.flac",
            48000,
        )
        _put(source, digits / "one" / f"s{index}_nohash_0.wav", seconds=0.5)
        kathleen = data / "kathleen-audio" / "data" / f"arctic_a{index:04}_159274857{index}.wav"
        _put(source, kathleen, 48000)
        kathleen.with_suffix(".txt").write_text("A text.\n")
        _put(source, data / "nathalie-audio" / "verified" / f"nl_rhasspy_{index}.flac", 48000)
        _put(source, data / "kerstin-audio" / "verified" / f"de_rhasspy-{index:04}.flac", 48000)
        _put(source, data / "flemishguy-audio" / "wavs" / f"nl_rhasspy_{index}.wav", 24000)
        _put(source, data / "digits-audio" / "recordings" / f"{index // 6}_theo_{index % 6}.wav", 8000, seconds=0.5)
    for speaker, names in (
        ("nathalie", "nl_rhasspy_{}"),
        ("flemishguy", "nl_rhasspy_{}"),
        ("kerstin", "de_rhasspy-{:04}"),
    ):
        rows = "".join(f"{names.format(index)}|A text.\n" for index in range(len(sources)))
        (data / f"{speaker}-audio" / "metadata.csv").write_text(rows)
    (data / "LJSpeech" / "LJSpeech-1.1" / "metadata.csv").write_text("\n".join(lines) + "\n")
    (vctk / "txt").mkdir()
    (digits / "validation_list.txt").write_text("one/s0_nohash_0.wav\n")
    (digits / "testing_list.txt").write_text("one/s1_nohash_0.wav\n")
