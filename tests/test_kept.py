"""What an earlier version wrote is read as it is, with the results of that time (tests/kept/README.md)."""

import hashlib
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavenet import PreparedDataset, WaveNet, generate, read_audio, score_symbols
from wavenet.data import resample
from wavenet.training import from_recipe, load_recipe, train

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "tests" / "kept"
ARRAYS = np.load(KEPT / "models" / "expected.npz")


def still_shipped(case: dict[str, Any]) -> bool:
    """A shipped model that was trained again has other audio: its case belongs to the file of that time."""
    file = ROOT / case["folder"] / case["model"]
    return "sha256" not in case or hashlib.sha256(file.read_bytes()).hexdigest() == case["sha256"]


CASES = json.loads((KEPT / "models" / "expected.json").read_text("utf-8"))["cases"]
CASES = {name: case for name, case in CASES.items() if still_shipped(case)}
assert len(CASES) >= 14, "those whose models lie in tests/kept never change"


def recording(path: str, rate: int) -> Tensor:
    waveform, source_rate = read_audio(ROOT / path)
    return resample(waveform, source_rate, rate).clamp(-1, 1)


@pytest.mark.parametrize("name", CASES)
def test_a_kept_model_makes_the_audio_of_its_time(name: str) -> None:
    case = CASES[name]
    model = WaveNet.from_pretrained(ROOT / case["folder"] / case["model"]).double()
    rate = model.config.sample_rate
    speaker = torch.tensor(case["speaker_vector"], dtype=torch.float64) if case["speaker_vector"] else case["speaker"]
    features = torch.from_numpy(ARRAYS[case["features"]]).double() if case["features"] else None
    if case["features_from"]:
        features = model.log_mel(recording(case["features_from"], rate).double()[None])[0][:, case["first_frame"] :]
    prime = torch.from_numpy(ARRAYS[case["prime"]]) if case["prime"] else None
    if case["prime_from"]:
        prime = recording(case["prime_from"], rate)[: case["prime_samples"]]
    settings = {key: case[key] for key in ("seed", "temperature", "top_k", "top_p")}
    given = {"speaker": speaker, "features": features}
    audio = generate(model, case["samples"], **given, prime=prime, engine="incremental", **settings)

    symbols = torch.from_numpy(ARRAYS[f"{name}/symbols"].astype(np.int64))[None]
    before = torch.zeros(1, 0, dtype=torch.long) if prime is None else model.encode(prime[None])
    expected = model.decode(torch.cat([before, symbols], dim=1))[:, before.shape[1] :].clamp(-1, 1)
    assert torch.allclose(audio, expected, rtol=0, atol=1e-6)

    whole = torch.cat([before, symbols], dim=1)
    scores = score_symbols(model, whole, model.condition(1, **given)).log_probs[0, -case["samples"] :]
    # µ-law decoding is in float32: its last bit differs between processors, which was seen to move scores by 6e-5
    np.testing.assert_allclose(scores[:: case["scored_every"]], ARRAYS[f"{name}/log_probs"], atol=1e-3)


def test_a_kept_dataset_is_read() -> None:
    dataset = PreparedDataset(KEPT / "dataset")
    expected = json.loads((KEPT / "dataset-expected.json").read_text("utf-8"))
    assert dataset.sample_rate == expected["sample_rate"]
    assert len(dataset.clips) == len(expected["clips"])
    for clip, known in zip(dataset.clips, expected["clips"], strict=True):
        samples = (clip.read() * 32768).to(torch.int16).numpy().astype("<i2")
        assert zlib.crc32(samples.tobytes()) == known["crc32"]
        assert (clip.name, clip.split, clip.text) == (known["name"], known["split"], known["text"])
        assert clip.labels == {"speaker": known["speaker"]}


EXPECTED_RECIPES = json.loads((KEPT / "recipes-expected.json").read_text("utf-8"))


@pytest.mark.parametrize("name", EXPECTED_RECIPES)
def test_a_kept_recipe_is_read_or_its_error_says_the_new_name(name: str, tmp_path: Path) -> None:
    text, expected = (KEPT / "recipes" / name).read_text("utf-8"), EXPECTED_RECIPES[name]
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    if "\nvoices = " in text:
        with pytest.raises(ValueError, match=r"train\.voices .*train\.speakers"):
            load_recipe(path)
        path.write_text(text.replace("\nvoices = ", "\nspeakers = "))
    expected["train"]["speakers"] = expected["train"].pop("voices")
    newer = {"augmentation": None, "listen": 0}  # keys that came later are off
    expected["train"] |= newer
    expected["model"] |= {"labels": {}, "timed_labels": None}
    expected["model"]["conditioning"] |= {"projection": "samples"}
    assert json.loads(json.dumps(load_recipe(path).to_dict())) == expected


def test_a_kept_run_goes_on_to_the_end_it_had(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(KEPT / "run", run)
    text = (run / "recipe.toml").read_text("utf-8").replace("\nvoices = ", "\nspeakers = ")
    (run / "recipe.toml").write_text(text)
    recipe = load_recipe(run / "recipe.toml", [f"dataset={KEPT / 'dataset'}", f"run={run}"])
    assert train(from_recipe(recipe), run, recipe=recipe, resume=True)
    resumed, uninterrupted = (
        WaveNet.from_pretrained(path) for path in (run / "model.safetensors", KEPT / "run-expected.safetensors")
    )
    assert resumed.config == uninterrupted.config
    for ours, theirs in zip(resumed.parameters(), uninterrupted.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)  # rounding differs between processors
