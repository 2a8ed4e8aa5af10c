"""The shipped models: found by name, and what is said of them."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import small_config
from wavenet import ShippedModel, WaveNet, shipped_models
from wavenet.reporting import Subject

ROOT = Path(__file__).parent.parent
SHIPPED = shipped_models()
each_model = pytest.mark.parametrize("model", SHIPPED.values(), ids=list(SHIPPED))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not the root of the clone."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@each_model
def test_every_model_loads_by_name_and_is_what_its_facts_say(model: ShippedModel, elsewhere: Path) -> None:
    loaded, same = WaveNet.from_pretrained(model.name), WaveNet.from_pretrained(model.path)
    assert all(torch.equal(tensor, same.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.config.sample_rate == model.sample_rate
    assert model.size == model.path.stat().st_size


@each_model
def test_figures_and_licences_stand_on_the_page_that_the_facts_name(model: ShippedModel) -> None:
    page = (ROOT / model.page).read_text("utf-8")
    for told in re.findall(r"\d+\.\d+", model.figures) + re.findall(r"CC [A-Z-]+ \d\.\d", model.licence):
        assert told in page, f"{told} is not in {model.page}"


def test_the_babblers_figures_are_those_of_its_evaluation() -> None:
    scored = json.loads((ROOT / "samples" / "models" / "prompts.json").read_text())
    page = (ROOT / "recipes" / "prompts" / "README.md").read_text()
    for row in scored["speakers"]:
        assert f"| **{row['bits']:.3f}** | {row['linear_prediction']:.3f} |" in page
    assert f"**{scored['bits']:.3f} bits per sample**" in (ROOT / "README.md").read_text()
    assert SHIPPED["prompts"].figures.startswith(f"{scored['bits']:.3f} held-out bits")


@each_model
def test_examples_run(model: ShippedModel, wavenet, elsewhere: Path) -> None:
    shutil.copy(ROOT / "samples" / "audio" / "copy.wav", "speech.wav")
    assert wavenet(*shlex.split(model.example)[1:], "--seconds", 0.02).status == 0


def test_models_are_listed(wavenet) -> None:
    lines = wavenet("models").out.splitlines()
    assert [line.split(":")[0] for line in lines if re.match(r"\w", line)] == list(SHIPPED)
    assert all(len(line) < 80 for line in lines if not line.startswith("  try "))
    found = json.loads(wavenet("models", "--json").out)
    assert [(one["name"], one["size"]) for one in found] == [(one.name, one.size) for one in SHIPPED.values()]


def test_a_file_or_a_run_of_that_name_comes_first_and_other_folders_do_not(elsewhere: Path) -> None:
    shipped = WaveNet.from_pretrained("prompts").config
    Path("prompts").mkdir()
    assert WaveNet.from_pretrained("prompts").config == shipped, "recordings may lie in a folder of that name"
    WaveNet(small_config()).save_pretrained("prompts/model.safetensors")
    with pytest.raises(ValueError, match=r"prompts is a folder .*such as prompts/model\.safetensors"):
        WaveNet.from_pretrained("prompts")
    shutil.move("prompts/model.safetensors", "vocoder")
    assert WaveNet.from_pretrained("vocoder").config == WaveNet.from_pretrained(Path("./vocoder")).config
    assert WaveNet.from_pretrained("vocoder").config == small_config()


def test_unknown_names_and_paths_are_one_line(wavenet, elsewhere: Path) -> None:
    names = "nor a shipped model: digits, prompts, speakers, vocoder"
    for command in (("inspect",), ("generate", "-o", "out.wav"), ("report", "-o", "out.html"), ("bench",)):
        wavenet(command[0], "vocodr", *command[1:]).fails_with("vocodr: no such model file", names)
    with pytest.raises(FileNotFoundError, match=f"prompts.safetensors: no such model file, {names}"):
        WaveNet.from_pretrained("prompts.safetensors")
    with pytest.raises(FileNotFoundError, match=r"runs/vocoder: no such model file$"):
        WaveNet.from_pretrained("runs/vocoder")


def test_a_report_on_a_name_has_the_metrics_of_its_training(elsewhere: Path) -> None:
    subject = Subject.open(Path("speakers"))
    assert subject.name == "speakers"
    assert len(subject.metrics) > 10
